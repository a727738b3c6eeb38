"""A comparison on its way to somebody else: whole, readable elsewhere, and harmless."""

import csv
import io
import itertools
import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.differences import alike, changed
from engine.exchange import Answered, Compared, Side, csv_rows, html, llm_comparator
from tests.browser.seed import HOSTILE

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
    told = "".join(html(HOSTILE, SIDES, [row(answered(HOSTILE), answered(HOSTILE[3:]), ask=HOSTILE)], [[HOSTILE, "1", "2"]], [HOSTILE]))
    read = Read(told)
    assert not {"script", "img", "link", "iframe", "object"} & set(read.tags)
    assert not any(name.startswith("on") or name == "src" for name, _ in read.attributes)
    assert not any(value and value.startswith("http") for _, value in read.attributes)
    assert "".join(read.texts).count("window.hacked=1") >= 5
    assert "default-src 'none'" in told


def test_what_changed_is_marked_and_long_answers_fold() -> None:
    told = "".join(html("t", SIDES, [row(answered("The capital is Paris."), answered("The capital is Rome."))], [], []))
    assert "<ins>Rome</ins>" in told
    long = "".join(html("t", SIDES, [row(answered("x" * 5000), None)], [], []))
    assert "5,000 characters" in long
    assert "not asked" in long


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
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")), "a spreadsheet would run it"


def test_csv_without_rows_has_its_head() -> None:
    assert "".join(csv_rows(SIDES, [], [])).startswith("prompt_key,prompt,")


def test_llm_comparator_s_schema() -> None:
    told = llm_comparator(SIDES, [row(answered("a", Exact=1.0), answered("b", Exact=0.0)), row(answered("only one"), None)])
    assert json.loads(json.dumps(told)) == told
    assert told["models"] == [{"name": "base <b>"}, {"name": "tuned"}]
    (example,) = told["examples"]
    assert set(example) == {"input_text", "tags", "output_text_a", "output_text_b", "score", "individual_rater_scores", "custom_fields"}
    assert example["score"] is None
    assert example["custom_fields"]["Exact"] == [1.0, 0.0]
    assert {field["name"] for field in told["metadata"]["custom_fields_schema"]} == set(example["custom_fields"])
    with pytest.raises(ValueError, match="two models, not 1"):
        llm_comparator(SIDES[:1], [])


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_pieces_of_a_difference_are_the_later_text(before, after) -> None:
    pieces = changed(before, after)
    assert "".join(text for text, _ in pieces) == after
    assert not any(new for _, new in changed(after, after))
    assert alike(after, after) or not after.split()
