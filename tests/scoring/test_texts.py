"""Rouge-L and exact match: as published for English, and the same sense for every script."""

import random
import tracemalloc
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from warmup_distill.scoring.rouge import common_length, exact_match, rouge_l
from warmup_distill.scoring.words import words


def test_rouge_l_is_the_stemmed_f_measure_of_the_longest_common_subsequence() -> None:
    # LCS "the cat sat" of 3 in 4 and 3 words: P = 3/4, R = 1, F = 6/7; "cats" stems to "cat"
    assert rouge_l("the cats sat down", ["The cat sat."]) == pytest.approx(100 * 6 / 7)
    assert rouge_l("", ["word"]) == rouge_l("word", [""]) == rouge_l("", [""]) == 0


def test_rouge_l_takes_the_best_reference() -> None:
    assert rouge_l("one two", ["three", "one two", "one"]) == 100


english = st.text(st.sampled_from("abcdgns iey 12_-.,'\n"), max_size=60)


@given(prediction=english | st.text(max_size=40), reference=english)
def test_a_reference_of_ascii_scores_as_published(prediction: str, reference: str) -> None:
    published = RougeScorer(["rougeL"], use_stemmer=True).score(reference, prediction)["rougeL"]
    # But for a reference without any letter or digit, which nothing is held to there.
    if any(character.isalnum() for character in reference):
        assert rouge_l(prediction, [reference]) == pytest.approx(100 * published.fmeasure)


letters = st.lists(st.sampled_from("abc"), max_size=9)


@given(one=letters, other=letters)
def test_the_common_length_is_that_of_the_usual_table(one: list[str], other: list[str]) -> None:
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
            )
    assert common_length(one, other) == table[-1][-1]


def test_texts_of_20000_and_30000_words_are_compared_in_little_memory() -> None:
    # The usual table has 600 million places. A text of one word of the other's, often: LCS is 1.
    drawn = random.Random(0)
    long = " ".join(f"w{drawn.randrange(500)}" for _ in range(20_000))
    assert rouge_l("alone " * 30_000, [f"{long} alone"]) == pytest.approx(100 * 2 / 50_001)


def test_texts_of_words_that_all_differ_take_no_memory_of_their_square() -> None:
    many = [str(number) for number in range(30_000)]  # their square in bits is 107 MiB
    tracemalloc.start()
    assert common_length(many, many[::2]) == 15_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20


@pytest.mark.parametrize(
    "text",
    ["你好，世界", "Привет, мир!", "مرحبا بالعالم", "שלום עולם", "สวัสดีครับ", "こんにちは、世界ー",
     "한국어 텍스트", "कैसे हैं आप", "Γειά σου Κόσμε", "ສະບາຍດີ", "👍🏽 😌", "- 😌😊", "[]", "!?", "+"],
)  # fmt: skip
def test_a_text_of_any_script_is_itself_and_is_not_nothing(text: str) -> None:
    assert rouge_l(text, [text]) == 100 and exact_match(text, [text])
    assert rouge_l("other words", [text]) == 0 and not exact_match("other words", [text])


def test_words_of_every_script_and_letters_where_words_are_not_set_apart() -> None:
    assert words("Два слова: naïve 你好 👍🏽") == ["два", "слова", "naïve", "你", "好", "👍🏽"]
    assert words("ภาษาไทย iPhone手机") == ["ภ", "า", "ษ", "า", "ไ", "ท", "ย", "iphon", "手", "机"]
    # 2 of 4 letters in common: P = R = 1/2
    assert rouge_l("今日晴天", ["今日下雨"]) == pytest.approx(50)
    assert rouge_l("мир и труд", ["мир, труд, май"]) == pytest.approx(100 * 2 / 3)
    assert rouge_l("👍👎", ["👍🏽"]) == 0


@pytest.mark.parametrize("text", ["café crème", "Ångström", "한국어", "がぎぐ", "नमस्ते", "Việt Nam"])
def test_composed_and_decomposed_characters_are_the_same(text: str) -> None:
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    for one, other in (forms, forms[::-1]):
        assert rouge_l(one, [other]) == 100 and exact_match(one, [other])


@pytest.mark.parametrize(
    ("prediction", "reference", "same"),
    [
        ("The  cat,\n sat!", "the cat sat", True),
        ("the cat sat", "cat sat", False),
        ("it's", "its", True),
        ("你好。", "你好", True),
        ("«Да»", "да", True),
        ("“Yes”", "yes", True),
        ("STRASSE", "straße", True),
        ("１２", "12", True),
        ("$1,200.50", "1200.50", True),
        ("-5", "5", False),
        ("\N{MINUS SIGN}5", "-5", True),
        ("3.5", "35", False),
        (".5", "5", False),
        ("3/4", "34", False),
        ("10:30", "1030", False),
        ("1,2", "12", False),
        ("x+5", "x-5", False),
        ("C++", "C", False),
        ("+", "-", False),
        ("!?", "", False),
    ],
)
def test_exact_match_ignores_case_punctuation_and_spaces_and_keeps_the_signs_of_numbers(
    prediction: str, reference: str, same: bool
) -> None:
    assert exact_match(prediction, [reference]) is same
