"""Two tokenizers that differ in special tokens nobody uses, and what that does to every number."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import VOCABULARY_SIZE, random_model
from datasets import Dataset
from test_training import ROWS, arguments
from test_vocabulary import TOKENS, share, tokenizer
from transformers import LlamaConfig

from warmup_distill.engines import paths
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.errors import ModelError
from warmup_distill.losses import DIVERGENCES
from warmup_distill.models.chat import require_same_rendering
from warmup_distill.models.loading import load_tokenizer
from warmup_distill.models.renderer import Renderer
from warmup_distill.models.vocabulary import NEVER, Vocabulary, shared_vocabulary
from warmup_distill.training.distill import DistillTrainer

STUDENT = {"<pad>": 0, "</s>": 1, "a": 2, "<reserved_1>": 3, "b": 4, "<mine>": 5}
TEACHER = {"<pad>": 0, "</s>": 1, "a": 2, "<tool_call>": 3, "b": 4}
BANNED = frozenset({0, 2, 3, 17, 39})


def test_special_tokens_that_nobody_writes_may_differ() -> None:
    """The renamed one is banned; the added one is cut off, and so the heads may be smaller."""
    for one, other in ((STUDENT, TEACHER), (TEACHER, STUDENT)):
        found = share(tokenizer(one), tokenizer(other), heads=(5, 8))
        assert (found.size, found.banned_ids, found.eos_ids) == (5, {3}, {1})


def test_an_end_that_is_not_the_same_token_for_both_is_none() -> None:
    assert share(tokenizer(STUDENT), tokenizer(TEACHER), (6, 6), eos=[1, 3, 5]).eos_ids == {1}


def test_padding_of_one_model_alone_is_not_given_to_the_other() -> None:
    student = tokenizer(STUDENT)
    student.pad_token = "<mine>"
    assert share(student, tokenizer(TEACHER), (6, 6)).pad_id == 1


def test_a_special_token_that_a_head_has_no_row_for_is_cut_off() -> None:
    """A padding token that was added to both tokenizers, and to no model."""
    found = share(tokenizer(TEACHER | {"<new>": 5}), tokenizer(TEACHER | {"<new>": 5}), (5, 9))
    assert (found.size, found.banned_ids) == (5, frozenset())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({**TOKENS, "c": 4}, r"id 4 is '\(nothing\)' for the student .* not special for both"),
        ({**TOKENS, "<c>": 3, "b": 4}, r"id 3 is 'b' for the student .* and '<c>' for the teach"),
    ],
)
def test_what_a_text_can_hold_must_be_the_same(other: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        share(tokenizer(TOKENS), tokenizer(other), (5, 5))


def test_an_end_of_sequence_must_be_the_same() -> None:
    other = {token: id_ for token, id_ in STUDENT.items() if id_ != 1} | {"<end>": 1}
    with pytest.raises(ModelError, match=r"id 1 is '</s>' .* completion ends with it"):
        share(tokenizer(STUDENT), tokenizer(other, eos="<end>"), (6, 6))


def test_a_token_that_a_chat_template_writes_must_be_the_same() -> None:
    student, teacher = (load_tokenizer("bundled:student") for _ in range(2))
    student.add_tokens("<|tools|>", special_tokens=True)
    teacher.add_tokens("<|reserved|>", special_tokens=True)
    silent = [Renderer(tokenizer=one) for one in (student, teacher)]
    require_same_rendering(*silent)
    assert share(student, teacher, (480, 480)).size == 479
    student.chat_template = "<|tools|>" + student.chat_template
    with pytest.raises(ModelError, match=r"id 479 is '<\|tools\|>' .* chat template writes it"):
        _share_chats(student, teacher)


def _share_chats(*tokenizers: Any) -> Vocabulary:
    renderers = [Renderer(tokenizer=one) for one in tokenizers]
    return shared_vocabulary(*renderers, {"student": LlamaConfig(vocab_size=480)}, [])


def loud(seed: int) -> Any:
    """A model that thinks of nothing but banned tokens."""
    model = random_model(seed)
    with torch.no_grad():
        model.get_output_embeddings().weight[sorted(BANNED)] *= 50.0
    return model


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 1.0, 1e6])
def test_a_banned_token_is_drawn_at_no_temperature(
    temperature: float, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setattr("warmup_distill.engines.paths._find", _plain)
    vocabulary = Vocabulary(
        size=VOCABULARY_SIZE, eos_ids=frozenset({1}), pad_id=0, banned_ids=BANNED
    )
    student, teacher = loud(1), loud(2)
    engine = TransformersEngine(student, teacher, vocabulary, 512)
    prompts, streams = [[5, 6, 7], [8]], [list(range(20)), list(range(20, 40))]
    samples = engine.sample(prompts, streams, max_new_tokens=12, temperature=temperature)
    checks = engine.check_and_continue(
        prompts, samples, streams, margin_threshold=0.5, max_new_tokens=12,
        temperature=temperature, stop_at_mismatch=False,
    )  # fmt: skip
    kept = [i for i in range(VOCABULARY_SIZE) if i not in BANNED]
    for prompt, group, found in zip(prompts, samples, checks, strict=True):
        for sample, check in zip(group, found, strict=True):
            assert not BANNED & {
                *sample.ids,
                *(check.continuation.ids if check.continuation else []),
            }
            expected = _logprobs_over(student, kept, prompt, sample.ids)
            torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=1e-4, rtol=0)
            expected = _logprobs_over(teacher, kept, prompt, sample.ids)
            checked = torch.tensor(check.teacher_logprobs)
            torch.testing.assert_close(checked, expected, atol=1e-4, rtol=0)
    assert any(check.continuation for group in checks for check in group)


def _plain(model: Any, ahead: Any) -> paths.Path:
    return paths.Path(why="as this test asks")


def _logprobs_over(
    model: Any, kept: list[int], prompt: list[int], completion: list[int]
) -> torch.Tensor:
    """Log-probabilities of a completion over some of the tokens, by the model's own forward."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1, kept]
    places = torch.tensor([kept.index(id_) for id_ in completion])
    return logits.log_softmax(-1).gather(-1, places[:, None])[:, 0]


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_divergence_is_that_of_the_other_tokens(name: str) -> None:
    """And no gradient reaches a banned one."""
    torch.manual_seed(0)
    kept = [i for i in range(VOCABULARY_SIZE) if i not in BANNED]
    few = torch.randn(2, 1, 6, len(kept))
    all_ = torch.full((2, 1, 6, VOCABULARY_SIZE), NEVER)
    all_[..., kept] = few
    values, gradients = [], []
    for logits in (few, all_):
        teacher, student = logits[0], logits[1].clone().requires_grad_()
        moving = {"t": 0.5} if name == "taid" else {}
        value = DIVERGENCES[name](teacher, student, torch.ones(1, 6).bool(), **moving)
        value.sum().backward()
        assert student.grad is not None
        values.append(value.detach())
        gradients.append(student.grad)
    torch.testing.assert_close(values[1], values[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradients[1][..., kept], gradients[0], atol=1e-4, rtol=1e-3)
    assert not gradients[1][..., sorted(BANNED)].any()


def test_a_student_is_distilled_over_the_other_tokens(tmp_path: Path) -> None:
    banned = Vocabulary(size=VOCABULARY_SIZE, eos_ids=frozenset({1}), pad_id=0,
                        banned_ids=BANNED - {1})  # fmt: skip
    trainer = DistillTrainer(
        model=loud(1), objective="sft", vocabulary=banned, args=arguments(tmp_path, 4, 1),
        train_dataset=Dataset.from_list([row for row in ROWS if not _uses(row)]),
    )  # fmt: skip
    found = trainer.evaluate(trainer.train_dataset)["eval_loss"]
    kept = [i for i in range(VOCABULARY_SIZE) if i not in banned.banned_ids]
    each = [
        _logprobs_over(loud(1), kept, row["prompt_ids"], row["completion_ids"])
        for row in trainer.train_dataset
    ]
    assert found == pytest.approx(-float(torch.cat(each).mean()), abs=1e-4)


def _uses(row: dict[str, list[int]]) -> bool:
    return bool(BANNED & set(row["completion_ids"]))
