"""Numbers in low precision: formats, rounding, and what is rounded where."""
