"""All labels leave for other programs and come back the same; nothing that leaves for people to rank names a model."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from engine import submit, worker
from engine.rankings import Rankings, Said, read
from engine.stages.data.export_rankings import ExportRankings
from engine.stages.data.import_rankings import ImportRankings
from storage.files import Home
from storage.tables import Artifact, Event, Run
from tests.ranking import asked, open_closed, project, said, tiers

SYSTEM = {"role": "system", "content": "Be short."}
GIVEN = project(
    [
        asked(1, "a", "b", "c", prompt="why?"),
        replace(asked(2, "d", "e", "f"), prompt=[SYSTEM, {"role": "user", "content": "<b>& who?"}]),
        replace(asked(3, "g", "h", "i"), kind="gold", gold=tiers("g > h > i")),
        replace(asked(4, "j", "k", "l"), kind="practice"),
    ],
    [
        said(1, "ann", "b > a = c", accepted_above=1, better="best", comment="Ünïcode", active_ms=4200),
        said(1, "bob r.", "c > b > a", flags={"kb": ["unsafe"]}),
        said(2, "ann", "d = e = f"),
        said(3, "ann", "h > g > i"),
        said(4, "ann", "j > k > l"),
        Said(2, "cem", "skip", reason="unsafe"),
    ],
)


@pytest.fixture
def export(
    database: Engine, home: Home, run_stage: Callable[..., dict[str, int]], add_artifact: Callable[..., int]
) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Export a project; the folder and its summary."""

    def run(given: Rankings, file: str) -> tuple[Path, dict[str, Any]]:
        id = run_stage(ExportRankings(rankings=open_closed(database, add_artifact, given), file=file))["dataset"]
        with Session(database) as session:
            row = session.get_one(Artifact, id)
            return home.root / row.folder, row.summary

    return run


def told(given: Rankings, kinds: tuple[str, ...] = ("normal", "gold")) -> set[tuple[Any, ...]]:
    found = set()
    for one in given.said:
        item = given.items[one.item]
        if item.kind in kinds and one.tiers:
            texts = {choice.key: choice.text for choice in item.choices}
            order = tuple(frozenset(texts[key] for key in tier) for tier in one.tiers["overall"])
            flags = tuple(sorted((texts[key], *words) for key, words in one.flags.items()))
            words = one.accepted_above, one.better, one.comment, one.active_ms
            found.add((json.dumps(item.prompt), one.rater, order, *words, flags, item.kind))
    return found


@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet"])
def test_tiers_come_back_whole(export: Callable[..., Any], run_stage: Callable[..., Any], database: Engine, name: str) -> None:
    folder, summary = export(GIVEN, "parquet")
    assert (summary["format"], summary["rows"], summary["heldout"]) == ("tiers", 4, 0)
    assert summary["left_out"] == {"skips": 1, "labels of practice items": 1}
    id = run_stage(ImportRankings(file=str(folder / name)))["rankings"]
    with Session(database) as session:
        back = read(session, id)
    assert told(back) == told(GIVEN)
    (gold,) = (one for one in back.items.values() if one.kind == "gold")
    texts = {choice.key: choice.text for choice in gold.choices}
    assert [[texts[key] for key in tier] for tier in gold.gold or ()] == [["g"], ["h"], ["i"]]
    assert {choice.by for one in back.items.values() for choice in one.choices} == {"model 0", "model 1", "model 2"}


@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet"])
def test_what_was_settled_comes_back_as_settled(
    export: Callable[..., Any], run_stage: Callable[..., Any], database: Engine, name: str
) -> None:
    criteria = ("kind", "short")
    items = [asked(1, "a", "b", "c"), asked(2, "a", "b", "c"), asked(3, "d", "e")]
    both = {criterion: tiers("a > b > c") for criterion in criteria}
    first = Said(1, "ann", "settle", {"kind": tiers("c > a = b"), "short": tiers("b > a > c")})
    said, owner = [Said(n, "ann", tiers=both) for n in (1, 2)], [first, Said(3, "eve", "settle", {"kind": tiers("e > d")})]
    folder, summary = export(project(items, said, owner, criteria=list(criteria)), "parquet")
    assert summary["rows"] == 7
    id = run_stage(ImportRankings(file=str(folder / name)))["rankings"]
    with Session(database) as session:
        back = read(session, id)
        row = session.get_one(Artifact, id)
    assert (row.summary["labels"], row.summary["settled"], row.summary["rated_by"]) == (2, 2, ["ann"])
    assert [one.act for one in back.said] == ["rank", "rank"]
    found = []
    for item, one in back.settled.items():
        texts = {choice.key: choice.text for choice in back.items[item].choices}
        order = {name: [sorted(texts[key] for key in tier) for tier in tiers] for name, tiers in one.tiers.items()}
        found.append((one.rater, order))
    assert found == [("ann", {"kind": [["c"], ["a", "b"]], "short": [["b"], ["a"], ["c"]]}), ("eve", {"kind": [["e"], ["d"]]})]


