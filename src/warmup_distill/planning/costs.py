"""What one of each thing costs that a run does many times."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Costs:
    """One of each, all in the same unit: seconds of one worker, operations, or tokens."""

    drawing: float
    """Of a completion by the student."""
    checking: float
    """Of its check by the teacher."""
    continuing: float = 0.0
    """Of its continuation by the teacher; 0 where it was measured together with the check."""
    teaching: float = 0.0
    """Of a completion by the teacher."""
    pair: float
    """Of a pair in the warm-up."""
    row: float
    """Of a row in the distillation."""
    pairs_per_prompt: float


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens of one of each, at the most or in the mean."""

    prompt: float
    samples: int
    """Completions that share a prompt in the rollouts."""
    completion: float
    continuation: float
    """In the mean over all completions, also those that have none."""
    pair: float
    """What is run of a pair in the warm-up: its prompt, and both endings."""
    row: float
    pairs_per_prompt: float
