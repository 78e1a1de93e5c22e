"""Models and tokenizers: loading, cutting, saving; chat and vocabulary."""
