"""Importing rows: recognised, mapped, rejected with line and reason, split by prompt."""

import csv
import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import Session

from engine import submit, worker
from engine.chat import TEMPLATES, Chat
from engine.errors import UserError
from engine.stage import Stage
from engine.stages.data._formats import BadRow, convert, recognise
from engine.stages.data._read import read
from engine.stages.data.import_dataset import ImportDataset, is_heldout
from storage.files import Home
from storage.tables import Artifact, Event, Run
from tests.tiny_model import untrained_model

USER, ASSISTANT = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
OTHER, SYSTEM = {"role": "user", "content": "1+1?"}, {"role": "system", "content": "Count."}
TALK = {"messages": [USER, ASSISTANT]}


@pytest.mark.parametrize(
    ("row", "layout", "stored"),
    [
        ({"messages": [USER, ASSISTANT]}, "messages", TALK),
        ({"prompt": "2+2?", "completion": "4"}, "prompt/completion", TALK),
        ({"prompt": [USER], "completion": [ASSISTANT]}, "prompt/completion", TALK),
        ({"instruction": "2+2?", "input": "", "output": "4"}, "alpaca", TALK),
        ({"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]}, "sharegpt", TALK),
        ({"text": "Once upon"}, "text", {"text": "Once upon"}),
        ({"prompt": "2+2?", "answer": "4"}, "prompts", {"prompt": [USER], "answer": "4"}),
        (
            {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
            "preference",
            {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [{"role": "assistant", "content": "5"}]},
        ),
        (
            {"chosen": [USER, ASSISTANT], "rejected": [USER, {"role": "assistant", "content": "5"}]},
            "preference (implicit prompt)",
            {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [{"role": "assistant", "content": "5"}]},
        ),
        (
            {"prompt": "2+2?", "chosen": [USER, ASSISTANT], "rejected": [USER, {"role": "assistant", "content": "5"}], "messages": []},
            "preference",
            {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [{"role": "assistant", "content": "5"}]},
        ),
        (
            {"chosen": "The sky is blue.", "rejected": "The sky is black."},
            "preference (implicit prompt)",
            {
                "prompt": [{"role": "user", "content": "The sky is"}],
                "chosen": [{"role": "assistant", "content": "blue."}],
                "rejected": [{"role": "assistant", "content": "black."}],
            },
        ),
        (
            {"prompt": "2+2?", "completion": "4", "label": "false", "id": 7},
            "unpaired",
            {"prompt": [USER], "completion": [ASSISTANT], "label": False, "id": 7},
        ),
        (
            {"chosen": "\n\nHuman: 2+2?\n\nAssistant: 4", "rejected": "\n\nHuman: 2+2?\n\nAssistant: 5"},
            "preference (implicit prompt)",
            {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [{"role": "assistant", "content": "5"}]},
        ),
        (
            {"prompt": "2+2?", "chosen": "4", "rejected": "5", "margin": "1", "weight": 0.5, "note": "x"},
            "preference",
            {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [{"role": "assistant", "content": "5"}]}
            | {"margin": 1.0, "weight": 0.5, "note": "x"},
        ),
        (
            {"prompt": "2+2?", "responses": ["5", "4", "four"], "tiers": [[1, 2], [0]], "rater": "ann"},
            "tiers",
            {"prompt": [USER], "responses": ["5", "4", "four"], "tiers": [[1, 2], [0]], "rater": "ann"},
        ),
        (
            {"prompt": "2+2?", "completion": "4", "label": True},
            "unpaired",
            {"prompt": [USER], "completion": [ASSISTANT], "label": True},
        ),
    ],
)
def test_layouts_are_recognised_and_brought_into_one(row: dict[str, Any], layout: str, stored: dict[str, Any]) -> None:
    assert recognise(set(row)) == layout
    assert convert(layout, row) == stored


def test_alpaca_input_follows_the_instruction() -> None:
    made = convert("alpaca", {"instruction": "Add", "input": "2 and 2", "output": "4"})
    assert made["messages"][0]["content"] == "Add\n\n2 and 2"


@pytest.mark.parametrize(
    ("layout", "row", "reason"),
    [
        ("messages", {"messages": []}, "not a list of messages"),
        ("messages", {"messages": [USER]}, "no assistant message"),
        ("messages", {"messages": [ASSISTANT]}, "not the user's"),
        ("messages", {"messages": [USER, USER, ASSISTANT]}, "two user messages"),
        ("messages", {"messages": [{"role": "robot", "content": "x"}]}, "role 'robot'"),
        ("messages", {"messages": [USER, {"role": "assistant", "content": 4}]}, "int, not a text"),
        ("messages", {"messages": None}, "messages is missing"),
        ("prompt/completion", {"prompt": "x", "completion": "  "}, "completion is empty"),
        ("preference", {"prompt": "x", "chosen": "a", "rejected": "a"}, "the same"),
        ("unpaired", {"prompt": "x", "completion": "y", "label": "yes"}, "not true or false"),
        ("text", {"text": ""}, "text is empty"),
        ("text", {"text": "\ud83d"}, "not UTF-8"),
        ("messages", {"messages": "hello"}, "not a list of messages"),
        ("messages", {"messages": [{"role": ["user"], "content": "x"}]}, r"role \"\['user'\]\""),
        ("messages", {"messages": [USER, ASSISTANT, {"role": "system", "content": "x"}, USER, ASSISTANT]}, "not the first"),
        ("messages", {"messages": [{"role": "system", "content": "x"}, ASSISTANT]}, "not the user's"),
        ("messages", {"messages": ["hello"]}, "a str where a message should be"),
        ("sharegpt", {"conversations": [{"from": "human", "value": ""}, {"from": "gpt", "value": "x"}]}, "user message is empty"),
        ("prompts", {"prompt": [USER, ASSISTANT]}, "does not end with the user"),
        ("prompt/completion", {"prompt": "x", "completion": [USER, ASSISTANT]}, "does not begin with the assistant"),
        ("preference", {"prompt": [ASSISTANT], "chosen": "a", "rejected": "b"}, "does not end with the user"),
        ("preference (implicit prompt)", {"chosen": "yes", "rejected": "no"}, "share no beginning"),
        ("preference (implicit prompt)", {"chosen": [USER], "rejected": [USER, ASSISTANT]}, "all prompt"),
        ("preference (implicit prompt)", {"chosen": [OTHER, ASSISTANT], "rejected": [USER, ASSISTANT]}, "share no beginning"),
        ("preference (implicit prompt)", {"chosen": [SYSTEM, OTHER, ASSISTANT], "rejected": [SYSTEM, USER, ASSISTANT]}, "different"),
        (
            "preference (implicit prompt)",
            {"chosen": "\n\nHuman: 1+1?\n\nAssistant: 2", "rejected": "\n\nHuman: 2+2?\n\nAssistant: 2"},
            "share no beginning",
        ),
        ("preference", {"prompt": None, "chosen": "a", "rejected": "b"}, "prompt is missing"),
        ("preference", {"prompt": "x", "chosen": "a", "rejected": "b", "margin": "much"}, "margin is 'much', not a number"),
        ("preference", {"prompt": "x", "chosen": "a", "rejected": "b", "margin": True}, "margin is 'True', not a number"),
        ("preference", {"prompt": "x", "chosen": "a", "rejected": "b", "weight": float("nan")}, "weight is 'nan', not a number"),
        ("preference", {"prompt": "x", "chosen": "a", "rejected": "b", "weight": [1]}, "not a number"),
        ("preference", {"prompt": "x", "chosen": "a", "rejected": "b", "weight": 0}, "weight is 0, .* above 0"),
        ("preference", {"prompt": "x", "chosen": "a", "rejected": "b", "weight": "-0.5"}, "weight is -0.5"),
        ("tiers", {"prompt": "x", "responses": ["a"], "tiers": [[0]]}, "two or more answers"),
        ("tiers", {"prompt": "x", "responses": ["a", "a"], "tiers": [[0], [1]]}, "two responses are the same"),
        ("tiers", {"prompt": "x", "responses": ["a", ""], "tiers": [[0], [1]]}, "response 1 is empty"),
        ("tiers", {"prompt": "x", "responses": ["a", "b"], "tiers": [[0], []]}, "none of them empty"),
        ("tiers", {"prompt": "x", "responses": ["a", "b"], "tiers": [[0], [2]]}, "names response 2, and they are numbered 0 to 1"),
        ("tiers", {"prompt": "x", "responses": ["a", "b"], "tiers": [[0], ["b"]]}, "names response b"),
        ("tiers", {"prompt": "x", "responses": ["a", "b"], "tiers": [[0]]}, "response 1 has no places"),
        ("tiers", {"prompt": "x", "responses": ["a", "b"], "tiers": [[0, 1], [1]]}, "response 1 has 2 places"),
    ],
)
def test_bad_rows_say_why(layout: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        convert(layout, row)


def test_preference_pairs_that_cannot_be_used_are_listed_by_line(tmp_path: Path, imported: Callable[..., Any]) -> None:
    good = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(40)]
    bad = [{"prompt": "same?", "chosen": "yes", "rejected": "yes"}, {"prompt": "", "chosen": "yes", "rejected": "no"}]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*good, *bad]))
    summary, train, _ = imported(path, heldout=0)
    assert (summary["format"], len(train), summary["rejected"]) == ("preference", 40, 2)
    path = tmp_path / "implicit.jsonl"
    talks = [[{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": said}] for n, said in ((1, "a"), (2, "b"), (1, "c"))]
    path.write_text("\n".join(json.dumps({"chosen": talks[0], "rejected": other}) for other in (talks[2], talks[1])))
    summary, train, _ = imported(path, heldout=0, max_rejected=0.5)
    assert (len(train), summary["rejected"]) == (1, 1)


def test_rankings_of_several_people_are_no_duplicates(tmp_path: Path, imported: Callable[..., Any]) -> None:
    row = {"prompt": "2+2?", "responses": ["4", "5"], "tiers": [[0], [1]]}
    path = tmp_path / "tiers.jsonl"
    path.write_text("\n".join(json.dumps(row | {"rater": rater}) for rater in ("ann", "bob", "ann")))
    summary, train, _ = imported(path, heldout=0)
    assert (summary["format"], summary["duplicates"]) == ("tiers", 1)
    assert [one["rater"] for one in train] == ["ann", "bob"]


@pytest.fixture
def imported(database: Engine, home: Home, run_stage: Callable[[Stage], dict[str, int]]) -> Callable[..., tuple[dict, list, list]]:
    """Import a file; the summary and the rows of both splits."""

    def run(path: Path, **settings: Any) -> tuple[dict[str, Any], list[Any], list[Any]]:
        id = run_stage(ImportDataset(source=str(path), **settings))["dataset"]
        with Session(database) as session:
            row = session.get_one(Artifact, id)
        sides = [(home.root / row.folder / f"{s}.jsonl").read_text().splitlines() for s in ("train", "heldout")]
        return row.summary, *([json.loads(line) for line in side] for side in sides)

    return run


def talk(n: int) -> dict[str, str]:
    return {"prompt": f"what is {n}?", "completion": str(n)}


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, suffix: str, imported: Callable[..., Any]) -> None:
    path, rows = tmp_path / f"some.{suffix}", [talk(n) for n in range(20)]
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == "json":
        path.write_text(json.dumps({"data": rows}))
    elif suffix == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["prompt", "completion"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    summary, train, heldout = imported(path, heldout=0.3)
    assert summary["recognised_as"] == "prompt/completion"
    assert (summary["rows"], summary["heldout"]) == (len(train), len(heldout))
    assert {row["messages"][1]["content"] for row in train + heldout} == {str(n) for n in range(20)}


def test_text_files_are_split_at_blank_lines(tmp_path: Path, imported: Callable[..., Any]) -> None:
    path = tmp_path / "story.txt"
    path.write_text("One line\nand the next.\n\n\nSecond paragraph.\n")
    _, train, _ = imported(path, heldout=0)
    assert [row["text"] for row in train] == ["One line\nand the next.", "Second paragraph."]


def rows_of(path: Path, text: str | bytes) -> list[Any]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read(path))


def test_csv_cells_stay_text_unless_they_are_messages(tmp_path: Path) -> None:
    told = 'prompt,completion\nis it?,True\n"two\nlines","[1, 2]"\nlast,\n'
    assert rows_of(tmp_path / "x.csv", told) == [
        (2, {"prompt": "is it?", "completion": "True"}),
        (3, {"prompt": "two\nlines", "completion": "[1, 2]"}),
        (5, {"prompt": "last", "completion": None}),
    ]
    quoted = json.dumps(TALK["messages"]).replace('"', '""')
    assert rows_of(tmp_path / "y.csv", f'messages\n"{quoted}"\n') == [(2, TALK)]
    with pytest.raises(UserError, match="prompt stands in it twice"):
        rows_of(tmp_path / "z.csv", "prompt,prompt\na,b\n")


def test_json_is_a_list_or_holds_one_or_is_json_lines(tmp_path: Path) -> None:
    path, rows = tmp_path / "x.json", [talk(n) | {"pad": "é" * 700} for n in range(3000)]  # more than one chunk
    numbered = list(enumerate(rows, 1))
    assert rows_of(path, json.dumps(rows)) == rows_of(path, json.dumps({"data": rows, "version": 1}, indent=1)) == numbered
    assert rows_of(path, "\n".join(json.dumps(row) for row in rows)) == numbered
    assert rows_of(path, b"\xef\xbb\xbf [ ]") == rows_of(path, " \n") == []
    assert rows_of(path, json.dumps(TALK)) == [(1, TALK)]
    assert rows_of(path, '[{"a": 1}, 2, [3]]') == [(1, {"a": 1}), (2, "a JSON int, not an object"), (3, "a JSON list, not an object")]
    for broken, after in (('[{"a": 1}, {"a"', "after its row 1"), ("[" * 100_000, "after its row 0"), ("3 4", "after its row 0")):
        with pytest.raises(UserError, match=after) as refused:
            rows_of(path, broken)
        assert refused.value.field == "source"


def test_a_broken_parquet_file_is_refused_and_a_long_one_is_not_read_whole(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        rows_of(tmp_path / "x.parquet", b"PAR1 no")
    path = tmp_path / "long.json"
    path.write_text("[" + ",".join(json.dumps(talk(n)) for n in range(200)) + "," + " " * 50_000_000 + "broken")
    began = time.monotonic()
    shown = ImportDataset(source=str(path)).preview({})
    assert shown is not None
    assert "prompt/completion" in shown.title
    assert time.monotonic() - began < 0.5


def test_what_no_file_may_hold_is_a_bad_row_and_is_kept_apart(tmp_path: Path, imported: Callable[..., Any], home: Home) -> None:
    path = tmp_path / "odd.jsonl"
    rows = [json.dumps(talk(n)) for n in range(8)] + ['{"prompt": "x", "completion": "\\ud83d"}', '{"prompt": ' + "[" * 100_000, "[]"]
    rows.append(json.dumps(talk(9) | {"note": "\ud83d"}))
    path.write_text("\n".join(rows))
    summary, train, heldout = imported(path, max_rejected=0.5)
    assert (summary["rejected"], len(train) + len(heldout)) == (3, 9)
    apart = [json.loads(line) for line in next(home.root.rglob("rejected.jsonl")).read_text().splitlines()]
    assert [bad["line"] for bad in apart] == [9, 10, 11]
    assert apart[0] == {"line": 9, "reason": "completion is not UTF-8 text", "row": {"prompt": "x", "completion": "\ud83d"}}
    assert "\ud83d" in {row.get("note") for row in train + heldout}


def test_the_layout_is_that_of_the_first_rows_together(tmp_path: Path, imported: Callable[..., Any]) -> None:
    path = tmp_path / "gaps.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [{"prompt": "x"}, *(talk(n) for n in range(30))]))
    summary, train, heldout = imported(path)
    assert (summary["recognised_as"], summary["rejected"], len(train) + len(heldout)) == ("prompt/completion", 1, 30)


def test_the_card_says_where_the_rows_came_from(tmp_path: Path, imported: Callable[..., Any], home: Home) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(talk(n)) + "\n" for n in range(20)))
    summary, train, _ = imported(path, heldout=0.25, seed=5)
    card = json.loads(next(home.root.rglob("card.json")).read_text())
    assert card == summary
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [card[name] for name in ("source", "seed", "heldout_share", "rows")] == ["some.jsonl", 5, 0.25, len(train)]


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=50, unique=True), st.integers(0, 9), st.floats(0, 0.9))
def test_the_split_of_a_prompt_does_not_depend_on_other_rows(prompts: list[str], seed: int, share: float) -> None:
    held = {prompt for prompt in prompts if is_heldout(prompt, share, seed)}
    assert held <= {prompt for prompt in prompts if is_heldout(prompt, min(share + 0.05, 1), seed)}  # a larger share keeps them


