"""`python -m warmup_distill` is `warmup-distill`."""

from warmup_distill.cli.main import main

main()
