"""The stage that makes a new dataset of what people changed: what was said is done, and the old dataset stays as it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from engine import submit, worker
from engine.curation import row_keys
from engine.stage import Stage
from engine.stages.data.curate import Curate
from storage import edits
from storage.files import Home
from storage.queries import utc_now
from storage.tables import Artifact, Event, Run


def talk(user: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}], **more}


LONG = "Please explain in a few plain words why the sky over a city looks blue at noon and red in the evening"
TRAIN = [
    talk("Capital of France?", "Berlin."),
    talk("Capital of Italy?", "Rome."),
    talk(LONG, "Light scatters."),
    talk(LONG + ".", "Light scatters!"),
    talk("2 and 2?", "4", tags=["sum"]),
]
HELDOUT = [talk("Capital of Spain?", "Madrid."), talk(LONG + "?", "Light scatters.")]


class Desk:
    """A dataset, what somebody says of its rows, and what comes of it."""

    def __init__(self, database: Engine, home: Home, add: Callable[..., int], run: Callable[[Stage], dict[str, int]], folder: Path) -> None:
        self.database, self.home, self.run = database, home, run
        self.folder = folder / "data"
        self.folder.mkdir()
        for split, rows in (("train", TRAIN), ("heldout", HELDOUT)):
            (self.folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.id = add("dataset", "talks", self.folder, format="messages", rows=len(TRAIN), heldout=len(HELDOUT), columns=["messages"])
        self.train, self.heldout = row_keys("train", TRAIN), row_keys("heldout", HELDOUT)

    def say(self, key: str, tags: tuple[str, ...] = (), excluded: str | None = None, row: dict[str, Any] | None = None) -> None:
        with Session(self.database) as session:
            edits.write(session, self.id, key, "ann", utc_now(), list(tags), excluded, row)
            session.commit()

    def make(self, **settings: Any) -> tuple[Artifact, dict[str, list[dict[str, Any]]]]:
        id = self.run(Curate(dataset=self.id, **settings))["dataset"]
        with Session(self.database) as session:
            row = session.get_one(Artifact, id)
        folder = self.home.root / row.folder
        names = ("train", "heldout", "changes")
        return row, {name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()] for name in names}


@pytest.fixture
def desk(database: Engine, home: Home, add_artifact: Any, run_stage: Any, tmp_path: Path) -> Desk:
    return Desk(database, home, add_artifact, run_stage, tmp_path)


def test_edits_exclusions_and_tags_are_applied_and_written_down(desk: Desk) -> None:
    before = {path.name: path.read_bytes() for path in desk.folder.iterdir()}
    right = talk("Capital of France?", "Paris.")
    desk.say(desk.train[0], ("fact",), row=right)
    desk.say(desk.train[1], excluded="off topic")
    desk.say(desk.train[4])
    desk.say(desk.heldout[0], ("fact",))
    row, files = desk.make()
    assert files["train"] == [right | {"tags": ["fact"]}, TRAIN[2], TRAIN[3], talk("2 and 2?", "4")]
    assert files["heldout"] == [HELDOUT[0] | {"tags": ["fact"]}, HELDOUT[1]], "held out stays held out"
    assert row.name == "talks, curated"
    assert row.summary == {
        "format": "messages", "rows": 4, "heldout": 2, "columns": ["messages", "tags"], "source": "talks",
        "changes": "1 row excluded (1 off topic), 1 edited, 3 tagged", "excluded": {"off topic": 1},
    }  # fmt: skip
    told = {one["row_key"]: one for one in files["changes"]}
    assert set(told) == {desk.train[0], desk.train[1], desk.train[4], desk.heldout[0]}
    assert (told[desk.train[0]]["before"], told[desk.train[0]]["after"]) == (TRAIN[0], files["train"][0])
    assert told[desk.train[1]]["excluded"] == "off topic"
    assert "after" not in told[desk.train[1]]
    assert {path.name: path.read_bytes() for path in desk.folder.iterdir()} == before, "the dataset itself never changes"


def test_nothing_said_is_nothing_changed(desk: Desk) -> None:
    row, files = desk.make()
    assert (files["train"], files["heldout"], files["changes"]) == (TRAIN, HELDOUT, [])
    assert row.summary["changes"] == "nothing changed"


def test_what_was_said_last_counts_and_an_undo_is_one(desk: Desk) -> None:
    desk.say(desk.train[0], excluded="wrong", row=talk("x?", "y"))
    desk.say(desk.train[0])
    assert desk.make()[1]["train"] == TRAIN


def test_of_near_duplicates_the_held_out_row_is_kept(desk: Desk) -> None:
    row, files = desk.make(drop_near_duplicates=True)
    assert files["heldout"] == HELDOUT
    assert files["train"] == [TRAIN[0], TRAIN[1], TRAIN[4]]
    assert row.summary["changes"] == "2 rows excluded (2 near-duplicate)"
    assert len(desk.make(drop_near_duplicates=True, threshold=1.0)[1]["train"]) == 3, "they differ in signs that are no words"


def test_an_excluded_row_is_nobodys_double(desk: Desk) -> None:
    desk.say(desk.heldout[1], excluded="wrong")
    row, files = desk.make(drop_near_duplicates=True)
    assert TRAIN[2] in files["train"]
    assert row.summary["excluded"] == {"wrong": 1, "near-duplicate": 1}


def test_tags_choose_rows(desk: Desk) -> None:
    desk.say(desk.train[0], ("fact", "europe"))
    desk.say(desk.train[1], ("fact",))
    _, files = desk.make(keep_tags=["fact", "sum"], drop_tags=["europe"])
    assert files["train"] == [TRAIN[1] | {"tags": ["fact"]}, TRAIN[4]]
    reasons = {one["row_key"]: one["excluded"] for one in files["changes"]}
    assert (reasons[desk.train[0]], reasons[desk.train[2]]) == ("tagged europe", "without fact or sum")
    assert Curate(dataset=1, keep_tags=[2026]).keep_tags == ["2026"], "a form reads a number where a tag is one"


def test_a_prompt_edited_into_a_held_out_one_is_told(desk: Desk, database: Engine) -> None:
    desk.say(desk.train[1], row=talk("Capital of Spain?", "Madrid."))
    desk.make()
    with Session(database) as session:
        assert [e.message for e in session.query(Event) if e.level == "warning"] == [
            "1 held-out prompts are trained on too: edit or exclude those rows"
        ]


def test_nothing_left_is_refused(desk: Desk, database: Engine, home: Home) -> None:
    run = submit.submit(database, home, Curate(dataset=desk.id, keep_tags=["none has this"])).runs[0]
    worker.work(database, home, run)
    with Session(database) as session:
        row = session.get_one(Run, run)
        assert (row.status, row.error) == ("failed", "no row of talks is left to train on: exclude fewer rows, or keep more tags")
