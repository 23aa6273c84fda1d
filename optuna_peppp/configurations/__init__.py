"""What may be chosen: formats, precisions and the space of configurations."""