def test_the_held_out_share_is_met() -> None:
    drawn = sum(is_heldout(f"prompt {n}", 0.1, 0) for n in range(20_000))
    assert 1_850 < drawn < 2_150
    assert not any(is_heldout(f"prompt {n}", 0, 0) for n in range(1000))


def test_rows_of_one_prompt_stay_on_one_side_and_duplicates_leave(tmp_path: Path, imported: Callable[..., Any]) -> None:
    path = tmp_path / "many.jsonl"
    rows = [{"prompt": f"p{n % 30}", "completion": f"c{n}"} for n in range(120)] + [{"prompt": "p0", "completion": "c0"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary, train, heldout = imported(path, heldout=0.4, seed=3)
    asked = [{row["messages"][0]["content"] for row in side} for side in (train, heldout)]
    assert not asked[0] & asked[1]
    assert heldout
    assert summary["duplicates"] == 1
    assert imported(path, heldout=0.4, seed=3)[2] == heldout
    assert imported(path, heldout=0.4, seed=4)[2] != heldout


def test_bad_rows_are_listed_with_their_lines(tmp_path: Path, imported: Callable[..., Any], database: Engine) -> None:
    path = tmp_path / "some.jsonl"
    lines = [json.dumps(talk(n)).encode() for n in range(40)]
    lines[6], lines[9] = b"{not json", b'{"prompt": "caf\xe9", "completion": "x"}'
    path.write_bytes(b"\n".join(lines))
    summary, _, _ = imported(path)
    assert summary["rejected"] == 2
    with Session(database) as session:
        told = [event.message for event in session.query(Event) if event.level == "warning"]
    assert told[0].startswith("line 7: not JSON")
    assert told[1] == "line 10: not UTF-8 text"


def test_too_many_bad_rows_refuse_the_import(tmp_path: Path, database: Engine, home: Home) -> None:
    path = tmp_path / "some.csv"
    path.write_text("prompt,completion\n" + "a,b\n" * 8 + "only one\n" * 2)
    run = submit.submit(database, home, ImportDataset(source=str(path))).runs[0]
    worker.work(database, home, run)
    with Session(database) as session:
        row = session.get_one(Run, run)
    assert row.status == "failed"
    assert "2 of 10 rows cannot be used" in (row.error or "")
    assert "line 10: 1 fields where the header has 2" in (row.error or "")


def test_other_columns_are_mapped_in_the_form(tmp_path: Path, imported: Callable[..., Any], database: Engine, home: Home) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps({"frage": f"q{n}", "antwort": "a", "id": n}) + "\n" for n in range(10)))
    with pytest.raises(UserError, match="antwort, frage, id") as refused:
        submit.submit(database, home, ImportDataset(source=str(path)))
    assert refused.value.field == "columns.layout"
    _, train, _ = imported(path, heldout=0, columns={"prompt": "frage", "completion": "antwort"})
    assert train[0] == {"messages": [{"role": "user", "content": "q0"}, {"role": "assistant", "content": "a"}], "id": 0}
    with pytest.raises(UserError, match="no column fragen"):
        submit.submit(database, home, ImportDataset.model_validate({"source": str(path), "columns": {"prompt": "fragen"}}))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a" * 5000 + ".csv", "there is no file"),
        ("data/x.xlsx", "there is no file"),
        ("~nobody-here/x.csv", "there is no file"),
        ("x\0.csv", "there is no file"),
        ("", "no file yet"),
        ("/nowhere/x.jsonl", "there is no file"),
        ("/tmp", "is a folder"),
        ("pyproject.toml", "these are read"),
    ],
)
def test_wrong_sources_are_refused_before_they_are_queued(source: str, message: str, database: Engine, home: Home) -> None:
    with pytest.raises(UserError, match=message) as refused:
        submit.submit(database, home, ImportDataset(source=source))
    assert refused.value.field == "source"


