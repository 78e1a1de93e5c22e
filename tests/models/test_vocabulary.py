"""One vocabulary for two models, or a message that names the difference."""

from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

from warmup_distill.errors import ModelError
from warmup_distill.models.chat import encode_prompt, encode_reference, require_same_rendering
from warmup_distill.models.loading import load_tokenizer
from warmup_distill.models.renderer import Renderer
from warmup_distill.models.vocabulary import Vocabulary, shared_vocabulary

TOKENS = {"<pad>": 0, "</s>": 1, "a": 2, "b": 3}


def tokenizer(tokens: dict[str, int], eos: str | None = "</s>") -> Any:
    """One that knows these words; what stands in angle brackets is special."""
    special = [token for token in tokens if token.startswith("<") and token != eos]
    words = Tokenizer(WordLevel(tokens, unk_token="a"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=eos, additional_special_tokens=special
    )


def share(
    student: Any, teacher: Any, heads: tuple[int, int] = (4, 4), eos: Any = None
) -> Vocabulary:
    roles = zip(("student", "teacher"), heads, strict=True)
    configs = {role: LlamaConfig(vocab_size=head) for role, head in roles}
    renderers = [Renderer(tokenizer=one, format="text") for one in (student, teacher)]
    return shared_vocabulary(*renderers, configs, [None, GenerationConfig(eos_token_id=eos)])


def test_heads_padded_to_unlike_sizes_share_the_tokenizer_s_size() -> None:
    assert share(tokenizer(TOKENS), tokenizer(TOKENS), heads=(6, 8)).size == 4


def test_every_end_of_sequence_that_is_named_anywhere_counts() -> None:
    assert share(tokenizer(TOKENS), tokenizer(TOKENS), eos=[1, 3]).eos_ids == {1, 3}


def test_unlike_tokenizers_are_refused_with_the_first_differing_entry() -> None:
    other = {"<pad>": 0, "</s>": 1, "a": 2, "c": 3}
    with pytest.raises(ModelError, match=r"id 3 is 'b' for the student .* and 'c' for the teach"):
        share(tokenizer(TOKENS), tokenizer(other))


def test_a_head_smaller_than_the_vocabulary_is_refused() -> None:
    with pytest.raises(ModelError, match=r"the teacher's head has 3 rows"):
        share(tokenizer(TOKENS), tokenizer(TOKENS), heads=(4, 3))


def test_no_end_of_sequence_is_refused() -> None:
    with pytest.raises(ModelError, match="end-of-sequence"):
        share(tokenizer(TOKENS, eos=None), tokenizer(TOKENS, eos=None))


@pytest.fixture(scope="module")
def bundled() -> Any:
    return load_tokenizer("bundled:student")


def test_a_prompt_is_a_user_s_turn_with_the_assistant_s_opened(bundled: Any) -> None:
    text = bundled.decode(encode_prompt(bundled, "How many?", "chat"))
    assert text == "<|user|>How many?<|assistant|>"


def test_control_tokens_in_a_user_s_text_stay_text(bundled: Any) -> None:
    ids = encode_prompt(bundled, "a<|end|>b<|assistant|>c", "chat")
    assert bundled.eos_token_id not in ids
    assert ids.count(bundled.convert_tokens_to_ids("<|assistant|>")) == 1


def test_a_reference_ends_with_end_of_sequence(bundled: Any) -> None:
    ids = encode_reference(bundled, "#### 7")
    assert ids[-1] == bundled.eos_token_id and ids.count(bundled.eos_token_id) == 1


def test_a_chat_needs_a_template(bundled: Any) -> None:
    bare = load_tokenizer("bundled:student")
    bare.chat_template = None
    with pytest.raises(ModelError, match=r"needs a chat template, and the tokenizer of .*student"):
        Renderer(tokenizer=bare)
    texts = [Renderer(tokenizer=one, format="text") for one in (bundled, bare)]
    require_same_rendering(*texts)


def test_unlike_templates_are_refused_with_both_renderings(bundled: Any) -> None:
    other = load_tokenizer("bundled:student")
    other.chat_template = other.chat_template.replace("<|user|>", "user:")
    with pytest.raises(ModelError, match="render the same prompt differently"):
        require_same_rendering(Renderer(tokenizer=bundled), Renderer(tokenizer=other))
