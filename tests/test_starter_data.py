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
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def grams(text: str, size: int) -> set[tuple[str, ...]]:
    parts = words(text)
    return {tuple(parts[i : i + size]) for i in range(len(parts) - size + 1)}


def alike(one: str, two: str, size: int) -> float:
    a, b = grams(one, size), grams(two, size)
    return len(a & b) / len(a | b) if a and b else 0.0


TRAINED, ASKED = rows("short-answers.jsonl"), rows("quickstart-prompts.jsonl")
QUESTIONS = [row["messages"][0]["content"] for row in TRAINED]
PROMPTS = [row["prompt"][0]["content"] for row in ASKED]

# The result of every arithmetic row, computed here (a duration in minutes).
SUMS = {
    "I have 50 euros and spend 18. How much is left?": 50 - 18,
    "A shirt costs 40 and is reduced by a quarter. What is the new price?": 40 * 3 / 4,
    "Add 3.5 and 2.75.": 3.5 + 2.75,
    "Eight boxes hold six cups each; how many cups in all?": 8 * 6,
    "What number comes next: 2, 4, 8, 16?": 16 * 2,
    "Write 3/4 as a percentage.": 100 * 3 / 4,
    "Compute 9 times 7.": 9 * 7,
    "what's half of 86": 86 / 2,
    "How many seconds are there in three and a half minutes?": 3.5 * 60,
    "Round 6.78 to one decimal place.": round(6.78, 1),
    "A train leaves at 14:20 and arrives at 16:05. How long is the trip?": (16 * 60 + 5) - (14 * 60 + 20),
    "What is the average of 10, 20 and 60?": (10 + 20 + 60) / 3,
    "Subtract 46 from 100, please.": 100 - 46,
    "If one pen costs 1.20, what do five pens cost?": 120 * 5 / 100,
    "A dozen eggs minus five: how many remain?": 12 - 5,
    "What is 144 divided by 12?": 144 / 12,
    "Double 37.": 37 * 2,
    "Which is larger, 0.6 or 0.58?": max(0.6, 0.58),
    "2 to the power of 5 equals?": 2**5,
    "How much is 15 percent of 200?": 15 * 200 / 100,
    "The sides of a rectangle are 4 m and 6 m. What is its area?": 4 * 6,
    "Three friends share 27 cookies equally. How many does each get?": 27 / 3,
    "What is 17 + 25?": 17 + 25,
    "She was born in 1990. How old did she turn in 2020?": 2020 - 1990,
    "What is 1,000 minus 1?": 1000 - 1,
}


@pytest.mark.parametrize(("name", "of"), [("short-answers", TRAINED), ("quickstart-prompts", ASKED)])
def test_counts_are_the_cards(name: str, of: list[dict[str, Any]]) -> None:
    card = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    table = {tag: int(count) for tag, count in re.findall(r"^\| (\S+) \| (\d+) \|", card, re.M)}
    assert Counter(row["tags"][0] for row in of) == table
    assert f"{len(of)} " in card
    assert "Apache-2.0" in card


def test_sizes() -> None:
    assert len(TRAINED) == 200
    assert len(ASKED) == 64
    assert [sum(row["tags"] == [tag] for row in ASKED) for tag in ("fact", "open")] == [40, 24]


def test_rows_have_their_fields_and_nothing_else() -> None:
    for row in TRAINED:
        assert set(row) == {"messages", "tags"}
        assert [set(turn) for turn in row["messages"]] == [{"role", "content"}] * 2
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
        assert len(row["tags"]) == 1
    for row in ASKED:
        assert set(row) == ({"prompt", "tags", "answer", "accept"} if row["tags"] == ["fact"] else {"prompt", "tags"})
        assert [turn["role"] for turn in row["prompt"]] == ["user"]
    texts = [turn["content"] for row in TRAINED for turn in row["messages"]] + PROMPTS
    assert [text for text in texts if not text or text != text.strip()] == []


def test_answers_are_short_and_have_the_form_of_their_tag() -> None:
    for row in TRAINED:
        answer = row["messages"][1]["content"]
        lines = answer.splitlines()
        assert 0 < len(words(answer)) <= 80
        match row["tags"][0]:
            case "fact":
                assert len(words(answer)) <= 5, answer
                assert not answer.endswith("."), answer
            case "how-to":
                numbered = all(line.startswith(f"{i}. ") for i, line in enumerate(lines, 1))
                assert len(lines) == 3 if numbered else 2 <= len(re.findall(r"\.(?:\s|$)", answer)) <= 4, answer
            case "rewriting" | "arithmetic":
                assert len(lines) == 1, answer
            case "list":
                assert 3 <= len(lines) <= 5, answer
                assert all(line.startswith(("- ", f"{i}. ")) for i, line in enumerate(lines, 1)), answer
            case "refusal":
                assert len(lines) == 1, answer
                assert len(re.findall(r"[.?!](?:\s|$)", answer)) <= 2, answer


def test_nothing_is_asked_twice_and_nothing_asked_is_trained_on() -> None:
    plain = [" ".join(words(text)) for text in QUESTIONS + PROMPTS]
    assert [text for text, count in Counter(plain).items() if count > 1] == []


@pytest.mark.parametrize(("size", "limit"), [(3, 0.4), (4, 0.3)])
def test_no_two_questions_come_from_one_template(size: int, limit: float) -> None:
    """In either file, and between the two."""
    assert [(one, two) for one, two in combinations(QUESTIONS + PROMPTS, 2) if alike(one, two, size) >= limit] == []


def test_the_check_for_templates_finds_one() -> None:
    assert alike("What is the capital of Norway?", "What is the capital of France?", 3) >= 0.4


def test_the_fact_prompts_accept_their_answer() -> None:
    for row in ASKED:
        if row["tags"] == ["fact"]:
            assert row["answer"] in row["accept"], row
            assert len(set(row["accept"])) == len(row["accept"]), row


def test_sums_are_right() -> None:
    answers = {row["messages"][0]["content"]: row["messages"][1]["content"] for row in TRAINED if row["tags"] == ["arithmetic"]}
    assert answers.keys() == SUMS.keys()
    for question, result in SUMS.items():
        answer = answers[question]
        if hours := re.fullmatch(r"(\d+) hours? (\d+) minutes", answer):
            said = float(hours[1]) * 60 + float(hours[2])
        else:
            said = float(re.findall(r"\d+(?:\.\d+)?", answer.split("=")[-1])[0])
        assert said == pytest.approx(result), question
        if working := re.match(r"([\d. x/-]+) = ", answer):
            left, sign, right = working[1].split()
            a, b = float(left), float(right)
            assert {"x": a * b, "-": a - b, "/": a / b if b else None}[sign] == pytest.approx(result), question


def test_no_prompt_for_the_comparison_is_among_those_that_are_ranked() -> None:
    ask, unseen = rows("rankings/ask.jsonl"), rows("rankings/unseen.jsonl")
    for some in (ask, unseen):
        assert Counter(row["tags"][0] for row in some) == dict.fromkeys(("advice", "explain", "fact", "write", "format"), 8)
    assert max(alike(one["prompt"], two["prompt"], 3) for one in ask for two in unseen) < 0.6
    taught = [*QUESTIONS, *PROMPTS]
    assert not {row["prompt"].casefold() for row in [*ask, *unseen]} & {text.casefold() for text in taught}
