"""What past tasks tell of a new one."""
