"""What can be known before a run: faults, sizes, memory, disk and time."""
