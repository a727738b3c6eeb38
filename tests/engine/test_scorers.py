"""Scorers: every one obeys the contract on any text, and says of each hand-checked example what a person would."""

import time
from contextlib import suppress
from math import isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.catalogue import scorers
from engine.errors import UserError
from engine.scorers import exact_match

HAND = {
    "exact_match": [
        ("Paris.", ["Paris"], 1),
        ("the Eiffel tower", ["Eiffel Tower"], 1),
        ("Paris, France", ["Paris"], 0),
        ("", ["Paris"], 0),
        ("zwei", ["two", "zwei"], 1),
        ("Paris", [], nan),
    ],
    "contains": [
        ("It is Paris.", ["paris"], 1),
        ("Parisian", ["paris"], 0),
        ("an apple", ["the apple"], 1),
        ("x", ["...", ""], 0),
        ("x", [], nan),
    ],
    "regex": [
        ("Sure, here", ["^Sure"], 1),
        ("I am sure", ["^Sure"], 0),
        ("one\nSure", ["^Sure"], 1),
        ("x", [], nan),
        ("x", [""], nan),
        ("a1", ["z", r"\d"], 1),
        ("Größe", [r"\bGr.ße$"], 1),
    ],
    "json_object": [
        ('{"a": 1}', [], 1),
        ('{"a": 1}', ["a"], 1),
        ('{"a": 1}', ["a", "b"], 0),
        ('[{"a": 1}, {"a": 2}]', ["a"], 1),
        ('[{"a": 1}, 2]', ["a"], 0),
        ("[]", [], 1),
        ("[]", ["a"], 0),
        ("42", [], 0),
        ('"hi"', [], 0),
        ("NaN", [], 0),
        ('{"a": NaN}', [], 0),
        ('{"a": Infinity}', [], 0),
        ('{"a": 1, "a": 2}', [], 0),
        ('```json\n{"a": 1}\n```', ["a"], 1),
        ("```\n[1]\n```\n", [], 1),
        ('Here: {"a": 1}', [], 0),
        ("", [], 0),
        ("{'a': 1}", [], 0),
        ('{"a": 1}}', [], 0),
        ("[" * 100_000, [], 0),
        ("null", [], 0),
    ],
    "bullet_count": [
        ("- a\n- b\n* c", [], 3),
        ("1. a\n2) b", [], 2),
        ("no\nlist - here", [], 0),
        ("-a\n-- b", [], 0),
        ("  • x\n• y", [], 2),
        ("", [], 0),
        ("1999. A year", [], 0),
    ],
    "upper_case": [("HELLO 1!", [], 1), ("HELLo", [], 0), ("123", [], nan), ("", [], nan), ("中文", [], nan), ("STRASSE", [], 1)],
    "length": [("one two, three!", [], 3), ("", [], 0), ("don't stop", [], 2), ("中文字", [], 3), ("ok 中文", [], 3), ("- - -", [], 0)],
    "repetition": [("a b c d", [], 0), ("go go go go go", [], 2 / 3), ("one two", [], 0), ("a b c a b c", [], 1 / 4), ("", [], 0)],
    "language": [
        ("The weather is nice today and we go outside.", ["en"], 1),
        ("The weather is nice today and we go outside.", ["de", "fr"], 0),
        ("Das Wetter ist heute schön und wir gehen hinaus.", ["de"], 1),
        ("今天天气很好，我们出去走走吧。", ["ZH "], 1),
        ("ok", ["en"], nan),
        ("The weather is nice today.", [], nan),
        ("1234567890 1234567890 1234567890", ["en"], nan),
    ],
    "readability": [
        ("The cat sat on the mat. It was red.", [], 0),
        ("too short", [], nan),
        # 4.71 * 30/5 + 0.5 * 5/1 - 21.43, letters 6 a word
        ("abcdef abcdef abcdef abcdef abcdef.", [], 4.71 * 6 + 0.5 * 5 - 21.43),
    ],
}


def test_every_scorer_has_examples():
    assert set(HAND) == set(scorers())


@pytest.mark.parametrize("name, answer, reference, wanted", [(name, *one) for name, some in HAND.items() for one in some])
def test_by_hand(name, answer, reference, wanted):
    assert scorers()[name].score([], answer, reference) == pytest.approx(wanted, nan_ok=True)


@pytest.mark.parametrize("name", HAND)
@given(answer=st.text(max_size=200), reference=st.lists(st.text(max_size=10), max_size=3))
def test_any_text_gets_a_number(name, answer, reference):
    scorer = scorers()[name]
    try:
        value = scorer.score([{"role": "user", "content": answer}], answer, reference)
    except UserError:
        assert name == "regex", "only a pattern can be none"
        return
    assert isinstance(value, float)
    assert isnan(value) or (value in (0, 1) if scorer.rate else 0 <= value < float("inf"))


@pytest.mark.parametrize("name", HAND)
def test_a_scorer_says_what_it_is(name):
    scorer = scorers()[name]
    assert scorer.summary
    assert scorer.summary[0] != " "
    assert isnan(scorer.score([], "some words that are here", [])) or not scorer.reference or name == "json_object"


@pytest.mark.parametrize("pattern, word", [("((", "at character"), ("(?P<x", "no regular expression"), ("a{2,1}", "no regular expression")])
def test_a_pattern_that_is_none_says_where(pattern, word):
    with pytest.raises(UserError, match=word):
        scorers()["regex"].score([], "x", [pattern])


def test_a_pattern_that_takes_for_ever_does_not():
    began = time.monotonic()
    score = scorers()["regex"].score
    answer = "a" * 40 + "!"
    assert isnan(score([], answer, [r"^(a|a)*$"]))
    for _ in range(30):
        with suppress(UserError):
            score([], answer, [r"^(a|a)*$"])
    with pytest.raises(UserError, match="takes too long"):
        score([], answer, [r"^(a|a)*$"])
    assert time.monotonic() - began < 20


@given(st.text(max_size=60))
def test_normalising_is_done_once(text):
    assert exact_match.normalise(exact_match.normalise(text)) == exact_match.normalise(text)
