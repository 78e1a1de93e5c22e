"""What comes from outside: how it is read, and how it is shown."""