def test_what_other_tools_have_no_place_for_is_counted(export: Callable[..., Any]) -> None:
    given = replace(GIVEN, settled={2: Said(2, "owner", "settle", {"overall": tiers("d > e > f")})})
    _, summary = export(given, "argilla")
    told = {name: count for name, count in summary["left_out"].items() if "the file for others" in name}
    assert told == {f"{name}, in the file for others": 1 for name in
                    ("labels of gold items", "settlements", "labels with flags", "acceptable lines")}  # fmt: skip


@pytest.mark.parametrize(("file", "name"), [("argilla", "argilla.json"), ("label_studio", "label_studio.json")])
def test_other_tools_files_come_back_with_raters_tiers_and_words(
    export: Callable[..., Any], run_stage: Callable[..., Any], database: Engine, file: str, name: str
) -> None:
    folder, summary = export(GIVEN, file)
    assert "model" not in (folder / name).read_text(), "whoever ranks there must not see who answered"
    assert summary["left_out"]["labels of gold items, in the file for others"] == 1
    id = run_stage(ImportRankings(file=str(folder / name)))["rankings"]
    with Session(database) as session:
        back = read(session, id)
    plain = [{one[:3] + one[4:6] for one in told(given, ("normal",))} for given in (back, GIVEN)]
    assert plain[0] == plain[1]
    assert [one.rater for one in back.said if one.act == "skip"] == ["cem"]


def test_ranks_are_aligned_to_the_options_not_sorted(export: Callable[..., Any]) -> None:
    folder, _ = export(GIVEN, "argilla")
    record = json.loads((folder / "argilla.json").read_text())[0]
    ann = next(one for one in record["ranking"] if json.loads(record["metadata"])["raters"][one["user_id"]] == "ann")
    assert ann["value"] == {"rank": [2, 1, 2], "value": ["response-1", "response-2", "response-3"]}
    assert [record[name] for name in ann["value"]["value"]] == ["a", "b", "c"]


def test_label_studio_gets_an_interface_that_fits_the_tasks(export: Callable[..., Any]) -> None:
    given = replace(GIVEN, settings={"criteria": ["<true>", "short"]}, said=[said(1, "ann", "a > b > c", "short")])
    folder, _ = export(given, "label_studio")
    (task,) = json.loads((folder / "label_studio.json").read_text())
    view = ElementTree.fromstring((folder / "label_studio.xml").read_text())
    tags = {one.get("name"): one for one in view}
    (result,) = task["annotations"][0]["result"]
    assert result["from_name"] == "ranking-2"
    assert set(result["value"]["ranker"]) == {one.get("name") for one in tags["ranking-2"]} == {"rank-1", "rank-2", "rank-3"}
    assert tags["answers"].get("value") == "$items"
    assert {"prompt", "items"} <= set(task["data"])


def test_nothing_to_export_and_uneven_items_are_told(
    export: Callable[..., Any], database: Engine, home: Home, add_artifact: Callable[..., int]
) -> None:
    run = submit.submit(database, home, ExportRankings(rankings=open_closed(database, add_artifact, replace(GIVEN, said=[])))).runs[0]
    worker.work(database, home, run)
    export(project([asked(1, "a", "b"), asked(2, "a", "b", "c")], [said(1, "ann", "a > b"), said(2, "ann", "a > b > c")]), "argilla")
    with Session(database) as session:
        assert "nobody has ranked anything in rankings" in (session.get_one(Run, run).error or "")
        assert any("Argilla asks the same number" in event.message for event in session.query(Event) if event.level == "warning")
