"""Capitals, elements, common sense, fluency and response ranking: enough items, each right once, no two alike."""

from collections import Counter
from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.catalogue import probes
from engine.probe import Item
from engine.probes._written import written

CARDS = Path(__file__).parents[2] / "assets" / "probes"
ALL = 10_000
CHOOSE = {"capitals": (120, 4, 0.25), "elements": (120, 4, 0.25), "common_sense": (64, 4, 0.25), "response_ranking": (64, 2, 0.5)}
NAMES = (*CHOOSE, "fluency")
GENERATED = ("capitals", "elements")
WRITTEN = {"common_sense": "question", "fluency": "text", "response_ranking": "instruction"}

# Answers spelled out by hand, by the items' keys.
KNOWN = {
    "capitals": {
        "Australia": "Canberra",
        "Brazil": "Brasília",
        "Canada": "Ottawa",
        "France": "Paris",
        "Kazakhstan": "Astana",
        "Kenya": "Nairobi",
        "Morocco": "Rabat",
        "Myanmar": "Naypyidaw",
        "New Zealand": "Wellington",
        "Nigeria": "Abuja",
        "Turkey": "Ankara",
        "the United States": "Washington, D.C.",
    },
    "elements": {
        "hydrogen/number": "1",
        "carbon/symbol": "C",
        "sodium/symbol": "Na",
        "iron/number": "26",
        "potassium/name": "Potassium",
        "silver/symbol": "Ag",
        "tin/name": "Tin",
        "tungsten/symbol": "W",
        "gold/symbol": "Au",
        "lead/name": "Lead",
        "mercury/symbol": "Hg",
        "uranium/name": "Uranium",
    },
    "common_sense": {
        "What happens to an ice cube left in the sun?": "It melts",
        "Who looks after people's teeth?": "A dentist",
        "Where do fish live?": "In water",
        "A kitten grows up. What is it then?": "A cat",
        "How many legs does a spider have?": "Eight",
        "Which of these is alive?": "A tree",
    },
    "response_ranking": {
        "Solve for x: 3x + 5 = 20.": "Subtract 5 from both sides to get 3x = 15, then divide by 3: x = 5.",
        'Extract the date from this text: "Our shop opened its doors on 4 June 1998 in Leeds."': "4 June 1998",
        'Correct the grammar: "Him and me goes to the cinema yesterday."': "He and I went to the cinema yesterday.",
    },
}


def items(name: str, n: int = ALL, seed: int = 0) -> list[Item]:
    return list(probes()[name].items(n, seed))


def alike(one: str, two: str) -> bool:
    found = SequenceMatcher(None, one.casefold(), two.casefold(), autojunk=False)
    return min(found.real_quick_ratio(), found.quick_ratio()) >= 0.8 and found.ratio() >= 0.8


@pytest.mark.parametrize("name", CHOOSE)
def test_choosing_probes_say_how_they_are_measured_and_have_enough_items(name: str) -> None:
    probe, (least, _, floor) = probes()[name], CHOOSE[name]
    assert (probe.how, probe.floor, probe.score) == ("chooses", floor, None)
    assert probe.group == ("instruction" if name == "response_ranking" else "knowledge")
    assert least <= len(items(name)) == len({item.key for item in items(name)})


@pytest.mark.parametrize("name", CHOOSE)
@given(seed=st.integers(0, 2**32))
def test_whatever_the_seed_the_right_answer_stands_once_among_choices_without_doubles(name: str, seed: int) -> None:
    for item in items(name, 40, seed):
        (right,) = item.references
        assert len(item.choices) == len(set(item.choices)) == CHOOSE[name][1], item
        assert item.choices.count(right) == 1, item
        assert all(choice == choice.strip() != "" for choice in item.choices), item
        assert [turn["role"] for turn in item.prompt] == ["user"], item


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**32), n=st.integers(0, 60))
def test_a_seed_decides_the_items_and_fewer_are_the_first_of_more(name: str, seed: int, n: int) -> None:
    assert items(name, n, seed) == items(name, 60, seed)[:n]


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_asks_in_another_order_the_same_items(name: str) -> None:
    one, two = items(name, seed=1), items(name, seed=2)
    assert [item.key for item in one] != [item.key for item in two]
    assert {item.key for item in one} == {item.key for item in two}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("seed", [0, 5])
def test_hand_checked_answers(name: str, seed: int) -> None:
    told = {item.key: item.references for item in items(name, seed=seed)}
    assert {key: told.get(key) for key in KNOWN[name]} == {key: (right,) for key, right in KNOWN[name].items()}


