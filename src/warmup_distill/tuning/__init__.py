"""Finding the settings of a warm-up on prompts that are held out of it."""
