"""Rows in, prompts out."""
