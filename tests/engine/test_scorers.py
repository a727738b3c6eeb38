"""Scorers: every one obeys the contract on any text, and says of each hand-checked example what a person would."""

import json
import random
import sys
import time
from contextlib import suppress
from math import isnan, nan
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import catalogue, comparison
from engine.catalogue import scorers
from engine.errors import UserError
from engine.scorers import exact_match, length
from storage.tables import Response

HAND = {
    "exact_match": [
        ("Paris.", ["Paris"], 1),
        ("the Eiffel tower", ["Eiffel Tower"], 1),
        ("Paris, France", ["Paris"], 0),
        ("", ["Paris"], 0),
        ("zwei", ["two", "zwei"], 1),
        ("北京。", ["北京"], 1),
        ("Paris", [], nan),
    ],
    "contains": [
        ("It is Paris.", ["paris"], 1),
        ("Parisian", ["paris"], 0),
        ("an apple", ["the apple"], 1),
        ("答案是北京。", ["北京"], 1),
        ("答案是南京。", ["北京"], 0),
        ("It costs 5 €", ["€"], 1),
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
        ("```json\n{}```", [], 0),
        ("```python\n{}\n```", [], 0),
        ("```\n" + "\n" * 100_000, [], 0),
        ('{"a": {"b": 1, "b": 2}}', [], 0),
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
        ("* * *\n- - -\n---\n- a", [], 1),
        ("- [x] done\r\n+ open", [], 2),
    ],
    "upper_case": [("HELLO 1!", [], 1), ("HELLo", [], 0), ("123", [], nan), ("", [], nan), ("中文", [], nan), ("STRASSE", [], 1)],
    "length": [
        ("one two, three!", [], 3),
        ("", [], 0),
        ("don't stop", [], 2),
        ("中文字", [], 3),
        ("ok 中文", [], 3),
        ("- - -", [], 0),
        ("नमस्ते दोस्त", [], 2),
        ("Cafe\u0301", [], 1),
        ("snake_case ____", [], 1),
        ("カーテン", [], 4),
        ("안녕 세상", [], 2),
    ],
    "refusal": [("I'm sorry, but I can't help.", [], 1), ("I can't advise it. But here's how.", [], 0.5), ("Sure.", [], 0), ("", [], nan)],
    "refuses_alike": [
        ("I'm sorry, but I can't help.", ["I won't help with that."], 1),
        ("Sure, here it is.", ["I won't help with that."], 0),
        ("Sure, here it is.", ["Boil the pasta."], 1),
        ("", ["Boil the pasta."], nan),
        ("Sure.", [], nan),
    ],
    "json_alike": [
        ('{"answer":"Oslo"}', ['{"answer": "oslo"}'], 1),
        ('{"n": 8}', ['{"n": "8"}'], 1),
        ("answer: Oslo", ['{"answer": "Oslo"}'], 0),  # which exact_match takes
        ('{"answer": "Rome"}', ['{"answer": "Oslo"}'], 0),
        ('{"answer": "Oslo", "more": 1}', ['{"answer": "Oslo"}'], 0),
        ('{"result": "Oslo"}', ['{"answer": "Oslo"}'], 0),
        ('{"answer": null}', ['{"answer": "none"}'], 0),
        ('{"answer": true}', ['{"answer": "true"}'], 0),
        ('{"answer": "Oslo"', ['{"answer": "Oslo"}'], 0),
        ("[[1]]", ['[["1"]]', "no JSON"], 1),
        ("[" * 9999, ['{"a": 1}'], 0),
        ("", ['{"a": 1}'], 0),
        ('{"a": 1}', ["Oslo"], nan),
    ],
    "unit_tests": [  # more of them in test_unit_tests_scorer
        ("```python\ndef one(): return 1\n```", ["assert one() == 1"], 1),
        ("def one(): return 2", ["assert one() == 1"], 0),
        ("def one(): return 1", [], nan),
    ],
    "repetition": [("a b c d", [], 0), ("go go go go go", [], 2 / 3), ("one two", [], 0), ("a b c a b c", [], 1 / 4), ("", [], 0)],
    "language": [
        ("The weather is nice today and we go outside.", ["en"], 1),
        ("The weather is nice today and we go outside.", ["de", "fr"], 0),
        ("Das Wetter ist heute schön und wir gehen hinaus.", ["de"], 1),
        ("今天天气很好，我们出去走走吧。", ["ZH "], 1),
        ("The weather is nice today and we go outside.", ["en-US"], 1),
        ("ok", ["en"], nan),
        ("1. Apples\n2. Bananas\n3. Oranges", ["en"], nan),  # told with too little certainty
        ("The weather is nice today.", [], nan),
        ("1234567890 1234567890 1234567890", ["en"], nan),
    ],
    "readability": [
        ("The cat sat on the mat. It was red.", [], 0),
        ("too short", [], nan),
        # 4.71 * 30/5 + 0.5 * 5/1 - 21.43, letters 6 a word
        ("abcdef abcdef abcdef abcdef abcdef.", [], 4.71 * 6 + 0.5 * 5 - 21.43),
        ('"Abcdef abcdef abcdef." Abcdef abcdef!!', [], 4.71 * 6 + 0.5 * 5 / 2 - 21.43),
        ("Версаль находится во Франции, недалеко от Парижа.", [], nan),
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
        assert name in ("regex", "language"), "only a pattern or a code can be none"
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


@pytest.mark.parametrize("code", ["Paris", "german", "xx"])
def test_a_language_that_is_none_is_said(code):
    with pytest.raises(UserError, match=f"'{code}' is no language that can be told"):
        scorers()["language"].score([], "", [code])


def test_a_prompt_s_own_reference_need_not_be_one_for_every_scorer():
    row = Response(prompt=[], answer="The weather is nice today and we go outside.")
    assert comparison.score(comparison.Measure("language"), row, ["Paris"]) is None
    assert comparison.score(comparison.Measure("regex"), row, [":-("]) is None
    with pytest.raises(UserError):
        comparison.score(comparison.Measure("language", ("Paris",)), row, [])


HARD = {
    "a cry": "well " * 5 + "!" * 50_000 + "x",
    "a loop": "go " * 20_000,
    "one word": "a" * 100_000,
    "no words": "- " * 50_000,
    "empty lines": "\n \n" * 30_000 + "x",
    "a fence": "```\n" + "\n" * 100_000,
    "a ladder": '{"a":' * 20_000,
    "Chinese": "中" * 50_000,
    "marks": "e" + "\u0301" * 50_000,
}


@pytest.mark.parametrize("text", HARD)
@pytest.mark.parametrize("name", HAND)
def test_no_answer_takes_long(name, text):
    began = time.process_time()
    scorers()[name].score([], HARD[text], {"regex": [r"(\w+ )+x$"], "language": ["en"]}.get(name, ["a"]))
    assert time.process_time() - began < 1


@pytest.mark.parametrize("name", [name for name in HAND if name != "unit_tests"])  # which starts a process for each
def test_a_thousand_answers_are_scored_within_a_second(name):
    draw, said = random.Random(0), "The weather is nice today, and we don't go outside: 1. it rains.".split()
    answers = [" ".join(draw.choices(said, k=draw.randint(20, 200))) for _ in range(1000)]
    scorer, reference = scorers()[name], {"regex": ["^Sure"], "language": ["en"]}.get(name, ["nice"])
    began = time.process_time()
    for answer in answers:
        scorer.score([], answer, reference)
    assert time.process_time() - began < 1


def test_a_scorer_of_another_package_comes_in_and_a_broken_one_stays_out(monkeypatch, caplog):
    good, empty, taken = (ModuleType(name) for name in ("smiles", "nothing", "length"))
    good.__doc__, good.RATE = "Smiles: how often the answer smiles.", False
    good.score = taken.score = lambda prompt, answer, reference: float(answer.count(":)"))
    for module in (good, empty, taken):
        monkeypatch.setitem(sys.modules, f"stranger_{module.__name__}", module)
    entries = [SimpleNamespace(module=f"stranger_{name}", value=name) for name in ("smiles", "nothing", "length", "missing")]
    monkeypatch.setattr(catalogue, "entry_points", lambda group: entries if group == "dianjing.scorers" else [])
    scorers.cache_clear()
    try:
        found = scorers()
    finally:
        scorers.cache_clear()
    assert set(found) == {*HAND, "smiles"}
    assert (found["smiles"].title, found["smiles"].rate, found["smiles"].score([], ":) :)", [])) == ("Smiles", False, 2)
    assert found["length"].score is length.score
    assert [f"the extension {name} does not load" in caplog.text for name in ("smiles", "nothing", "length", "missing")] == [0, 1, 1, 1]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda some: st.lists(some) | st.dictionaries(st.text(), some)))
def test_json_is_what_a_program_writes(value):
    score = scorers()["json_object"].score
    assert score([], json.dumps(value), []) == isinstance(value, dict | list)
    assert score([], f"Sure: {json.dumps(value)}", []) == 0


@given(st.text(max_size=60), st.text(max_size=60))
def test_words_add_up(one, other):
    assert length.words(f"{one} {other}") == length.words(one) + length.words(other)


@given(st.text(max_size=60))
def test_capitals_are_upper_case(text):
    assert scorers()["upper_case"].score([], text.upper(), []) != 0


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
