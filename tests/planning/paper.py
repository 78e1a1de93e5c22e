"""The paper's pair of models by their public shapes, with nothing that has to be loaded."""

from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.planning.facts import DataFacts, Facts, ModelFacts
from warmup_distill.records import Prompt

TEACHER = ModelFacts(
    name="Qwen2.5-7B", kind="qwen2", parameters=7_615_616_512, multiplied=7_070_619_136,
    body=6_525_288_448, head=544_997_376, ends=1_901_068_288, attention_width=3584,
    layers=28, width=3584, inner_width=18944, cache_numbers=28_672, head_rows=152_064,
    context=32_768, path="token tree",
)  # fmt: skip
STUDENT = ModelFacts(
    name="Qwen2.5-1.5B", kind="qwen2", parameters=1_543_714_304, multiplied=1_543_714_304,
    body=1_310_195_712, head=233_373_696, ends=385_351_680, attention_width=1536,
    layers=28, width=1536, inner_width=8960, cache_numbers=14_336, head_rows=151_936,
    context=32_768, path="token tree",
)  # fmt: skip


def prompts(count: int, tokens: int) -> DataFacts:
    return DataFacts(
        origin="made up",
        dropped=0,
        prompts=[
            Prompt(prompt_id=str(number), prompt_ids=[1] * tokens, text="", reference="", answer="")
            for number in range(count)
        ],
    )


def facts(count: int = 7_473, tokens: int = 90) -> Facts:
    """Facts of a run on as many prompts as GSM8K has, or others."""
    vocabulary = Vocabulary(size=151_665, eos_ids=frozenset({151_645}), pad_id=151_643)
    data = prompts(count, tokens)
    return Facts(teacher=TEACHER, student=STUDENT, vocabulary=vocabulary, data=data)
