"""What a run costs, in units that do not depend on the machine: tokens and operations."""
