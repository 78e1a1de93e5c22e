"""`python -m warmup_distill` is `warmup-distill`."""

from warmup_distill.cli import main

main()
