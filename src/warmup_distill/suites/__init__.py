"""The seven benchmarks of the field, each with its prompts, its decoding and its metrics."""
