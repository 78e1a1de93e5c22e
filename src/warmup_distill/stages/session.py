"""What the stages of one run share in memory: its folder, its recipe, and models loaded once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from warmup_distill.cluster.places import Here, Place
from warmup_distill.engines.batching import Batching, Chosen
from warmup_distill.engines.fitting import Texts, choose, choose_row, sizes_named
from warmup_distill.engines.paths import path_ahead
from warmup_distill.ledger.costs import Cost
from warmup_distill.ledger.counting import Role
from warmup_distill.models.chat import require_same_rendering
from warmup_distill.models.holding import ModelRef
from warmup_distill.models.loading import (
    causal_config,
    context_of,
    dtype_named,
    identity,
    load_config,
    load_generation_config,
    load_tokenizer,
    locate,
)
from warmup_distill.models.renderer import Renderer
from warmup_distill.models.saving import save_model
from warmup_distill.models.sizes import Sizes
from warmup_distill.models.vocabulary import Vocabulary, shared_vocabulary
from warmup_distill.models.weights import stored_dtype
from warmup_distill.recipe import Recipe, TrainSection
from warmup_distill.recipe.batches import holders
from warmup_distill.recipe.section import TokenCount
from warmup_distill.store.fingerprints import contents, fingerprints
from warmup_distill.store.manifest import Manifest


class Session:
    """Tokenizer, vocabulary and teacher of a run, loaded when first needed and kept.

    Args:
        place: where parts are computed; this process if absent.
        others: run directories that may have what this one needs.
        bounds: see `training.watch.Watched`.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        place: Place | None = None,
        others: Sequence[Path] = (),
        bounds: Mapping[int, float] | None = None,
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.place = place or Here()
        self.others = others
        self.bounds = bounds or {}

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """What each stage depends on, as it was when the run directory was opened."""
        return fingerprints(self.recipe, self.contents)

    @cached_property
    def contents(self) -> dict[str, str | None]:
        """What the recipe's files and models held when the run directory was opened."""
        return contents(self.recipe, identity)

    def origin(self, stage: str, start: str) -> dict[str, str]:
        """What a training comes from, besides its settings and its rows.

        Args:
            start: the model that it starts with, by name or folder.
        """
        return {
            "stage": stage,
            "start": identity(start),
            "teacher": identity(self.recipe.teacher),
            "recipe": self.fingerprints[stage],
        }

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of teacher and student, found to be one and the same."""
        return self.renderer.tokenizer

    @cached_property
    def renderer(self) -> Renderer:
        """How texts are put to both models, found to be one and the same way."""
        student, teacher = self._renderers
        require_same_rendering(student, teacher)
        return student

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What both models' logits are cut to."""
        names = {"student": self.recipe.student, "teacher": self.recipe.teacher}
        return shared_vocabulary(
            *self._renderers,
            {role: load_config(name) for role, name in names.items()},
            [load_generation_config(name) for name in names.values()],
        )

    def require_one_vocabulary(self) -> None:
        """Raise a ModelError unless both models read the same tokens and the same prompts."""
        for read in ("vocabulary", "tokenizer"):  # each holds both models to one another
            getattr(self, read)

    @cached_property
    def context(self) -> int:
        """Tokens that both models can read."""
        names = self.recipe.student, self.recipe.teacher
        return min(context_of(load_config(name)) for name in names)

    def ref(self, name: str) -> ModelRef:
        """A model of the run as it is now, in the dtype of the recipe."""
        return ModelRef.of(name, self.recipe.dtype)

    @property
    def teacher_ref(self) -> ModelRef:
        """The teacher, to be loaded where it is needed."""
        recipe = self.recipe
        dtype = recipe.teacher_dtype or recipe.dtype
        return ModelRef.of(recipe.teacher, dtype, recipe.teacher_device_map)

    def batching(
        self, stage: str, asked: TokenCount, models: Sequence[ModelRef], texts: Texts
    ) -> Batching:
        """The tokens at once of a stage: as its manifest says, if it has been begun before.

        Args:
            models: that are in memory together.
            texts: at the longest.
        """
        choosing = partial(choose, asked, self.place, models, texts)
        return self._settled(stage, "batch_tokens", asked, choosing)

    def row_tokens(
        self, stage: str, section: TrainSection, start: str, others: Sequence[ModelRef]
    ) -> int:
        """Tokens of a training's forward pass at the most: as many as fit, the first time.

        Args:
            start: the model that is trained, by name or folder.
            others: that are in memory besides.
        """
        shared = holders(self.recipe, section)
        choosing = partial(choose_row, section, self.place, self.ref(start), others, shared)
        return self._settled(stage, "row_tokens", section.row_tokens, choosing).chosen.tokens

    @cached_property
    def sizes(self) -> dict[Role, Sizes]:
        """Of student and teacher; the student must be there, if it was cut."""
        return {role: sizes_named(name) for role, name in self._models.items()}

    @cached_property
    def apart(self) -> frozenset[Role]:
        """The models that share nothing between sequences: those that take the plain path."""
        paths = {role: path_ahead(causal_config(name)) for role, name in self._models.items()}
        return frozenset(role for role, path in paths.items() if path and path.why is not None)

    @property
    def _models(self) -> dict[Role, str]:
        return {"student": self.student_name, "teacher": self.recipe.teacher}

    def save(self, model: PreTrainedModel, stage: str) -> None:
        """Write a model to the folder of a stage."""
        kept = self.vocabulary, self.saved_dtype
        save_model(model, self.tokenizer, self.folder / stage, *kept)

    def charge(self, stage: str, costs: Iterable[Cost], uses: Iterable[str] = ()) -> None:
        """Write down in the manifest what a stage cost, and the stages that it goes on from."""
        Manifest(self.folder).charge(stage, map(asdict, costs), uses)

    @property
    def student_stages(self) -> list[str]:
        """The stages that made the student that the warm-up begins with."""
        return ["cut"] if self.recipe.cut else []

    def _settled(
        self, stage: str, name: str, asked: TokenCount, choosing: Callable[[], Chosen]
    ) -> Batching:
        """What the manifest has under this name, or what is chosen now, which it then has."""
        manifest = Manifest(self.folder)
        keep = partial(manifest.note, stage, name)
        known = Chosen.known(manifest.noted(stage, name), asked)
        chosen = known or choosing()
        if known is None:
            keep(asdict(chosen))
        return Batching(chosen, keep)

    @property
    def teacher(self) -> PreTrainedModel:
        """The teacher in this process, and no other model that was held."""
        (model,) = self.place.held.take(self.teacher_ref)
        return model

    @cached_property
    def _renderers(self) -> tuple[Renderer, Renderer]:
        return self._renderer(self.recipe.student), self._renderer(self.recipe.teacher)

    def _renderer(self, name: str) -> Renderer:
        prompts = self.recipe.prompts
        return Renderer(
            tokenizer=load_tokenizer(name),
            format=prompts.format,
            system=prompts.system,
            template_kwargs=prompts.chat_template_kwargs,
        )

    @cached_property
    def saved_dtype(self) -> torch.dtype:
        """Of the weights that the run saves."""
        if self.recipe.save_dtype != "source":
            return dtype_named(self.recipe.save_dtype)
        where = Path(locate(self.recipe.student))
        if where.is_dir():
            return stored_dtype(where)
        stored = load_config(self.recipe.student).dtype
        return stored if isinstance(stored, torch.dtype) else torch.float32

    @property
    def student_name(self) -> str:
        """The student before the warm-up: as the recipe names it, or as `cut` made it."""
        return str(self.folder / "cut") if self.recipe.cut else self.recipe.student
