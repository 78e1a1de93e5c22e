"""How far models are from the teacher on their own samples, found batch by batch in any place."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from warmup_distill.cluster.places import Meter, Place
from warmup_distill.engines.fitting import MOST_IN_A_PASS
from warmup_distill.engines.paths import packed_model
from warmup_distill.models.holding import Held, ModelRef
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.scoring.agreement import Distance, measure_distances
from warmup_distill.tree.pack import batches_by_size


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Completions that a model drew, on which it is held to the teacher."""

    model: ModelRef
    teacher: ModelRef
    vocabulary: Vocabulary
    prompts: Sequence[list[int]]
    completions: Sequence[list[int]]
    margin_threshold: float
    max_new_tokens: int
    """Tokens of a completion at the most."""
    batch_tokens: int

    def batches(self) -> list[list[int]]:
        """Which completions, by number, are compared together."""
        pairs = zip(self.prompts, self.completions, strict=True)
        most = min(self.batch_tokens, MOST_IN_A_PASS)
        return batches_by_size([len(p) + len(c) for p, c in pairs], most)

    def of(self, numbers: Sequence[int]) -> "Comparison":
        """The same for some of the completions."""
        columns = (self.prompts, self.completions)
        prompts, completions = ([column[i] for i in numbers] for column in columns)
        return replace(self, prompts=prompts, completions=completions)


@dataclass(frozen=True)
class Comparing:
    """A task: the distances of one batch."""

    def __call__(self, item: Comparison, held: Held, meter: Meter) -> list[Distance]:
        model, teacher = held.take(item.model, item.teacher)
        found = measure_distances(
            packed_model(model, item.vocabulary),
            packed_model(teacher, item.vocabulary),
            item.prompts,
            item.completions,
            margin_threshold=item.margin_threshold,
            batch_tokens=item.batch_tokens,
            advance=meter.advance,
        )
        meter.settle(len(found) * item.max_new_tokens)
        return found


def compare(place: Place, wanted: Sequence[Comparison], meter: Meter) -> list[list[Distance]]:
    """For each comparison the distance of each of its completions."""
    batches = [(n, batch) for n, one in enumerate(wanted) for batch in one.batches()]
    items = [wanted[n].of(batch) for n, batch in batches]
    found: list[dict[int, Distance]] = [{} for _ in wanted]
    for place_in_line, distances in place.compute(Comparing(), items, meter):
        number, batch = batches[place_in_line]
        found[number] |= dict(zip(batch, distances, strict=True))
    return [[known[i] for i in range(len(known))] for known in found]