def test_an_empty_file_is_refused(tmp_path: Path, database: Engine, home: Home) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("\n")
    with pytest.raises(UserError, match="has no rows: choose another file") as refused:
        submit.submit(database, home, ImportDataset(source=str(path)))
    assert refused.value.field == "source"


def test_the_preview_shows_rows_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text(json.dumps(talk(1)) + "\n" + json.dumps({"prompt": "x", "completion": ""}) + "\n")
    shown = ImportDataset(source=str(path)).preview({})
    assert shown is not None
    assert "prompt/completion" in shown.title
    assert shown.columns == ("completion", "prompt")
    assert shown.rows[0].pieces == (("user: what is 1?\n", False), ("assistant: 1\n", True))
    assert shown.rows[1].problem == "line 2: completion is empty"


def test_the_preview_is_what_a_model_reads(tmp_path: Path, add_artifact: Callable[..., int], database: Engine, home: Home) -> None:
    model = untrained_model(tmp_path / "tiny")
    (model / "chat_template.jinja").write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + TEMPLATES["chatml"]
    )
    path = tmp_path / "some.jsonl"
    system = {"messages": [{"role": "system", "content": "be brief"}, USER, ASSISTANT]}
    path.write_text("\n".join([json.dumps(TALK), "{", json.dumps(system)]))
    settings = ImportDataset(source=str(path), preview_with=add_artifact("model", "tiny", model))
    shown = submit.preview(database, home, settings)
    assert shown is not None
    assert [text.strip() for text, loss in shown.rows[0].pieces if loss] == ["4<|im_end|>"]
    assert shown.rows[0].tokens == len(Chat.open(model).encode(TALK["messages"]).ids)
    assert shown.rows[1].problem.startswith("line 2: not JSON")
    assert shown.rows[2].problem == "line 3: the chat template refuses this conversation: no system turn"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "x", "chosen": "a", "rejected": "b"},
        {"prompt": "x", "completion": "a", "label": True},
        {"prompt": "x"},
        {"text": "x"},
        {"prompt": "x", "completion": 3, "messages": [USER, ASSISTANT]},
    ],
)
@pytest.mark.parametrize("with_model", [False, True])
def test_every_format_has_a_preview(
    row: dict[str, Any], with_model: bool, tmp_path: Path, add_artifact: Callable[..., int], database: Engine, home: Home
) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(row))
    model = add_artifact("model", "tiny", untrained_model(tmp_path / "tiny")) if with_model else None
    shown = submit.preview(database, home, ImportDataset(source=str(path), preview_with=model))
    assert shown is not None
    assert shown.rows[0].problem == ""
    assert "x" in shown.rows[0].pieces[0][0] or "2" in shown.rows[0].pieces[0][0]
    assert bool(shown.rows[0].tokens) == with_model
    assert any(loss for _, loss in shown.rows[0].pieces) == (set(row) != {"prompt"})


@pytest.mark.parametrize("hanging", [False, True])
def test_an_unreachable_hub_is_one_sentence_within_five_seconds(
    hanging: bool, database: Engine, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if hanging:
            server.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        run = submit.submit(database, home, ImportDataset(source="some/dataset")).runs[0]
        began = time.monotonic()
        worker.work(database, home, run)
        assert time.monotonic() - began < 5
    with Session(database) as session:
        assert "cannot be reached" in (session.get_one(Run, run).error or "")


class Empty(BaseHTTPRequestHandler):
    """A hub that answers and has nothing."""

    def answer(self) -> None:
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = answer

    def log_message(self, *told: object) -> None:
        pass


def test_what_the_hub_does_not_have_is_one_sentence(database: Engine, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        run = submit.submit(database, home, ImportDataset(source="some/dataset")).runs[0]
        # A child: the hub's client reads its address when it is imported.
        done = subprocess.run([sys.executable, "-m", "engine", "work", str(run)], check=False, cwd=Path(__file__).parents[2])
        hub.shutdown()
    with Session(database) as session:
        error = session.get_one(Run, run).error or ""
    assert done.returncode == 1
    assert error.startswith("the hub does not give some/dataset, split train: ")
    assert "\n" not in error
