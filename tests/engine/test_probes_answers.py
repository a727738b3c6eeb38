"""Probes that judge answers, by hand: for every kind what is right, what is wrong, and what is hostile."""

import json
from difflib import SequenceMatcher
from math import isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.catalogue import probes
from engine.probe import Item, Reply, ask
from engine.probes import answer_language, instructions, json_answers, repetition, stopping
from engine.probes._constraints import BY_KIND, CONSTRAINTS
from engine.probes._written import written

ANSWERING = ("instructions", "json_answers", "answer_language", "stopping", "repetition")
HAND = {  # kind: what was drawn, answers that obey, answers that do not
    "upper case": ("", ["A CAT, 3 LEGS!"], ["A Cat", "123", ""]),
    "lower case": ("", ["a cat. 3 legs"], ["A cat", "123"]),
    "bullets": ("2", ["* a\n* b", "- a\n- b"], ["* a", "* a\n* b\n* c", "a and b"]),
    "at most words": ("10", ["one two three"], ["word " * 11, "..."]),
    "at least words": ("20", ["word " * 20], ["word " * 19]),
    "sentences": ("2", ["It rains. We stay in!"], ["It rains.", "One. Two. Three.", "no end"]),
    "with a word": ("river", ["The River is wide."], ["The rivers are wide.", "water"]),
    "without a word": ("the", ["A cat sat there."], ["See The cat.", "..."]),
    "ends with": ("That is all.", ["Cat. That is all.", 'Cats. "That is all."', "x That is all.\n"], ["That is all. Bye.", "that is all"]),
    "begins with": ("Well", ["Well, cats purr.", "well"], ["Cats purr well.", "Wellington is far."]),
    "in quotation marks": ("", ['"A cat."', "“A cat.”"], ["A cat.", '"A cat." she said', '""']),
    "no commas": ("", ["A cat and a dog."], ["A cat, a dog", "..."]),
    "one word": ("", ["Cat.", "Cat"], ["A cat", "..."]),
    "title": ("", ["<<My cat>>\nIt purrs.", "x <<a>>"], ["<My cat>", "<<>>", "<<\n>>"]),
    "placeholders": ("2", ["Dear [name], from [place]"], ["Dear [name]", "[] []"]),
    "postscript": ("", ["Dear all.\n\nP.S. I forgot", "a\nP. S. b"], ["P.S. only", "No postscript", "a\nP.S."]),
    "paragraphs": ("2", ["one\n\ntwo", "one\n \n\ntwo\n"], ["one\ntwo", "one\n\ntwo\n\nthree"]),
    "numbered list": ("2", ["1. a\n2. b", "1) a\n2) b"], ["1. a", "1. a\n2. b\n3. c", "- a\n- b"]),
}  # fmt: skip


def judged(module, item, text, stopped=True):
    return module.score(item, Reply(text, stopped))


def test_every_kind_has_examples_and_there_are_enough():
    assert set(HAND) == set(BY_KIND)
    assert len(CONSTRAINTS) >= 14


@pytest.mark.parametrize("kind", HAND)
def test_a_constraint_tells_right_from_wrong(kind):
    drawn, right, wrong = HAND[kind]
    item = Item("k", ask("x"), (drawn,), cluster=kind)
    assert [text for text in right if judged(instructions, item, text) != 1] == []
    assert [text for text in [*wrong, "", " \n"] if judged(instructions, item, text) != 0] == []


JSON = Item("Which animal barks? answer/reason", ask("x"), ("dog", "hound", "answer", "reason"))


@pytest.mark.parametrize("answer, value", [
    ('{"answer": "dog", "reason": "it barks"}', 1), ('```json\n{"answer": "The dog", "reason": ""}\n```', 1),
    ('{"answer": "HOUND", "reason": 1}', 1),
    ('{"answer": "cat", "reason": "it barks"}', 0), ('{"answer": "dog"}', 0), ("dog", 0), ("", 0), ('{"answer": "dog", "reason": NaN}', 0),
    ('{"answer": "dog", "answer": "dog", "reason": 1}', 0), ('Sure: {"answer": "dog", "reason": ""}', 0),
    ('[{"answer": "dog", "reason": ""}]', 0),
    ('{"answer": null, "reason": "dog"}', 0), ('{"answer": ["dog"], "reason": ""}', 1),
])  # fmt: skip
def test_json_must_be_valid_and_right(answer, value):
    assert judged(json_answers, JSON, answer) == value


@pytest.mark.parametrize(
    "answer, value", [('{"result": 7}', 1), ('{"result": 7.0}', 1), ('{"result": "seven"}', 1), ('{"result": 17}', 0), ('{"answer": 7}', 0)]
)
def test_numbers_are_numbers(answer, value):
    assert judged(json_answers, Item("How many? result", ask("x"), ("7", "seven", "result")), answer) == value


def test_every_question_can_be_answered_rightly():
    for item in json_answers.items(400, 3):
        keys = item.key.rsplit(" ", 1)[1].split("/")
        answer = {key: item.references[0] if key in ("answer", "result") else "x" for key in keys}
        assert judged(json_answers, item, json.dumps(answer)) == 1, item.key
        assert all(f'"{key}"' in item.prompt[0]["content"] for key in keys)


def test_language_stopping_and_repetition():
    german = Item("q", ask("Was machst du?"), ("de",))
    assert judged(answer_language, german, "Am liebsten gehe ich im Wald spazieren und lese ein Buch.") == 1
    assert judged(answer_language, german, "I like to walk in the woods and to read a book.") == 0
    assert isnan(judged(answer_language, german, "ok"))
    one = Item("q", ask("x"))
    assert (judged(stopping, one, "a", True), judged(stopping, one, "a", False)) == (1, 0)
    assert judged(repetition, one, "The sea is wide and blue, and ships cross it every day.") == 1
    assert judged(repetition, one, "and so on " * 20) == 0
    assert judged(repetition, one, " ") == 0


def test_two_probes_ask_the_same_so_that_an_answer_is_given_once():
    assert stopping.items(50, 7) == repetition.items(50, 7)
    assert probes()["stopping"].max_new_tokens == probes()["repetition"].max_new_tokens


@given(st.sampled_from(ANSWERING), st.integers(0, 50), st.integers(1, 220))
def test_items_are_the_same_for_a_seed_and_never_twice_the_same(name, seed, n):
    made = probes()[name].items(n, seed)
    assert made == probes()[name].items(n, seed)
    assert len({item.key for item in made}) == len(made) <= n
    assert len({item.prompt[0]["content"] for item in made}) == len(made)


def test_there_are_enough_items_and_each_says_something_else():
    assert len(json_answers.items(200, 0)) == len(instructions.items(200, 0)) == 200
    for name, key, least in (("json-questions", "question", 60), ("open-prompts", "question", 60), ("instruction-tasks", "task", 40),
                             ("answer_language", "question", 60)):  # fmt: skip
        texts = [row[key] for row in written(name)]
        assert len(texts) >= least
        alike = [(a, b) for place, a in enumerate(texts) for b in texts[:place] if SequenceMatcher(None, a, b).ratio() > 0.8]
        assert not alike
