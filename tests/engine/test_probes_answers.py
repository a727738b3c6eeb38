"""Probes that judge answers, by hand: for every kind what is right, what is wrong, and what is hostile."""

import json
from difflib import SequenceMatcher
from math import isnan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.catalogue import probes
from engine.probe import Item, Reply, ask
from engine.probes import answer_language, instructions, json_answers, repetition, stopping
from engine.probes._constraints import BY_KIND, CONSTRAINTS
from engine.probes._written import written
from engine.scorers.language import language_of

ANSWERING = ("instructions", "json_answers", "answer_language", "stopping", "repetition")
HAND = {  # kind: what was drawn, answers that obey, answers that do not
    "upper case": ("", ["A CAT HAS 4 LEGS!", "ÉTÉ: LE CHAT DORT ICI"], ["A Cat has four legs", "1 2 3 4 5", "CATS"]),
    "lower case": ("", ["a cat has 4 legs.", "das ist groß, mein freund"], ["A cat has 4 legs", "1 2 3 4 5", "cat", "猫很可爱很小"]),
    "bullets": ("2", ["* warm\n* dry", "Here:\n- It is warm\n- It is dry", "• a\n• b"],
                ["* a", "* a\n* b\n* c", "a and b", "1. a\n2. b", "***\n* a"]),
    "at most words": ("10", ["one two three"], ["word " * 11, "...", "joy"]),
    "at least words": ("20", ["word " * 20, "猫" * 20], ["word " * 19]),
    "sentences": ("2", ["It rains a lot. We stay in!", 'He said "Go home." Then he left.', "Dr. Lee, e.g. mine, helps. It is 3.5 km...",
                        "1. Boil the water.\n2. Add the tea.", "今天下雨。我们在家。"],
                  ["It rains the whole day.", "One is. Two are. Three too.", "no end to this one", "It rains. We stay. And then we wil",
                   "Rain\n\nIt rains. We stay."]),
    "with a word": ("river", ["The River is very wide.", "The river's edge is far.", "See _river_ boats go by"],
                    ["The rivers are very wide.", "water is in the sea", "river"]),
    "without a word": ("the", ["A cat sat there then."], ["See if The cat sits.", "...", "joy"]),
    "ends with": ("That is all.", ["Cats purr. That is all.", 'Cats purr. "That is all."', "Some cats That is all.\n"],
                  ["Cats purr. That is all. Bye.", "cats purr. that is all.", "That is all.", "Cats purr and That is all"]),
    "begins with": ("Well", ["Well, all my cats purr.", "well I have no cats", '"Well, I have no cats"'],
                    ["All cats purr very well.", "Wellington is far from here.", "Well"]),
    "in quotation marks": ("", ['"A cat has four legs."', "“A cat has four legs.”\n"],
                           ["A cat has four legs.", '"A cat," she said, "has legs" there', '""', '"   "', "'A cat has four legs.'"]),
    "no commas": ("", ["A cat and a dog."], ["Here: a cat, a dog.", "猫，狗和很多别的动物", "joy", "..."]),
    "one word": ("", ["Cat.", "**Cat**", "ice-cream", "猫"], ["A cat", "...", "cat\n\ndog"]),
    "title": ("", ["<<My cat>>\nIt purrs all day.", "All day long x <<a>>"], ["<My cat> it purrs all day", "<<>> it purrs all day long",
                                                                       "<<\n>> it purrs all day", "<<old cat>>"]),
    "placeholders": ("2", ["Dear [name] I come from [place]"], ["Dear [name] I come from here", "[] [] is in here twice over", "[a] [b]"]),
    "postscript": ("", ["Dear all.\n\nP.S. I forgot it", "Come at six.\n**P. S.** Bring some cake"],
                   ["P.S. I only say this", "No postscript is in here", "Dear all of you here.\nP.S.", "It rains P.S. a lot today"]),
    "paragraphs": ("2", ["one is here\n\ntwo is here", "one is here\n \n\n\ntwo is here\n"],
                   ["one is here\ntwo is here", "one here\n\ntwo here\n\nthree here", "one two three four five\n\n---"]),
    "numbered list": ("2", ["1. warm\n2. dry", "Here they are:\n1) It is warm\n2) It is dry"],
                      ["1. a", "1. a\n2. b\n3. c", "- a\n- b", "1. a\n1. b", "2. a\n1. b", "1.a 2.b"]),
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


@pytest.mark.parametrize("one", CONSTRAINTS, ids=lambda one: one.kind)
def test_every_wording_says_what_was_drawn(one):
    drawn = {one.draw(Random(seed)) for seed in range(20)}
    assert len(one.wordings) >= 2
    assert {"{}" in wording for wording in one.wordings} == {drawn != {""}}


def test_a_model_that_always_says_one_word_obeys_one_kind_only():
    obeyed = {item.cluster for item in instructions.items(800, 0) if judged(instructions, item, "joy")}
    assert obeyed == {"one word"}


def test_what_was_cut_is_never_a_number_of_things():
    two = Item("k", ask("x"), ("2",), cluster="numbered list")
    assert (judged(instructions, two, "1. a\n2. b"), judged(instructions, two, "1. a\n2. b", stopped=False)) == (1, 0)
    capitals = Item("k", ask("x"), ("",), cluster="upper case")
    assert judged(instructions, capitals, "A CAT HAS FOUR LEGS AND", stopped=False) == 1


@given(st.sampled_from(instructions.items(200, 0)), st.text())
def test_no_answer_breaks_a_constraint_s_check(item, text):
    assert judged(instructions, item, text) in (0, 1)


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


LANGUAGES = {
    "en": "On Sundays I like to walk in the woods and to read a book.",
    "de": "Am liebsten gehe ich im Wald spazieren und lese ein Buch.",
    "fr": "Le dimanche, j'aime me promener dans la forêt et lire un livre.",
    "es": "Los domingos me gusta pasear por el bosque y leer un libro.",
    "it": "La domenica mi piace passeggiare nel bosco e leggere un libro.",
    "pt": "Aos domingos gosto de passear na floresta e de ler um livro.",
    "nl": "Op zondag wandel ik graag in het bos en lees ik een boek.",
    "zh": "星期天我喜欢在树林里散步，也喜欢看书。",
    "ja": "日曜日は森を散歩したり、本を読んだりするのが好きです。",
    "ru": "По воскресеньям я люблю гулять в лесу и читать книги.",
}


def test_an_answer_is_right_in_the_language_of_its_question_alone():
    made = answer_language.items(200, 0)
    assert {item.cluster for item in made} == set(LANGUAGES) == {item.cluster for item in made[:10]}, "they take turns"
    for item in made:
        assert {code for code, text in LANGUAGES.items() if judged(answer_language, item, text) == 1} == {item.cluster}
        assert [judged(answer_language, item, text) for text in LANGUAGES.values()].count(0) == 9
        assert all(isnan(judged(answer_language, item, text)) for text in ("", "ok", "42", "🙂🙂🙂"))
        assert language_of(item.prompt[0]["content"]) in (item.cluster, None), "its question can be told itself"


def test_stopping_and_repetition():
    one = Item("q", ask("x"))
    assert (judged(stopping, one, "a", True), judged(stopping, one, "a", False)) == (1, 0)
    for text in ("The sea is wide and blue, and ships cross it every day.", "Yes.", "海很大，船每天都从上面经过。"):
        assert judged(repetition, one, text) == 1
    for text in ("and so on " * 20, "", " ", "...", "🙂", "很好" * 30):
        assert judged(repetition, one, text) == 0


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
