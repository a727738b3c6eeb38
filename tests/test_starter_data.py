"""The starter data is what its cards say."""

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "assets" / "datasets"


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text().splitlines()]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def grams(text: str, size: int = 3) -> set[tuple[str, ...]]:
    parts = words(text)
    return {tuple(parts[i : i + size]) for i in range(len(parts) - size + 1)}


TRAINED, ASKED = rows("short-answers.jsonl"), rows("quickstart-prompts.jsonl")
QUESTIONS = [row["messages"][0]["content"] for row in TRAINED]
PROMPTS = [row["prompt"][0]["content"] for row in ASKED]


@pytest.mark.parametrize(("name", "of"), [("short-answers", TRAINED), ("quickstart-prompts", ASKED)])
def test_counts_are_the_cards(name: str, of: list[dict[str, Any]]) -> None:
    card = (FOLDER / f"{name}.md").read_text()
    table = {tag: int(count) for tag, count in re.findall(r"^\| (\S+) \| (\d+) \|", card, re.M)}
    assert Counter(row["tags"][0] for row in of) == table


def test_sizes() -> None:
    assert len(TRAINED) >= 150
    assert [sum(row["tags"] == [tag] for row in ASKED) for tag in ("fact", "open")] == [40, 24]


def test_rows_are_one_question_and_one_short_answer() -> None:
    for row in TRAINED:
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
        assert 0 < len(words(row["messages"][1]["content"])) <= 60
        assert row["messages"][1]["content"] == row["messages"][1]["content"].strip()


def test_nothing_is_asked_twice_and_nothing_asked_is_trained_on() -> None:
    plain = [" ".join(words(text)) for text in QUESTIONS + PROMPTS]
    assert [text for text, count in Counter(plain).items() if count > 1] == []


def test_no_two_rows_come_from_one_template() -> None:
    alike = [
        (one, two)
        for one, two in combinations(QUESTIONS, 2)
        if (a := grams(one)) and (b := grams(two)) and len(a & b) / len(a | b) > 0.5
    ]
    assert alike == []


def test_the_fact_prompts_accept_their_answer() -> None:
    facts = [row for row in ASKED if row["tags"] == ["fact"]]
    assert all(row["answer"] in row["accept"] for row in facts)
    assert not any("accept" in row for row in ASKED if row["tags"] == ["open"])


def test_sums_are_right() -> None:
    """Every bare sum among the questions, computed here."""
    answers = {row["messages"][0]["content"]: row["messages"][1]["content"] for row in TRAINED}
    known = {
        "What is 17 + 25?": 17 + 25, "Compute 9 times 7.": 63, "Add 3.5 and 2.75.": 6.25, "what's half of 86": 43,
        "Subtract 46 from 100, please.": 54, "What is 144 divided by 12?": 12, "Double 37.": 74, "2 to the power of 5 equals?": 2**5,
        "How many days are in six weeks?": 42, "What is 1,000 minus 1?": 999, "How much is 15 percent of 200?": 30,
    }  # fmt: skip
    assert {question: float(answers[question]) for question in known} == known
