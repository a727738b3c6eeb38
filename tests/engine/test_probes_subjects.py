"""The four subject probes hold the questions their cards promise, and nothing but knowledge helps to answer them."""

import json
from collections import Counter
from difflib import SequenceMatcher
from itertools import combinations
from math import factorial, gcd, lcm, log10, pi
from pathlib import Path
from statistics import mean, median

import pytest

from engine.catalogue import probes
from engine.probe import Item

SUBJECTS = ("language", "maths", "physics", "chemistry")
ASSETS = Path(__file__).parents[2] / "assets"

# Answers spelled out by hand.
KNOWN = {
    'What does "etc." at the end of a list mean?': "And so on",
    'Which miser is visited by three spirits in "A Christmas Carol"?': "Ebenezer Scrooge",
    'Put "The cook baked the bread" into the passive voice.': "The bread was baked by the cook.",
    "One criterion, two criteria; one ox, two what?": "Oxen",
    "Where do the two axes of a graph cross?": "They cross at the origin.",
    "Factor the expression x² - 9.": "The factors are (x - 3)(x + 3).",
    'What is the converse of "If it is a dog, it is an animal"?': "If it is an animal, it is a dog.",
    "At what Celsius temperature does water boil at sea level?": "100 degrees",
    "What voltage drives a current of 2 amperes through 5 ohms?": "10 volts",
    "A radioactive sample of 80 grams has a half-life of 2 days. How much of it is left after 4 days?": "20 grams",
    "Through what can sound not travel?": "A vacuum",
    "Which gas makes up most of the air around us?": "Nitrogen",
    "What colour does blue litmus paper turn in acid?": "Red",
    "How many moles are dissolved in two litres of a solution of 0.5 moles per litre?": "One mole",
    "A reaction at equilibrium gives off heat. Which way does the equilibrium shift if you heat it?": "Towards the reactants",
}

# What the answers of maths say, computed here.
COMPUTED = {
    "Find the mean of 4, 6 and 11.": f"The mean is {mean([4, 6, 11])}.",
    "What is the median of the numbers 2, 3, 5, 8 and 12?": f"The median is {median([2, 3, 5, 8, 12])}.",
    "Convert the binary number 101 to decimal.": f"In decimal it is {int('101', 2)}.",
    "What is two to the power of five?": f"Two to the power of five is {2**5}.",
    "What is the value of five factorial, 5!?": f"5! is {factorial(5)}.",
    "What is the least common multiple of 4 and 6?": f"The least common multiple is {lcm(4, 6)}.",
    "Which is the largest whole number that divides both 18 and 24?": f"The largest such number is {gcd(18, 24)}.",
    "What is the sum of all whole numbers from 1 to 10?": f"The sum is {sum(range(11))}.",
    "What is the logarithm of 1000 to base 10?": f"The logarithm is {log10(1000):.0f}.",
    "What is pi rounded to two decimal places?": f"Pi is about {pi:.2f}.",
    "What is one quarter as a decimal number?": f"One quarter is {1 / 4}.",
    "What is the absolute value of -7?": f"The absolute value is {abs(-7)}.",
    "After a rise of 50% a ticket costs 300 dollars. What did it cost before?": f"It cost {300 / 1.5:.0f} dollars.",
}


def items(name: str, n: int = 200, seed: int = 0) -> list[Item]:
    return list(probes()[name].items(n, seed))


def question(item: Item) -> str:
    return item.prompt[0]["content"]


def alike(one: str, two: str) -> bool:
    found = SequenceMatcher(None, one.casefold(), two.casefold(), autojunk=False)
    return min(found.real_quick_ratio(), found.quick_ratio()) >= 0.8 and found.ratio() >= 0.8


EVERY = {name: items(name) for name in SUBJECTS}
QUESTIONS = [question(item) for some in EVERY.values() for item in some]


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_subject_is_64_questions_that_the_log_probability_of_four_choices_decides(name: str) -> None:
    probe = probes()[name]
    assert (probe.how, probe.group, probe.floor, probe.score) == ("chooses", "knowledge", 0.25, None)
    assert len(EVERY[name]) == len({item.key for item in EVERY[name]}) == 64
    for item in EVERY[name]:
        (right,) = item.references
        assert len(set(item.choices)) == 4, item.key
        assert item.choices.count(right) == 1, item.key
        assert [turn["role"] for turn in item.prompt] == ["user"], item.key


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_form_of_a_choice_says_nothing(name: str) -> None:
    for item in EVERY[name]:
        assert len({choice.endswith(".") for choice in item.choices}) == 1, item.key
        assert not any(choice[0].islower() or choice != choice.strip() for choice in item.choices), item.key
        assert max(map(len, item.choices)) <= 3 * min(map(len, item.choices)), item.key


@pytest.mark.parametrize("name", SUBJECTS)
def test_neither_place_nor_length_gives_the_right_choice_away(name: str) -> None:
    some = EVERY[name]
    places = Counter(item.choices.index(item.references[0]) for item in some)
    assert all(0.15 <= places[place] / len(some) <= 0.35 for place in range(4))
    for extreme in (max, min):
        ends = [[choice for choice in item.choices if len(choice) == extreme(map(len, item.choices))] for item in some]
        guessed = sum((item.references[0] in end) / len(end) for item, end in zip(some, ends, strict=True))
        assert 0.15 <= guessed / len(some) <= 0.4, extreme


def test_no_two_questions_are_alike() -> None:
    close = [(one, two) for one, two in combinations(QUESTIONS, 2) if alike(one, two)]
    assert len(QUESTIONS) == 256
    assert not close


def test_no_question_is_one_of_the_starter_data() -> None:
    taught = [json.loads(line) for line in (ASSETS / "datasets" / "short-answers.jsonl").read_text(encoding="utf-8").splitlines()]
    known = [row["messages"][0]["content"] for row in taught]
    assert not [(one, two) for one in QUESTIONS for two in known if alike(one, two)]


def test_hand_checked_answers() -> None:
    told = {question(item): item.references[0] for some in EVERY.values() for item in some}
    checked = KNOWN | COMPUTED
    assert {asked: told.get(asked) for asked in checked} == checked


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_seed_decides_which_questions_are_asked(name: str) -> None:
    assert items(name, 32) == EVERY[name][:32]
    assert items(name, 32, 7) == items(name, 32, 7) != items(name, 32, 8)
    assert sorted(item.key for item in items(name, 200, 7)) == sorted(item.key for item in EVERY[name])
    assert items(name, 0) == []


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_card_stands_beside_the_questions(name: str) -> None:
    card = (ASSETS / "probes" / f"{name}.md").read_text(encoding="utf-8")
    assert "64 questions" in card
    assert "25 %" in card
    assert "Apache-2.0" in card
