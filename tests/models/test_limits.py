"""Chat templates that came with a model: tried elsewhere, rendered as transformers renders them."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from warmup_distill.models import limits, rendering
from warmup_distill.models.chat import PROBE
from warmup_distill.models.loading import load_tokenizer

QUESTION: dict[str, Any] = {
    "messages": [{"role": "user", "content": PROBE}],
    "add_generation_prompt": True,
    "bos_token": "<s>",
}

TEMPLATES = [
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content | trim }}\n{% endfor %}",
    "  {% if add_generation_prompt %}\n  yes\n  {% endif %}\n{{ messages | tojson(indent=2) }}",
    "{% generation %}a {{ messages[0].content }}{% endgeneration %}b",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% if i == 5 %}"
    "{% break %}{% endif %}{% endfor %}",
    "{{ strftime_now('%Y') }}{% set n = namespace(x=1) %}{% set n.x = 2 %}{{ n.x }}{{ dict(a=1) }}",
    "{{ tools is defined }}{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(documents is none) }}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_is_tried_as_transformers_renders_it(template: str) -> None:
    rest = {name: value for name, value in QUESTION.items() if name != "messages"}
    ((expected,), _) = render_jinja_template(
        conversations=[QUESTION["messages"]], chat_template=template, **rest
    )
    given = {**QUESTION, "tools": None, "documents": None}
    assert rendering.render(template, given) == expected


def objection(template: str, **question: Any) -> str | None:
    return limits.objection(template, json.dumps([QUESTION | question]))


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% set x = 3**(4*10**7) % 7 %}", "longer than 2"),  # in C, where no signal is heard
        ("{{ messages[0].content ~ 7**(7**9) }}", "longer than 2"),
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "longer",
        ),
        ("{{ 'a' * 2000000000 }}", "memory"),
        ("{{ 'a' | center(10**11) }}", "memory"),
        ("{{ '%99999999999d' % 1 }}", "memory"),
        ("{{ 'a b ' * 50000 }}", "200,000 characters"),
        ("{# " + "x" * 2**20 + " #}", "characters itself"),
    ],
)
def test_a_template_that_takes_too_much_is_stopped(
    template: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SECONDS", 2)
    began = time.perf_counter()
    assert why in str(objection(template))
    assert time.perf_counter() - began < 20  # and not the minute that the first would take


@pytest.mark.parametrize(
    "template",
    [
        "", "{{ raise_exception('no system message') }}", "{{", "{{ nothing.at.all }}",
        "{{" + "(" * 50_000, "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ 1/0 }}",
        *TEMPLATES,
    ],
)  # fmt: skip
def test_a_template_that_fails_by_itself_is_no_danger(template: str) -> None:
    assert objection(template) is None


def test_of_several_questions_each_is_tried() -> None:
    template = "{{ 'a' * (200000 if messages[0].role == 'system' else 1) }}"
    asked = [QUESTION, {"messages": [{"role": "system", "content": "x"}]}]
    assert objection(template) is None
    assert "200,000" in str(limits.objection(template, json.dumps(asked)))


def test_a_template_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    load_tokenizer("bundled:student")
    monkeypatch.setattr(limits.subprocess, "run", None)  # whoever calls it now fails
    load_tokenizer("bundled:student")
    load_tokenizer("bundled:teacher")  # with the same template


def test_the_program_that_tries_templates_needs_nothing_of_ours() -> None:
    source = Path(rendering.__file__).read_text(encoding="utf-8")
    assert "warmup_distill" not in source and "from transformers" not in source
