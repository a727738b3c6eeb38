"""Rankings come in: ours, Argilla's, Label Studio's and pairs; what cannot be used is listed by line; and they go out and come back."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import Session

from engine import collecting, submit, worker
from engine.errors import UserError
from engine.rankings import OVERALL, Rankings, Said, key_of, read
from engine.stages.data import _argilla, _label_studio
from engine.stages.data._formats import BadRow
from engine.stages.data._ranked_rows import ours, pair
from engine.stages.data.import_rankings import FORMATS, Gathered, ImportRankings
from storage.files import Home
from storage.tables import Artifact, Event, Project, Run
from tests.ranking import projects

DATA = Path(__file__).parents[1] / "data" / "rankings"


@pytest.fixture
def bring(database: Engine, run_stage: Callable[..., dict[str, int]]) -> Callable[..., tuple[Rankings, dict[str, Any]]]:
    """Import a file; what stages read of it, and its summary."""

    def run(path: Path, **settings: Any) -> tuple[Rankings, dict[str, Any]]:
        id = run_stage(ImportRankings(file=str(path), **settings))["rankings"]
        with Session(database) as session:
            assert session.get_one(Artifact, id).ready_at, "a project nobody is asked about is ready at once"
            assert session.get_one(Project, id).closed_at
            return read(session, id), session.get_one(Artifact, id).summary

    return run


def told(given: Rankings) -> dict[tuple[str, str], Any]:
    """What was said, by texts: (prompt, rater) to criterion to tiers of texts."""
    found = {}
    for one in given.said:
        asked = given.items[one.item]
        texts = {choice.key: choice.text for choice in asked.choices}
        found[asked.prompt[-1]["content"], one.rater] = {
            name: [sorted(texts[key] for key in tier) for tier in order] for name, order in one.tiers.items()
        } or one.reason
    return found


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


ABC = {"prompt": "x", "a": "1", "b": "2"}
ROW = {"prompt": "2+2?", "responses": ["5", "4", "four"], "tiers": [[1, 2], [0]], "rater": "ann"}


# each kind of file


def test_our_own_tiers(bring: Callable[..., Any], tmp_path: Path) -> None:
    more = {"accepted_above": 1, "flags": [["unsafe"], [], []], "better": "It is 4.", "comment": "hm", "shown": [2, 0, 1]}
    more["by"] = list("xyz")
    other = {"responses": ["four", "5", "4"], "tiers": [[1], [0], [2]], "rater": "bob"}  # the same answers in another order
    given, summary = bring(write(tmp_path / "x.jsonl", [ROW | more, ROW | other, ROW | {"rater": "ann"}]))
    (asked,) = given.items.values()
    assert {choice.text: choice.by for choice in asked.choices} == {"5": "x", "4": "y", "four": "z"}
    assert told(given) == {("2+2?", "ann"): {OVERALL: [["4", "four"], ["5"]]}, ("2+2?", "bob"): {OVERALL: [["5"], ["four"], ["4"]]}}
    ann = given.said[0]
    assert (ann.accepted_above, ann.better, ann.comment, ann.flags) == (1, "It is 4.", "hm", {key_of("5"): ["unsafe"]})
    assert ann.shown == tuple(map(key_of, ("four", "5", "4")))
    assert (summary["recognised_as"], summary["items"], summary["labels"], summary["duplicates"]) == ("tiers", 1, 2, 1)
    assert (summary["rated_by"], summary["by"]) == (["ann", "bob"], ["x", "y", "z"])
    assert len(collecting.pairs(given, "each rater", OVERALL).rows) == 5


def test_criteria_of_one_label_join(bring: Callable[..., Any], tmp_path: Path) -> None:
    rows = [ROW | {"criterion": "true"}, ROW | {"criterion": "short", "tiers": [[0], [1], [2]]}]
    given, _ = bring(write(tmp_path / "x.jsonl", rows))
    assert given.criteria == ["true", "short"]
    assert told(given) == {("2+2?", "ann"): {"true": [["4", "four"], ["5"]], "short": [["5"], ["4"], ["four"]]}}


def test_preference_pairs_become_items_of_two(bring: Callable[..., Any], tmp_path: Path) -> None:
    rows = [
        {"prompt": "2+2?", "chosen": "4", "rejected": "5", "strength": 3, "rater": "ann"},
        {"prompt": "2+2?", "chosen": "4", "rejected": "6"},
        {"chosen": "\n\nHuman: 1+1?\n\nAssistant: 2", "rejected": "\n\nHuman: 1+1?\n\nAssistant: 3"},
        {"prompt": "2+2?", "chosen": "4", "rejected": "4"},
    ]
    given, summary = bring(write(tmp_path / "x.jsonl", rows), max_rejected=0.5)
    assert (len(given.items), summary["rejected"], given.settings["mode"]) == (3, 1, "pairs")
    assert [(one.rater, one.strength) for one in given.said] == [("ann", 3), ("imported", None), ("imported", None)]
    assert [row["chosen"][0]["content"] for row in collecting.pairs(given, "each rater", OVERALL).rows] == ["4", "4", "2"]


def test_argilla_2_nested_flat_and_the_feedback_dataset(bring: Callable[..., Any]) -> None:
    """Records as `to_json`, `to_dict(flatten=True)` and push_to_huggingface write them."""
    wanted = {
        ("Why is the sky blue?", "1f0e"): {OVERALL: [["Rayleigh scattering."], ["It reflects the sea."], ["Paint."]]},
        ("Why is the sky blue?", "2a3b"): {OVERALL: [["It reflects the sea."], ["Rayleigh scattering."], ["Paint."]]},
    }
    for name in ("argilla_nested.json", "argilla_flat.json"):
        given, summary = bring(DATA / name)
        assert told(given) == wanted
        assert (summary["recognised_as"], summary["unranked"], summary["rejected"]) == ("Argilla", 1, 0)
        assert given.said[0].comment == "the second is wrong"
    tied, _ = bring(DATA / "argilla_feedback.jsonl")
    assert told(tied) == {
        ("Why is the sky blue?", "1f0e"): {OVERALL: [["Paint.", "Rayleigh scattering."], ["It reflects the sea."]]},
        ("Why is the sky blue?", "2a3b"): "discarded",
        ("2+2?", "1f0e"): {OVERALL: [["4"], ["5"], ["6"]]},
    }, "ranks and values go together by place"


def test_label_studio_ranker_buckets_and_pairwise(bring: Callable[..., Any]) -> None:
    given, summary = bring(DATA / "label_studio.json", max_rejected=0.5)
    assert told(given) == {
        ("What caused the ancient library of Alexandria to be destroyed?", "ann@example.org"): {
            OVERALL: [["Wars led to library's ruin."], ["Ruin resulted from library wars."], ["Library's end through various wars."]]
        },
        ("What caused the ancient library of Alexandria to be destroyed?", "7"): "skipped",
        ("How far is the moon?", "7"): {OVERALL: [["384,400 km", "About 380,000 km"], ["Far."]]},
        ("2+2?", "7"): {OVERALL: [["4"], ["5"]]},
    }
    assert summary["by"] == ["llm_1", "llm_2", "llm_3", "text1", "text2"]
    assert (summary["rejected"], summary["unranked"]) == (2, 1)
    assert given.said[0].active_ms == 4288


# what is refused


@pytest.mark.parametrize(
    ("reader", "row", "reason"),
    [
        (ours, ROW | {"tiers": [[0], [1]]}, "response 2 has no places"),
        (ours, ROW | {"accepted_above": 3}, "accepted_above is 3, where 0 to 2"),
        (ours, ROW | {"strength": 5}, "strength is 5, where 1 to 4"),
        (ours, ROW | {"flags": [["unsafe"]]}, "flags is not a list"),
        (ours, ROW | {"shown": [0, 0, 1]}, "shown does not name"),
        (ours, ROW | {"responses": list("abcdefghij"), "tiers": [[n] for n in range(10)]}, "10 answers, where 2 to 9"),
        (pair, {"prompt": "x", "chosen": "a"}, "no chosen and rejected"),
        (pair, {"prompt": "x", "chosen": "a", "rejected": "a"}, "the same"),
        (_argilla.read, {"fields": ABC, "responses": {"r": [{"value": ["a", "c"], "user_id": "u"}]}}, "no field of that name"),
        (_argilla.read, ABC | {"r": [{"user_id": "u", "value": {"rank": [1], "value": ["a", "b"]}}]}, "as many ranks"),
        (_argilla.read, ABC | {"r": [{"user_id": "u", "value": {"rank": [1, "x"], "value": ["a", "b"]}}]}, "not a number"),
        (_argilla.read, ABC | {"r": [{"user_id": "u", "value": {"rank": [1, 2], "value": ["a", "a"]}}]}, "1 answers"),
        (_argilla.read, ABC | {"c": "3", "r": [{"user_id": "abc"[n], "value": list("abc"[n:])} for n in (0, 1)]}, "b gives 'a' no rank"),
        (_argilla.read, ABC | {"prompt": None, "r": [{"user_id": "u", "value": ["a", "b"]}]}, "no field is a prompt"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(reader: Any, row: Any, reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        reader(row)


@pytest.mark.parametrize(
    ("ranker", "reason"),
    [
        ({"good": ["a"], "bad": ["b"]}, "the buckets good, bad say no order: call them rank-1"),
        ({"_": ["b"], "good": ["a"]}, "say no order"),
        ({"rank-1": ["a"]}, "gives 'b' no rank"),
        ({"rank-1": ["a", "b"], "rank-2": ["a"]}, "ranks an answer twice"),
        ({"rank-1": ["a", "b", "c"]}, "'c', and there is no such answer"),
        ({}, "ranks nothing"),
    ],
)
def test_a_ranker_that_says_no_order_is_refused(ranker: Any, reason: str) -> None:
    data = {"prompt": "x", "items": [{"id": "a", "body": "1"}, {"id": "b", "body": "2"}]}
    result = [{"from_name": "rank", "type": "ranker", "value": {"ranker": ranker}}]
    with pytest.raises(BadRow, match=reason):
        _label_studio.read({"data": data, "annotations": [{"completed_by": 1, "result": result}]})


def test_bad_rows_are_listed_by_line_and_too_many_refuse(database: Engine, home: Home, bring: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join([json.dumps(ROW), "{", json.dumps(ROW | {"tiers": [[0]]})]))
    bring(path, max_rejected=0.7)
    with Session(database) as session:
        messages = [event.message for event in session.query(Event) if event.level == "warning"]
    assert [text.split(":")[0] for text in messages] == ["line 2", "line 3"]
    run = submit.submit(database, home, ImportRankings(file=str(path))).runs[0]
    worker.work(database, home, run)
    with Session(database) as session:
        assert "2 of 3 rows cannot be used (line 2: not JSON" in (session.get_one(Run, run).error or "")
    for rows, words in (([{"a": 1}], "no rankings that are known here"), ([], "no rankings")):
        with pytest.raises(UserError, match=words):
            ImportRankings(file=str(write(tmp_path / "y.jsonl", rows))).check({})
    with pytest.raises(UserError, match="there is no file"):
        ImportRankings(file="/nowhere.jsonl").check({})


NAMES = "a b prompt items id body value user_id rank ranker result type metadata raters".split()
COLUMNS = "prompt a b r responses tiers flags shown metadata gold by".split()
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from(["a", "b", "x", ""]),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.sampled_from(NAMES), some, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(COLUMNS), JUNK), JUNK, JUNK)
def test_nothing_in_a_file_is_worse_than_a_bad_row(row: dict[str, Any], one: Any, other: Any) -> None:
    annotation = {"completed_by": other, "result": [{"type": "ranker", "from_name": "r", "value": {"ranker": one}}, one]}
    for reader, read_row in (
        (ours, row),
        (ours, ROW | row),
        (pair, row),
        (_argilla.read, row | {"fields": ABC, "responses": one}),
        (_argilla.read, row | {"r": [{"user_id": other, "value": one}]}),
        (_argilla.read, row | {"r.responses": [one], "r.responses.users": other}),
        (_label_studio.read, {"data": row, "annotations": one}),
        (_label_studio.read, {"data": row | {"items": other}, "annotations": [annotation]}),
    ):
        try:
            reader(read_row)
        except BadRow:
            continue


# there and back


def as_file(given: Rankings, kind: str) -> list[Any]:
    by_item = [(asked, [one for one in given.said if one.item == id]) for id, asked in given.items.items()]
    if kind == "tiers":
        return [
            collecting.tiers_row(given, asked, one.rater, name, order, one)
            for asked, labels in by_item for one in labels for name, order in one.tiers.items()
        ]  # fmt: skip
    writer = _argilla.write if kind == "Argilla" else _label_studio.write
    return [writer(asked, labels, given.criteria) for asked, labels in by_item if labels]


@given(st.sampled_from([(), ("kind", "short")]).flatmap(projects), st.sampled_from(["tiers", "Argilla", "Label Studio"]))
def test_what_is_written_is_read_as_the_same_rankings(given: Rankings, kind: str) -> None:
    given = replace(given, items={id: replace(one, kind="normal") for id, one in given.items.items()})
    sets = [(one.prompt_key, frozenset(choice.text for choice in one.choices)) for one in given.items.values()]
    assume(len(set(sets)) == len(sets))
    if kind != "tiers" and given.said:
        skip = Said(given.said[0].item, "dan", "skip", reason="unsafe")
        given = replace(given, said=[*given.said, skip])
    found = Gathered()
    for row in json.loads(json.dumps(as_file(given, kind))):
        assert next(name for name, (recognised, _) in FORMATS.items() if recognised(row)) == kind
        if ranked := FORMATS[kind][1](row):
            found.add(ranked)
    texts = {id: {choice.key: choice.text for choice in one.choices} for id, one in given.items.items()}
    wanted = {
        (given.items[one.item].prompt_key, frozenset(texts[one.item].values()), one.rater): (
            one.act, {name: tuple(frozenset(texts[one.item][key] for key in tier) for tier in order) for name, order in one.tiers.items()},
            one.better, one.comment,
        )
        for one in given.said
    }  # fmt: skip
    back = {}
    for (key, rater), one in found.labels.items():
        named = {choice.key: choice.text for choice in found.items[key].choices}
        order = {name: tuple(frozenset(named[k] for k in tier) for tier in tiers) for name, tiers in one.tiers.items()}
        back[key[0], frozenset(named.values()), rater] = (one.act, order, one.better, one.comment)
    assert back == wanted
    assert not found.again


@given(projects(), st.sampled_from(["all", "best_worst", "adjacent"]), st.booleans())
def test_pairs_of_the_tiers_that_were_written_are_the_pairs_of_the_project(given: Rankings, pairing: Any, better: bool) -> None:
    sets = [(one.prompt_key, frozenset(choice.text for choice in one.choices)) for one in given.items.values()]
    assume(len(set(sets)) == len(sets))
    found = Gathered()
    for row in json.loads(json.dumps(collecting.tiers(given, "each rater", OVERALL).rows)):
        found.add(ours(row))
    ids = dict(zip(found.items, range(1, 99), strict=False))
    items = {ids[key]: replace(one, id=ids[key]) for key, one in found.items.items()}
    again = Rankings(2, {}, "", 1, items, [replace(one, item=ids[key]) for (key, _), one in found.labels.items()], {})

    def plain(rankings: Rankings) -> list[Any]:
        made = collecting.pairs(rankings, "each rater", OVERALL, pairing, better).rows
        return [{name: value for name, value in row.items() if name != "item"} for row in made]

    assert plain(again) == plain(given)
    assert [row | {"item": 0} for row in collecting.unpaired(again, "majority", OVERALL).rows] == [
        row | {"item": 0} for row in collecting.unpaired(given, "majority", OVERALL).rows
    ]
