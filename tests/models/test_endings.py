"""How a turn ends and what stays text: in every family's template, with every kind of token."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import AddedToken, GenerationConfig, LlamaConfig

from warmup_distill.errors import ModelError, RecipeError
from warmup_distill.models.chat import encode_prompt, encode_reference, require_same_rendering
from warmup_distill.models.exchange import completion_text, holds_control, prompt_text
from warmup_distill.models.loading import load_tokenizer
from warmup_distill.models.renderer import Renderer
from warmup_distill.models.vocabulary import shared_vocabulary

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant'"
    " else m.role) + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>'"
    " + '\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA2 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content | trim"
    " + ' [/INST]' }}{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
BARE = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
UNASKED = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}<|assistant|>"
UNASKED_CHATML = CHATML.replace("{% if add_generation_prompt %}", "{% if true %}")
HARMONY = (
    "{% for m in messages %}{{ '<|start|>' + m.role + '<|message|>' + m.content }}"
    "{% if m.role == 'assistant' and loop.last %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant<|message|>' }}{% endif %}"
)
ONE_TURN = "{% if messages | length > 2 %}{{ raise_exception('one turn') }}{% endif %}" + CHATML
SPECIAL = [
    "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "<|endoftext|>", "<|return|>", "<|start|>", "<|message|>",
    "<s>",
]  # fmt: skip


def tokenizer(template: str | None = None, special: bool = True) -> Any:
    """The bundled one with the tokens of these families; `eos_token` ends none of their turns."""
    made = load_tokenizer("bundled:student")
    made.add_tokens([AddedToken(token, special=special, normalized=False) for token in SPECIAL])
    made.eos_token, made.bos_token = "<|endoftext|>", "<s>"
    made.chat_template = template or made.chat_template
    return made


ENDS = [
    (CHATML, "36", "36<|im_end|>"),
    (CHATML, " 36\n", " 36\n<|im_end|>"),
    (GEMMA, "36", "36<end_of_turn>"),
    (GEMMA, " 36\n", "36<end_of_turn>"),
    (PHI3, "36", "36<|end|>"),
    (LLAMA3, "36 ", "36<|eot_id|>"),
    (LLAMA2, " 36 ", "36 <|endoftext|>"),
    (BARE, "36", "36<|endoftext|>"),
    (UNASKED, "36", "36<|endoftext|>"),
    (UNASKED_CHATML, "36", "36<|im_end|>"),
    (HARMONY, "36", "36<|return|>"),
    (ONE_TURN, "36", "36<|im_end|>"),
]


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(("template", "answer", "expected"), ENDS)
def test_a_reference_ends_as_the_template_ends_a_turn(
    template: str, answer: str, expected: str, special: bool
) -> None:
    made = tokenizer(template, special)
    assert made.decode(encode_reference(made, answer)) == expected


@pytest.mark.parametrize(("template", "answer", "expected"), ENDS)
def test_a_conversation_is_prompt_and_reference_one_after_the_other(
    template: str, answer: str, expected: str
) -> None:
    """What the template itself writes of both turns begins so, white space before it aside."""
    made = tokenizer(template)
    turns = [{"role": "user", "content": "12 + 24?"}, {"role": "assistant", "content": answer}]
    whole = made.apply_chat_template(turns, tokenize=False)
    prompt = made.decode(encode_prompt(made, "12 + 24?", "chat"))
    ours = prompt + made.decode(encode_reference(made, answer))
    if template not in (BARE, UNASKED):  # where nothing ends a turn, the tokenizer's does
        assert whole.replace("] 36", "]36").startswith(ours)


def test_plain_text_ends_as_the_tokenizer_says() -> None:
    made = tokenizer(CHATML)
    assert made.decode(Renderer(tokenizer=made, format="text").reference("36")) == (
        "36<|endoftext|>"
    )
    made.chat_template = None
    assert made.decode(encode_reference(made, "36")) == "36<|endoftext|>"


def test_a_reference_that_nothing_ends_is_refused() -> None:
    made = tokenizer(BARE)
    made.eos_token = None
    with pytest.raises(ModelError, match="needs an end-of-sequence token"):
        encode_reference(made, "36")


@pytest.mark.parametrize("format", ["chat", "text"])
def test_ends_are_those_of_template_tokenizer_and_generation_configuration(format: Any) -> None:
    made = tokenizer(CHATML)
    renderer = Renderer(tokenizer=made, format=format)
    head = {"model": LlamaConfig(vocab_size=len(made))}
    configs = [GenerationConfig(eos_token_id=[5, 6]), None]
    found = shared_vocabulary(renderer, renderer, head, configs)
    named = made.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert found.eos_ids == {*named, 5, 6}


def test_unlike_endings_are_refused_with_both() -> None:
    end = "('<|eot_id|>' if m.role == 'assistant' else '<|im_end|>')"
    other = CHATML.replace("+ '<|im_end|>\n'", f"+ {end} + '\n'")
    renderers = [Renderer(tokenizer=tokenizer(one)) for one in (CHATML, other)]
    with pytest.raises(ModelError, match=r"writes '<\|im_end\|>', the teacher's '<\|eot_id\|>'"):
        require_same_rendering(*renderers)


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("format", ["chat", "text"])
def test_control_tokens_in_references_and_plain_text_stay_text(format: Any, special: bool) -> None:
    made = tokenizer(CHATML, special)
    renderer = Renderer(tokenizer=made, format=format)
    if format == "text" and not special:
        return  # what is no special token and in no template is a word like others
    text = "In HTML, a<|im_end|>b <|endoftext|><|im_start|>user\n<|end|>"
    reference = renderer.reference(text)
    assert made.decode(reference[:-1]) == text
    control = set(made.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>", "<|end|>"]))
    assert not control & set(reference[:-1])
    prompt = renderer.prompt(text)
    nothing = renderer.prompt("x")
    assert [i for i in prompt if i in control] == [i for i in nothing if i in control]
    assert text in made.decode(prompt)


def test_words_that_were_added_to_a_tokenizer_stay_whole_in_references() -> None:
    """`<think>` is no control token: a reference that thinks is one that thinks."""
    made = tokenizer(CHATML)
    made.add_tokens(["<think>", "</think>"])
    ids = encode_reference(made, "<think>3 * 12</think>36")
    assert set(made.convert_tokens_to_ids(["<think>", "</think>"])) < set(ids)


@settings(max_examples=50, deadline=None)
@given(text=st.text() | st.lists(st.sampled_from([*SPECIAL, "<|end|>", " a", "\n"])).map("".join))
def test_any_text_comes_back_from_its_ids(text: str) -> None:
    for renderer in (CHAT, PLAIN):
        ids = renderer.reference(text)
        assert renderer.tokenizer.decode(ids[:-1]) == text
        added = renderer.tokenizer.added_tokens_decoder
        assert not added.keys() & set(ids[:-1]), "all of them are special"
    assert PLAIN.tokenizer.decode(PLAIN.prompt(text)) == f"<s>{text}"


def beginning(made: Any, *, eos: bool = False) -> Any:
    """The tokenizer, which now puts a beginning-of-sequence before every text by itself."""
    ids = [("<s>", made.bos_token_id), ("<|endoftext|>", made.eos_token_id)]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A <|endoftext|>" if eos else "<s> $A", special_tokens=ids
    )
    return made


CHAT = Renderer(tokenizer=tokenizer(CHATML))
PLAIN = Renderer(tokenizer=beginning(tokenizer()), format="text")


def test_a_prompt_in_plain_text_does_not_end_before_its_completion() -> None:
    made = beginning(tokenizer(), eos=True)
    assert made.decode(made("36")["input_ids"]) == "<s>36<|endoftext|>"  # it would
    assert made.decode(encode_prompt(made, "36", "text")) == "<s>36"


@pytest.mark.parametrize("adds", [True, False])
def test_text_for_other_programs_comes_back_to_the_same_ids(adds: bool) -> None:
    made = tokenizer(LLAMA3)
    made = beginning(made) if adds else made
    ids = encode_prompt(made, "12 + 24?", "chat")
    text = prompt_text(made, ids)
    assert text.startswith("<s>") != adds
    assert made(text)["input_ids"] == ids
    completion = encode_reference(made, "36")
    assert completion_text(made, completion) == "36<|eot_id|>"  # for `eos_token` is another one
    made.eos_token = "<|eot_id|>"
    assert completion_text(made, completion) == "36"
    assert holds_control(made, "a<|im_end|>b") and not holds_control(made, "a<b>")


class TestSettings:
    """What a recipe says to the chat templates."""

    DATED = "Today: {{ date_string if date_string is defined else DEFAULT }}\n" + CHATML

    def test_a_template_that_asks_the_clock_is_told_one_date(self) -> None:
        old, new = (
            tokenizer(self.DATED.replace("DEFAULT", default))
            for default in ("'26 Jul 2024'", "strftime_now('%d %b %Y')")
        )
        require_same_rendering(Renderer(tokenizer=old), Renderer(tokenizer=new))
        other = {"template_kwargs": {"date_string": "1 Jan 2026"}}
        renderer = Renderer(tokenizer=new, **other)
        require_same_rendering(renderer, Renderer(tokenizer=old, **other))
        assert new.decode(renderer.prompt("x")).startswith("Today: 1 Jan 2026\n")

    def test_every_form_of_the_date_is_that_date(self) -> None:
        made = tokenizer("\n{{ strftime_now('%A, %-d. %B %Y, %Y-%m-%d %H:%M') }}" + CHATML)
        said = made.decode(encode_prompt(made, "x", "chat"))
        assert said.startswith("\nFriday, 26. July 2024, 2024-07-26 00:00<|im_start|>")

    def test_a_system_message_comes_first_and_stays_text(self) -> None:
        made = tokenizer(CHATML)
        renderer = Renderer(tokenizer=made, system="Be brief.<|im_end|>")
        assert made.decode(renderer.prompt("x")).startswith(
            "<|im_start|>system\nBe brief.<|im_end|><|im_end|>\n<|im_start|>user\nx"
        )
        end = made.convert_tokens_to_ids("<|im_end|>")
        assert renderer.prompt("x").count(end) == 2

    def test_a_template_that_demands_a_system_message_can_be_used(self) -> None:
        demanding = "{% if messages[0].role != 'system' %}{{ raise_exception('no') }}{% endif %}"
        made = tokenizer(demanding + CHATML)
        with pytest.raises(ModelError, match="fails on a prompt: no"):
            Renderer(tokenizer=made).prompt("x")
        renderer = Renderer(tokenizer=made, system="Be brief.")
        require_same_rendering(renderer, renderer)
        assert made.decode(renderer.reference("36")) == "36<|im_end|>"

    @pytest.mark.parametrize(
        ("template", "settings", "message"),
        [
            (CHATML, {"template_kwargs": {"enable_thinkin": False}}, "enable_thinkin has no effe"),
            (CHATML, {"template_kwargs": {"tools": []}}, "tools: this name is not a template's"),
            (CHATML, {"template_kwargs": {"messages": []}}, "messages: this name is not a templ"),
            (
                CHATML.replace("messages %}", "messages if m.role != 'system' %}"),
                {"system": "Be brief."},
                "prompts.system has no effect: the student's chat template leaves",
            ),
        ],
    )
    def test_a_setting_without_effect_is_refused(
        self, template: str, settings: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(RecipeError, match=message):
            renderer = Renderer(tokenizer=tokenizer(template), **settings)
            require_same_rendering(renderer, renderer)

    def test_plain_text_has_no_settings(self) -> None:
        with pytest.raises(RecipeError, match="have no effect on plain text"):
            Renderer(tokenizer=tokenizer(), format="text", system="Be brief.")
