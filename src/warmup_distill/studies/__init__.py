"""Studies: a recipe run with many settings and seeds, what they share made once, held together."""
