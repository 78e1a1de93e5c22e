"""What models are compared by: six numbers with their names, units and directions.

The page, the terminal and the sentences take words and digits from here, so that they agree.
"""

from dataclasses import dataclass

from warmup_distill.page.words import decimal


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One column of the table."""

    key: str
    """Field of `TableRow`, and name in report.json."""
    heading: str
    """For a narrow table."""
    title: str
    """For a wide one."""
    phrase: str
    """In a sentence."""
    unit: str = "nats/token"
    digits: int = 3
    scale: float = 1.0
    """From the value to what is shown."""
    sign: str = ""
    """Stands after a value, not after a difference."""
    higher_is_better: bool = False
    largest: float | None = None
    """How much a bounded value can change."""

    @property
    def is_score(self) -> bool:
        """Whether it says how good the answers are, and not how far from the teacher's they are."""
        return self.higher_is_better

    def show(self, value: float | None) -> str:
        """A value as every place shows it; a dash where there is none."""
        if value is None:
            return "–"
        return decimal(self.scale * value, self.digits) + self.sign

    def show_change(self, change: float | None) -> str:
        """A difference of two values, with its sign; of shares in points."""
        if change is None:
            return "–"
        return decimal(self.scale * change, self.digits, sign=True)


MEASURES = (
    Measure(
        key="greedy", heading="greedy", title="greedy", phrase="the greedy score",
        unit="points", digits=1, higher_is_better=True, largest=100,
    ),
    Measure(
        key="sampled", heading="sampled", title="sampled at temperature 1",
        phrase="the sampled score", unit="points", digits=1, higher_is_better=True, largest=100,
    ),
    Measure(
        key="mismatch_share", heading="mismatch", title="samples with a mismatch",
        phrase="mismatches", unit="points", digits=1, scale=100, sign="%", largest=1,
    ),
    Measure(key="mean_margin", heading="margin", title="mean margin", phrase="margin"),
    Measure(
        key="forward_kl", heading="KL(t‖m)", title="KL(teacher ‖ model)",
        phrase="KL(teacher ‖ model)",
    ),
    Measure(
        key="reverse_kl", heading="KL(m‖t)", title="KL(model ‖ teacher)",
        phrase="KL(model ‖ teacher)",
    ),
)  # fmt: skip
"""In the order of the table. Distances are smaller where a model is nearer to the teacher."""
