"""What all benchmarks share: scripts, tables, looks, turns, tasks."""
