"""What strategies would have achieved on past tasks."""
