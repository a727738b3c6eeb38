"""Importing rows: recognised, mapped, rejected with line and reason, split by prompt."""

import csv
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from engine import submit, worker
from engine.errors import UserError
from engine.stage import Stage
from engine.stages.data._formats import BadRow, convert, recognise
from engine.stages.data.import_dataset import ImportDataset
from storage.files import Home
from storage.tables import Artifact, Event, Run

USER, ASSISTANT = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
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
    ],
)
def test_bad_rows_say_why(layout: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        convert(layout, row)


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
    [("", "no file yet"), ("/nowhere/x.jsonl", "there is no file"), ("/tmp", "is a folder"), ("pyproject.toml", "these are read")],
)
def test_wrong_sources_are_refused_before_they_are_queued(source: str, message: str, database: Engine, home: Home) -> None:
    with pytest.raises(UserError, match=message) as refused:
        submit.submit(database, home, ImportDataset(source=source))
    assert refused.value.field == "source"


def test_an_empty_file_is_refused(tmp_path: Path, database: Engine, home: Home) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("\n")
    run = submit.submit(database, home, ImportDataset(source=str(path))).runs[0]
    worker.work(database, home, run)
    with Session(database) as session:
        assert "has no rows" in (session.get_one(Run, run).error or "")


def test_the_preview_shows_rows_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text(json.dumps(talk(1)) + "\n" + json.dumps({"prompt": "x", "completion": ""}) + "\n")
    shown = ImportDataset(source=str(path)).preview({})
    assert shown is not None
    assert "prompt/completion" in shown.title
    assert shown.columns == ("completion", "prompt")
    assert shown.rows[0].pieces == (("user: what is 1?\n", False), ("assistant: 1\n", True))
    assert shown.rows[1].problem == "completion is empty"


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
