"""What people change about rows: keys that last, changes laid over rows, texts rewritten, and what is said of it all."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import curation
from engine.curation import Change, Line, Search, described, found, laid, rewritten, row_keys, tag, tags_of, texts, valid
from engine.errors import UserError
from engine.stages.data._formats import LAYOUTS, BadRow, convert

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def talk(user: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"messages": [message("user", user), message("assistant", answer)], **more}


ask, say = [message("user", "why?")], [message("assistant", "so.")]
ROWS = {
    "messages": talk("why?", "so.", source="web"),
    "preference": {"prompt": ask, "chosen": say, "rejected": [message("assistant", "no.")]},
    "unpaired": {"prompt": ask, "completion": say, "label": True},
    "prompts": {"prompt": ask, "answer": "so", "accept": ["thus", "hence"], "tags": ["why"]},
    "text": {"text": "a text"},
    "tiers": {"prompt": ask, "responses": ["so.", "no."], "tiers": [[1], [0]], "comment": "the second is right"},
}


@given(st.lists(st.sampled_from([{"text": text} for text in "abc"]), max_size=12))
def test_every_row_has_a_key_of_its_own_that_neither_place_nor_order_changes(rows: list[dict[str, Any]]) -> None:
    keys = row_keys("train", rows)
    assert len(set(keys)) == len(rows)
    assert sorted(row_keys("train", rows[::-1])) == sorted(keys)
    assert not set(row_keys("heldout", rows)) & set(keys)
    assert row_keys("train", [dict(reversed(row.items())) for row in rows]) == keys
    assert row_keys("train", json.loads(json.dumps(rows))) == keys


def test_a_key_is_the_same_in_every_release() -> None:
    digest = hashlib.sha256(rb'["train", {"text": "\u00e9"}]').hexdigest()[:20]
    assert row_keys("train", [{"text": "é"}] * 2) == [digest, f"{digest}-2"]


def test_every_format_is_tried_here() -> None:
    assert {stored for _, stored, _ in LAYOUTS.values()} == set(ROWS)


@pytest.mark.parametrize("format", ROWS)
def test_each_text_of_each_format_can_be_rewritten_and_nothing_else_moves(format: str) -> None:
    row = ROWS[format]
    for text in texts(row):
        typed = "false" if text.place == "label" else "another"
        new = rewritten(format, row, {text.place: typed})
        assert new != row
        assert [one.content for one in texts(new)] == [typed if one.place == text.place else one.content for one in texts(row)]
        assert convert(format, new) == new, "a row that was rewritten is one an import would store"
    assert ROWS[format] == row


@pytest.mark.parametrize("format", ROWS)
def test_what_an_import_refuses_is_refused_with_the_same_words(format: str) -> None:
    place = texts(ROWS[format])[0].place
    with pytest.raises(UserError, match="is empty") as refused:
        rewritten(format, ROWS[format], {place: "  \n"})
    assert refused.value.field == "row"


def test_a_pair_made_equal_and_a_place_that_is_not_there_are_refused() -> None:
    with pytest.raises(UserError, match="chosen and rejected are the same"):
        rewritten("preference", ROWS["preference"], {"rejected.0": "so."})
    for place in ("messages.7", "messages", "nothing", "messages.-1", "__class__"):
        with pytest.raises(UserError, match="has no text"):
            rewritten("messages", ROWS["messages"], {place: "x"})
    with pytest.raises(UserError, match="cannot be rewritten here"):
        valid("from another version", {})


def test_line_ends_that_a_browser_cannot_hold_are_no_change() -> None:
    row = talk("one\r\ntwo\rthree", "so.")
    assert rewritten("messages", row, {"messages.0": "one\ntwo\nthree", "messages.1": "so."}) == row
    assert rewritten("messages", row, {"messages.0": "one\ntwo", "messages.1": "so."})["messages"][0]["content"] == "one\ntwo"


@given(st.sampled_from(list(ROWS)), TEXT)
def test_a_rewritten_row_is_valid_or_refused(format: str, typed: str) -> None:
    row = ROWS[format]
    place = texts(row)[-1].place
    try:
        new = rewritten(format, row, {place: typed})
    except UserError:
        return
    try:
        assert convert(format, new) == new
    except BadRow as reason:
        raise AssertionError(new) from reason


def test_changes_are_laid_over_the_rows_they_belong_to() -> None:
    rows = {"train": [{"text": "a", "tags": ["old"]}, {"text": "b"}], "heldout": [{"text": "c"}]}
    first, second = row_keys("train", rows["train"])
    changed = Change(tags=("new",), row={"text": "A", "tags": ["old"]})
    lines = laid(rows, {first: changed, second: Change(excluded="wrong"), "gone": Change()})
    assert [(line.split, line.row["text"], line.tags, line.excluded, line.edited) for line in lines] == [
        ("train", "A", ("new",), None, True), ("train", "b", (), "wrong", False), ("heldout", "c", (), None, False),
    ]  # fmt: skip
    assert [line.result() for line in lines] == [{"text": "A", "tags": ["new"]}, {"text": "b"}, {"text": "c"}]
    assert laid(rows, {first: Change()})[0].result() == {"text": "a"}, "its last tag was taken away"


@pytest.mark.parametrize(
    ("held", "tags"), [(["a", "b", "a"], ("a", "b")), ("maths", ("maths",)), ([1, " ", "x"], ("x",)), (None, ()), (3, ())]
)
def test_tags_a_row_came_with(held: Any, tags: tuple[str, ...]) -> None:
    assert tags_of({"text": "a", "tags": held}) == tags
    line = Line("k", "train", {"text": "a", "tags": held})
    assert not line.tagged
    assert line.result() == line.was, "what nobody changed stays as it was, also where it is no list of tags"


def test_what_cannot_be_a_tag_or_a_reason_is_refused() -> None:
    assert tag(("a",), "  two   words ") == ("a", "two words")
    assert tag(("a",), "a") == ("a",)
    for bad in ("", "   ", "a,b", "a;b", "x" * 41, "\u202eback", "nul\0"):
        with pytest.raises(UserError):
            tag((), bad)
    with pytest.raises(UserError, match="20 tags"):
        tag(tuple(map(str, range(20))), "one more")
    assert curation.reason(" not\nEnglish ") == "not English"
    for bad in ("", " ", "x" * 201, "\u202eback"):
        with pytest.raises(UserError):
            curation.reason(bad)


def test_what_was_changed_is_said_in_a_sentence() -> None:
    def line(number: int, **change: Any) -> Line:
        return Line(str(number), "train", {"text": "t"}, Change(**change))

    lines = [line(n, excluded="near-duplicate") for n in range(8)] + [line(n, excluded="wrong", tags=("x",)) for n in range(8, 12)]
    lines += [line(n, row={"text": "u"}, tags=("x",) if n == 12 else ()) for n in range(12, 15)]
    lines += [line(n, tags=("x",)) for n in range(15, 34)]
    assert described(lines) == "12 rows excluded (8 near-duplicate, 4 wrong), 3 edited, 20 tagged"
    assert described(lines, {"14": "tagged x"}) == "13 rows excluded (8 near-duplicate, 4 wrong, 1 tagged x), 2 edited, 20 tagged"
    assert described(lines[8:9]) == "1 row excluded (1 wrong)"
    assert described([Line("1", "train", {"text": "t"}), line(2)]) == "nothing changed"


def test_search_by_words_tags_state_and_loss() -> None:
    rows = {"train": [talk("Where is PARIS?", "In France."), talk("And Rome?", "In Italy.", tags=["city"]), talk("Two?", "Three.")]}
    paris, rome, two = row_keys("train", rows["train"])
    lines = laid(rows, {two: Change(excluded="wrong"), paris: Change(row=talk("Where is Paris?", "In France, on the Seine."))})

    def keys(losses: dict[str, float] | None = None, **search: Any) -> list[str]:
        return [line.key for line in found(lines, Search(**search), losses or {})]

    assert keys() == [paris, rome, two]
    assert keys(words="paris FRANCE") == keys(words="seine") == [paris], "all the words, in any text, as it says now"
    assert keys(words="paris italy") == []
    assert keys(tag="city") == keys(state="kept", words="in", tag="city") == [rome]
    assert (keys(state="excluded"), keys(state="edited"), keys(state="kept"), keys(state="heldout")) == ([two], [paris], [paris, rome], [])
    assert keys({two: 0.5, rome: 3.0}, by_loss=True) == [rome, two, paris]
