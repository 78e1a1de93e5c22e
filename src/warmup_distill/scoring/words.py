"""Texts as the words that Rouge-L compares, in every script."""

import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache

import regex
from rouge_score.tokenizers import DefaultTokenizer

# Scripts that do not set spaces between words: each letter with its marks stands for itself.
_UNSPACED = (
    r"[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
    r"&&[\p{L}\p{M}\p{N}]]"
)
_EMOJI = r"(?=[\p{Extended_Pictographic}\p{Regional_Indicator}])\X"
_WORD = regex.compile(rf"(?V1){_UNSPACED}\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--{_UNSPACED}]+|{_EMOJI}")
_VARIANTS = regex.compile("[\ufe0e\ufe0f]")


def tokenizer_for(reference: str) -> Callable[[str], list[str]]:
    """How a reference and what is held to it are read.

    A reference of ASCII characters as published: runs of a to z and digits, stemmed. Any other by
    `words`. One that is made of signs alone, such as `[]`, sign by sign.
    """
    for tokenizer in (_published, words) if reference.isascii() else (words,):
        if tokenizer(reference):
            return tokenizer
    return signs


def words(text: str) -> list[str]:
    """Words of any script in one normal form; what is of ASCII characters as `_published`.

    Example:
        >>> words("Два слова: naïve 你好 👍")
        ['два', 'слова', 'naïve', '你', '好', '👍']
    """
    return [
        _stem(word) if word.isascii() else word for word in map(str, _WORD.findall(one_form(text)))
    ]


def signs(text: str) -> list[str]:
    """Every sign but spaces."""
    return [sign for sign in regex.findall(r"\X", one_form(text)) if not sign.isspace()]


def one_form(text: str) -> str:
    """A text without what only differs in case or in how the same characters are encoded."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return str(_VARIANTS.sub("", unicodedata.normalize("NFKC", folded)))


def _published(text: str) -> list[str]:
    return [str(token) for token in _tokenizer().tokenize(text)]


@lru_cache(maxsize=2**16)
def _stem(word: str) -> str:
    return next(iter(_published(word)))


@cache
def _tokenizer() -> DefaultTokenizer:
    return DefaultTokenizer(use_stemmer=True)
