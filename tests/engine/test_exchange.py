"""A comparison on its way to somebody else: whole, readable elsewhere, and harmless."""

import csv
import io
import itertools
import json
import re
import time
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.differences import alike, changed
from engine.exchange import Answered, Compared, Side, csv_rows, html, llm_comparator
from tests.browser.seed import HOSTILE

# Each word often, but none so often that it is passed over.
TURNING = [" ".join(f"w{number * step % 120}" for number in range(12_000)) for step in (1, 7)]
FORMULAS = tuple("=+-@\t\r\n＝＋－＠")
SIDES = [Side("base <b>", {"chat template": "chatml"}), Side("tuned", {})]


def answered(text: str, **scores: float) -> Answered:
    return Answered(text, "", "stop", 3, scores)


def row(*answers: Answered | None, ask: str = "What?", number: int = 0) -> Compared:
    return Compared(f"k{number}", [{"role": "user", "content": ask}], ["fact"], ["Paris", "paris"], list(answers))


class Read(HTMLParser):
    """The tags and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    words = "so many words that both have "
    rows = [
        row(answered(HOSTILE), Answered(HOSTILE, HOSTILE, HOSTILE, 3, {HOSTILE: 1.0}), ask=HOSTILE),
        row(answered(words * 9), answered(words * 9 + HOSTILE)),
        row(answered("x" * 5000 + HOSTILE), None),
    ]
    told = "".join(html(HOSTILE, [Side(HOSTILE, {HOSTILE: HOSTILE}), SIDES[1]], rows, [[HOSTILE, "1", "2"]], [HOSTILE]))
    assert "<ins>" in told
    read = Read(told)
    assert not {"script", "img", "link", "iframe", "object"} & set(read.tags)
    assert not any(name.startswith("on") or name == "src" for name, _ in read.attributes)
    assert not any(value and value.startswith("http") for _, value in read.attributes)
    assert "".join(read.texts).count("window.hacked=1") >= 5
    assert "default-src 'none'" in told
    style = re.search("<style>(.*)</style>", told, re.DOTALL)[1]
    assert f"style-src 'sha256-{b64encode(sha256(style.encode()).digest()).decode()}';" in told, "no other style may act"
    assert "unsafe" not in told


def test_what_changed_is_marked_and_long_answers_fold() -> None:
    told = "".join(html("t", SIDES, [row(answered("The capital is Paris."), answered("The capital is Rome."))], [], []))
    assert "<ins>Rome</ins>" in told
    long = "".join(html("t", SIDES, [row(answered("x" * 5000), None)], [], []))
    assert "5,000 characters" in long
    assert "not asked" in long
    asked = "".join(html("t", SIDES, [row(answered("a"), answered("b"), ask="y" * 3000)], [], []))
    assert "3,000 characters" in asked


def test_ten_thousand_prompts_stream() -> None:
    made = iter(itertools.count())

    def rows():
        for _ in range(10_000):
            yield row(answered("a"), answered("b"), number=next(made))

    pages = html("t", SIDES, rows(), [], [])
    for _ in range(5):
        next(pages)
    assert next(made) < 10, "what is not asked for yet is not made yet"


@given(st.lists(st.text(max_size=30), min_size=2, max_size=2), st.text(min_size=1, max_size=30))
def test_csv_comes_back(answers, ask) -> None:
    told = "".join(csv_rows(SIDES, [row(*[answered(text, m=0.5) for text in answers], ask=ask)], ["m"]))
    head, cells = csv.reader(io.StringIO(told, newline=""))
    names = ("answer", "finish_reason", "tokens", "m")
    assert head == ["prompt_key", "prompt", "tags", "references", *[f"{s}: {n}" for s in ("base <b>", "tuned") for n in names]]
    for cell, text in zip((cells[1], cells[4], cells[8]), (ask, *answers), strict=True):
        assert cell.removeprefix("'").replace("\r\n", "\n") == text.removeprefix("'").replace("\r\n", "\n")
        assert not cell.startswith(FORMULAS), "a spreadsheet would run it"


@pytest.mark.parametrize("sign", FORMULAS)
def test_a_cell_that_would_be_a_formula_begins_with_an_apostrophe(sign: str) -> None:
    told = "".join(csv_rows(SIDES, [row(answered(f"{sign}cmd|' /C calc'!A0", m=-1.0), None)], ["m"]))
    (_, cells) = csv.reader(io.StringIO(told, newline=""))
    assert cells[4] == f"'{sign}cmd|' /C calc'!A0"
    assert cells[5:] == ["stop", "3", "-1.0", "", "", "", ""], "a number stays a number, and who was not asked has nothing"
    assert told.endswith("\r\n")


def test_csv_without_rows_has_its_head() -> None:
    assert "".join(csv_rows(SIDES, [], [])).startswith("prompt_key,prompt,")


def test_llm_comparator_s_schema() -> None:
    rows = [row(answered("a", Exact=1.0), answered("b", Exact=0.0)), row(answered("c", Length=2.0), Answered("d", "", "", None, {}))]
    told = llm_comparator(SIDES, [*rows, row(answered("only one"), None)])
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert set(told) == {"metadata", "models", "examples"}
    assert told["models"] == [{"name": "base <b>"}, {"name": "tuned"}]
    schema = {field["name"]: field["type"] for field in told["metadata"]["custom_fields_schema"]}
    of_model = {"tokens", "Exact", "Length"}
    assert schema == {"expected": "string", "finish_reason": "per_model_category"} | dict.fromkeys(of_model, "per_model_number")
    assert len(told["examples"]) == 2
    for example in told["examples"]:
        texts = {"input_text", "tags", "output_text_a", "output_text_b"}
        assert set(example) == texts | {"score", "individual_rater_scores", "custom_fields"}
        assert example["score"] is None
        assert set(example["custom_fields"]) == set(schema), "the viewer stops at a field that is not there"
        assert all(len(values) == 2 for name, values in example["custom_fields"].items() if schema[name].startswith("per_model"))
    assert told["examples"][0]["custom_fields"]["Exact"] == [1.0, 0.0]
    assert told["examples"][1]["custom_fields"]["Length"] == [2.0, None]
    assert told["examples"][1]["custom_fields"]["finish_reason"] == ["stop", None]
    with pytest.raises(ValueError, match="two models, not 1"):
        llm_comparator(SIDES[:1], [])


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_pieces_of_a_difference_are_the_later_text(before, after) -> None:
    pieces = changed(before, after)
    assert "".join(text for text, _ in pieces) == after
    assert not any(new for _, new in changed(after, after))
    assert alike(after, after)


@pytest.mark.parametrize(
    "before, after, marked",
    [
        ("The capital is Paris.", "The capital is Rome, now.", ["Rome, now"]),
        ("one two three", "one  two\nthree", []),
        ("今天天气很好。", "今天天气不好。", ["不"]),
        ("", "all new", ["all new"]),
    ],
)
def test_what_a_person_would_mark(before: str, after: str, marked: list[str]) -> None:
    assert [text for text, new in changed(before, after) if new] == marked


@pytest.mark.parametrize("one, other", [("go " * 1000, "x " + "go go stop " * 330), (TURNING[0], TURNING[1]), ("中" * 9000, "国" * 9000)])
def test_models_in_a_loop_are_compared_at_once(one: str, other: str) -> None:
    began = time.process_time()
    alike(one, other)
    assert "".join(text for text, _ in changed(one, other)) == other
    assert time.process_time() - began < 1
