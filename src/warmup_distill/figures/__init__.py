"""Figures for pages and papers: each is drawn once, and has its numbers beside it."""
