"""Whether trainings hold the memory that was computed."""
