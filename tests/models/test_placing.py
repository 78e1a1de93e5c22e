"""A model that is spread over devices, or on another one than the student, gives the same numbers.

There is one device here. So weights are put off to the disk or to the main memory by accelerate's
hooks, which is what holds a spread model together; and a second device is acted (`two_devices`).
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from conftest import random_model
from test_training import ROWS, distill_trainer
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from two_devices import HERE, THERE, TwoDevices, elsewhere

from warmup_distill.engines.paths import packed_model, path_of
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.errors import ModelError
from warmup_distill.models.placing import input_device, placed, stays_where_it_is
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.scoring.agreement import measure_distances
from warmup_distill.training.distill import collate_completions
from warmup_distill.training.given import require_one_device
from warmup_distill.tree.model import TreeModel
from warmup_distill.tree.pack import Pack
from warmup_distill.tree.plain import Habits, PlainModel

PROMPTS = [[5, 6, 7], [4], [10, 11, 12, 13]]
STREAMS = [[1, 2], [3, 4], [5, 6]]


def by_cpu(model: PreTrainedModel, folder: Path) -> Any:
    return cpu_offload(model, execution_device=HERE)


def by_disk(model: PreTrainedModel, folder: Path) -> Any:
    return disk_offload(model, str(folder / "offloaded"), execution_device=HERE)


def by_map(model: PreTrainedModel, folder: Path) -> Any:
    """As `device_map: auto` does where not all of it fits: one layer here, one on the disk."""
    model.save_pretrained(folder / "model")
    body = "transformer" if model.config.model_type == "gpt2" else "model"
    layers = "h" if body == "transformer" else "layers"
    named = {name: "cpu" for name, part in model.named_modules() if name.count(".") == 1}
    named = {name: where for name, where in named.items() if name != f"{body}.{layers}"}
    spread = {**named, f"{body}.{layers}.0": "cpu", f"{body}.{layers}.1": "disk", "lm_head": "cpu"}
    return AutoModelForCausalLM.from_pretrained(
        folder / "model", device_map=spread, offload_folder=str(folder / "map")
    )


@pytest.fixture(params=[by_cpu, by_disk, by_map])
def put_off(request: pytest.FixtureRequest) -> Callable[[PreTrainedModel, Path], Any]:
    found: Callable[[PreTrainedModel, Path], Any] = request.param
    return found


def states(packed: Any) -> tuple[Tensor, Tensor]:
    """Hidden states and logits of two sequences in one row."""
    ids, pack = torch.arange(4, 16), Pack([5, 7], HERE)
    with torch.inference_mode(), packed.following():
        hidden = packed.hidden(ids, pack)
        return hidden, packed.logits(hidden)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_a_model_that_is_put_off_gives_the_same_states_and_logits(
    kind: str, put_off: Any, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    there, whole = put_off(random_model(3, kind), tmp_path), random_model(3, kind)
    assert any(weights.is_meta for weights in there.parameters())
    assert str(path_of(there)) == "token tree"
    assert input_device(there) == HERE and stays_where_it_is(there)
    for make in (TreeModel, lambda *pair: PlainModel(*pair, Habits())):
        pairs = zip(states(make(there, vocabulary)), states(make(whole, vocabulary)), strict=True)
        assert all(ours.equal(theirs) for ours, theirs in pairs)


def roll_out(student: Any, teacher: Any, vocabulary: Vocabulary) -> Any:
    engine = TransformersEngine(student, teacher, vocabulary, 200)
    samples = engine.sample(PROMPTS, STREAMS, max_new_tokens=6, temperature=1.0)
    return samples, engine.check_and_continue(
        PROMPTS, samples, STREAMS,
        margin_threshold=1.0, max_new_tokens=6, temperature=1.0, stop_at_mismatch=False,
    )  # fmt: skip


def test_a_teacher_that_is_put_off_checks_and_continues_as_it_does_whole(
    put_off: Any, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    student, whole = random_model(1), random_model(2)
    there = put_off(random_model(2), tmp_path)
    found = roll_out(student, there, vocabulary)
    assert found == roll_out(student, whole, vocabulary)
    assert any(check.continuation for group in found[1] for check in group)


def test_a_teacher_on_another_device_is_given_and_gives_what_it_is_asked(
    vocabulary: Vocabulary,
) -> None:
    student, here, there = random_model(1), random_model(2), elsewhere(random_model(2))
    path_of(here)
    expected = roll_out(student, here, vocabulary)
    completions = [one.ids for group in expected[0] for one in group]
    prompts = [prompt for prompt in PROMPTS for _ in range(2)]

    def distances(teacher: Any) -> Any:
        pair = packed_model(student, vocabulary), packed_model(teacher, vocabulary)
        return measure_distances(*pair, prompts, completions, margin_threshold=1.0, batch_tokens=30)

    with TwoDevices():
        assert path_of(there) == path_of(here) and input_device(there) == THERE
        assert roll_out(student, there, vocabulary) == expected
        found = distances(there)
    assert found == distances(here)


@pytest.mark.parametrize("objective", ["forward_kl", "reverse_kl"])
def test_a_student_is_distilled_from_a_teacher_on_another_device(
    objective: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    batch, here = collate_completions(ROWS), random_model(2)
    there = stay(elsewhere(random_model(2)))
    losses, gradients = [], []
    for teacher in (here, there):
        path_of(random_model(1))
        with TwoDevices() if teacher is there else nullcontext():
            trainer = distill_trainer(
                vocabulary, tmp_path, (4, 1), teacher=teacher, objective=objective
            )
            loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.model.parameters()]))
    assert losses[0].equal(losses[1]) and gradients[0].equal(gradients[1])


def stay(model: Any) -> Any:
    """Marked as accelerate marks what may not be moved."""
    model.hf_device_map = {"model": 1, "lm_head": "cpu:1"}
    return model


def test_a_model_whose_layers_are_on_two_devices_gives_the_same_states(
    vocabulary: Vocabulary,
) -> None:
    whole, spread = random_model(3), random_model(3)
    for part in (spread.model.layers[1], spread.model.norm):
        elsewhere(add_hook_to_module(part, AlignDevicesHook(execution_device=THERE)))
    for part in (spread.model.layers[0], spread.lm_head):
        add_hook_to_module(part, AlignDevicesHook(execution_device=HERE))
    expected = states(TreeModel(whole, vocabulary))
    with TwoDevices():
        found = states(TreeModel(spread, vocabulary))
        assert [one.device for one in found] == [HERE, HERE]
    assert all(ours.equal(theirs) for ours, theirs in zip(found, expected, strict=True))


def test_a_spread_student_is_refused_and_a_spread_teacher_is_not_moved(tmp_path: Path) -> None:
    spread = by_map(random_model(1), tmp_path)
    with pytest.raises(ModelError, match="spread over several devices"):
        require_one_device(spread)
    assert placed(spread, THERE) is spread
    require_one_device(random_model(1))