@pytest.mark.parametrize("name", CHOOSE)
def test_the_place_of_a_choice_says_nothing(name: str) -> None:
    some = items(name)
    places, among = Counter(item.choices.index(item.references[0]) for item in some), CHOOSE[name][1]
    assert all(0.6 / among <= places[place] / len(some) <= 1.4 / among for place in range(among)), places


def test_neither_the_longest_nor_the_shortest_choice_is_a_good_guess_of_common_sense() -> None:
    some = items("common_sense")
    for extreme in (max, min):
        ends = [[choice for choice in item.choices if len(choice) == extreme(map(len, item.choices))] for item in some]
        assert sum((item.references[0] in end) / len(end) for item, end in zip(some, ends, strict=True)) / len(some) <= 0.35


@pytest.mark.parametrize("name", WRITTEN)
def test_no_two_written_items_are_alike(name: str) -> None:
    texts = [row[WRITTEN[name]] for row in written(name)]
    assert not [(one, two) for one, two in combinations(texts, 2) if alike(one, two)]


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_question_is_worded_by_the_seed(name: str) -> None:
    wordings = {tuple(item.prompt[0]["content"] for item in sorted(items(name, seed=seed), key=lambda item: item.key)) for seed in range(3)}
    assert len(wordings) == 3


def test_the_wrong_capitals_are_a_city_of_the_country_and_two_capitals_of_the_same_part_of_the_world() -> None:
    table = {row["country"]: row for row in written("capitals")}
    for item in items("capitals", seed=3):
        row = table[item.key]
        wrong = set(item.choices) - {row["capital"]}
        near = {other["capital"] for other in table.values() if other["region"] == row["region"]}
        assert (len(wrong & set(row["cities"])), len(wrong & near)) == (1, 2), item


def test_no_city_of_the_capitals_table_stands_there_twice() -> None:
    table = written("capitals")
    cities = [row["capital"] for row in table] + [city for row in table for city in row["cities"]]
    assert [city for city, times in Counter(cities).items() if times > 1] == []


def test_the_elements_table_holds_the_first_sixty_and_no_symbol_or_name_twice() -> None:
    table = written("elements")
    assert [row["number"] for row in table[:60]] == list(range(1, 61))
    for field in ("number", "symbol", "name"):
        assert len({row[field] for row in table}) == len(table)


def test_near_misses_of_a_symbol_begin_as_the_name_and_those_of_a_number_lie_close() -> None:
    for item in items("elements", seed=3):
        name, wanted = item.key.split("/")
        for wrong in set(item.choices) - set(item.references):
            if wanted == "number":
                assert 1 <= abs(int(wrong) - int(item.references[0])) <= 10
            if wanted == "symbol":
                assert wrong[0].lower() == name[0]


def test_fluency_is_the_loss_on_many_kinds_of_short_passages() -> None:
    probe, rows = probes()["fluency"], written("fluency")
    assert (probe.how, probe.group, probe.floor, probe.score) == ("loss", "fluency", None, None)
    assert len(rows) >= 64
    assert len({row["kind"] for row in rows}) >= 8
    assert all(50 <= len(row["text"].split()) <= 90 for row in rows)
    assert all(item.text and not item.prompt and not item.choices for item in items("fluency"))
    assert len({item.key for item in items("fluency")}) == len(rows)


def test_a_response_is_ranked_against_one_of_like_length_that_answers_another_instruction() -> None:
    own = {row["response"]: row["instruction"] for row in written("response_ranking")}
    for item in items("response_ranking", seed=3):
        (other,) = set(item.choices) - set(item.references)
        assert own[item.references[0]] == item.key != own[other]
        short, long_ = sorted(len(choice.encode()) for choice in item.choices)
        assert long_ <= 1.25 * short, item


def test_two_instructions_lend_each_other_their_responses_whatever_is_asked() -> None:
    def lent(n: int, seed: int) -> dict[str, str]:
        some = items("response_ranking", n, seed)
        return {item.references[0]: next(choice for choice in item.choices if choice not in item.references) for item in some}

    pairs = lent(ALL, 0)
    assert lent(ALL, 9) == pairs
    assert lent(10, 9).items() <= pairs.items()
    assert all(pairs[other] == one for one, other in pairs.items())


@pytest.mark.parametrize("name", NAMES)
def test_a_card_tells_how_many_who_wrote_them_and_what_guessing_gives(name: str) -> None:
    card = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    assert str(len(written(name))) in card
    assert "for this project" in card
    assert "Apache-2.0" in card
    if name in CHOOSE:
        assert f"{CHOOSE[name][2]:.0%}".replace("%", " %") in card
