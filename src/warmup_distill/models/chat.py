"""From what a person asks to token ids, and from completion ids to what a person reads."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from warmup_distill.errors import ModelError, RecipeError
from warmup_distill.models.endings import continued
from warmup_distill.models.limits import objection
from warmup_distill.models.renderer import PROBE, Format, Renderer


def try_template(tokenizer: Any) -> None:
    """Render probes by a chat template that came with a model, with limits.

    Whatever else is wrong with it is said when it is used.

    Raises:
        ModelError: it takes too much time or memory, or makes too much of little.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        return
    asked = [{"role": "user", "content": PROBE}]
    known = {**tokenizer.special_tokens_map, "add_generation_prompt": True}
    questions = [known | {"messages": list(turns)} for turns in (asked, *continued(asked))]
    if why := objection(str(template), json.dumps(questions, default=str)):
        raise ModelError(
            f"the chat template of {tokenizer.name_or_path} is not safe to use: {why}. Look at it, "
            "and give the tokenizer another one."
        )


def encode_prompt(tokenizer: Any, text: str, format: Format) -> list[int]:
    """Ids of a prompt, put to a model with nothing but the text; see `Renderer.prompt`."""
    return Renderer(tokenizer=tokenizer, format=format).prompt(text)


def encode_reference(tokenizer: Any, text: str) -> list[int]:
    """Ids of a reference to a prompt in the tokenizer's own format; see `Renderer.reference`."""
    return Renderer.of(tokenizer).reference(text)


def decode_completion(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of a completion without special tokens. For people: never encode it again."""
    return str(tokenizer.decode(ids, skip_special_tokens=True))


def decode_prompt(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of a prompt with its template's special tokens."""
    return str(tokenizer.decode(ids, skip_special_tokens=False))


def require_same_rendering(student: Renderer, teacher: Renderer) -> None:
    """Both models must read a prompt as the same ids, and its answer end in the same token.

    Raises:
        ModelError: the two render a probe differently.
        RecipeError: a setting of the chat template has no effect on either.
    """
    prompts = [renderer.prompt(PROBE) for renderer in (student, teacher)]
    if prompts[0] != prompts[1]:
        shown = [decode_prompt(one.tokenizer, ids) for one, ids in
                 zip((student, teacher), prompts, strict=True)]  # fmt: skip
        raise ModelError(
            f"teacher and student render the same prompt differently: the student reads "
            f"{shown[0]!r}, the teacher {shown[1]!r}. Give both the same chat template, or say "
            "what their templates differ in by prompts.chat_template_kwargs, such as "
            "{date_string: 26 Jul 2024}."
        )
    ends = {renderer.ending.id for renderer in (student, teacher)} - {None}
    if len(ends) > 1:
        named = [one.tokenizer.decode([one.ending.id]) for one in (student, teacher)]
        raise ModelError(
            f"teacher and student end an assistant's turn differently: the student's chat template "
            f"writes {named[0]!r}, the teacher's {named[1]!r}. Give both the same chat template."
        )
    _require_effect(student, teacher)


def _require_effect(student: Renderer, teacher: Renderer) -> None:
    """Every setting of the chat templates must change something."""
    both = {"student": student, "teacher": teacher}
    templates = " ".join(str(one.tokenizer.chat_template) for one in both.values())
    for name in student.template_kwargs:
        if not re.search(rf"\b{re.escape(name)}\b", templates):
            raise RecipeError(
                f"prompts.chat_template_kwargs.{name} has no effect: neither chat template reads "
                "it. Look at the spelling, or leave it out."
            )
    for role, one in both.items():
        if one.system is not None and _leaves_out_system(one):
            raise RecipeError(
                f"prompts.system has no effect: the {role}'s chat template leaves system messages "
                "out. Put the text into the prompts, or give the tokenizer another template."
            )


def _leaves_out_system(renderer: Renderer) -> bool:
    try:
        return renderer.prompt(PROBE) == replace(renderer, system=None).prompt(PROBE)
    except ModelError:  # the template demands one
        return False
