"""The page where a dataset is curated: what it shows, what a press writes, and what is refused without writing anything."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from app.pages import Place, curate, library
from app.view import Node
from engine import curating
from engine.curation import row_keys
from storage import edits
from storage.files import Home
from storage.queries import utc_now
from storage.tables import Artifact, Consumed, Edit, Run
from tests.app.test_corrections import HOSTILE, parts, text

LONG = "please tell me in a few plain words why the sky over a city is blue at noon and red at night"


def talk(user: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}], **more}


TRAIN = [talk(f"question {n} {HOSTILE}", f"answer {n} {HOSTILE}", tags=["odd"] if n % 2 else []) for n in range(20)]
TRAIN += [talk(LONG + end, "light scatters") for end in ("?", "!", ".")]
HELDOUT = [talk("held out question", "its answer")]
KEYS, HELD = row_keys("train", TRAIN), row_keys("heldout", HELDOUT)


class Desk:
    """A dataset on the page, and what one person does there."""

    def __init__(self, place: Place, dataset: int) -> None:
        self.place, self.dataset, self.known = place, dataset, curate.start(dataset)
        self.tree()

    def tree(self) -> list[Node]:
        return curate.tree(self.place, self.known)

    def press(self, name: str, **data: Any) -> list[Node]:
        curate.do(self.place, {"name": name, **data}, self.known, "ann")
        return self.tree()

    def rows(self) -> list[Edit]:
        with Session(self.place.database) as session:
            return list(session.exec(select(Edit).order_by(col(Edit.id))))

    def shown(self) -> list[str]:
        return [node["k"] for node in parts(self.tree()) if "curated" in str(node["a"].get("class"))]

    def item(self, key: str) -> list[Node]:
        return [next(node for node in parts(self.tree()) if node.get("k") == key and "curated" in node["a"]["class"])]


@pytest.fixture
def desk(database: Engine, home: Home, add_artifact: Callable[..., int], tmp_path: Path) -> Desk:
    folder = tmp_path / "data"
    folder.mkdir()
    for split, rows in (("train", TRAIN), ("heldout", HELDOUT)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = add_artifact("dataset", f"talks {HOSTILE}", folder, format="messages", rows=len(TRAIN), heldout=1, columns=["messages"])
    return Desk(Place(database, home), made)


def measure(desk: Desk, add: Callable[..., int], folder: Path, values: dict[str, float], model: str = "small", probe: str = "loss") -> int:
    """As the stage leaves it: the scores, and that they were made of this dataset."""
    folder.mkdir()
    (folder / "scores.jsonl").write_text("".join(json.dumps({"item_key": k, "probe": probe, "value": v}) + "\n" for k, v in values.items()))
    measured = add("model", model)
    scores = add("scores", "losses", folder, row_losses={"model": measured, "data": desk.dataset, "rows": len(values), "cut": 0})
    with Session(desk.place.database) as session:
        run = Run(stage="row_losses", queued_at=utc_now())
        session.add(run)
        session.flush()
        session.get_one(Artifact, scores).made_by = run.id
        session.add(Consumed(run=run.id or 0, artifact=desk.dataset, field="data"))
        session.commit()
    return scores


def test_a_page_has_ten_rows_with_their_whole_text(desk: Desk) -> None:
    assert desk.shown() == KEYS[:10]
    assert f"answer 3 {HOSTILE}" in text(desk.item(KEYS[3])), "a text, never markup"
    button = next(node for node in parts(desk.tree()) if node.get("on") == "page")
    desk.press("page", **button["a"]["data"])
    assert desk.shown() == KEYS[10:20]
    desk.press("page", start=20)
    assert desk.shown() == [*KEYS[20:], *HELD]
    assert "row 24, held out" in text(desk.item(HELD[0]))


def test_what_is_said_is_kept_with_who_and_nothing_is_lost(desk: Desk) -> None:
    desk.press("tagged", key=KEYS[1], value=" fact ")
    desk.press("exclude", key=KEYS[1], value="wrong")
    desk.press("untag", key=KEYS[1], value="odd")
    desk.press("keep", key=KEYS[1])
    said = [(row.row_key, row.person, row.tags, row.excluded) for row in desk.rows()]
    assert said == [(KEYS[1], "ann", tags, why) for tags, why in (
        (["odd", "fact"], None), (["odd", "fact"], "wrong"), (["fact"], "wrong"), (["fact"], None),
    )]  # fmt: skip
    assert f"talks {HOSTILE}: 1 tagged." in text(desk.tree())


def test_an_edit_is_saved_shown_beside_what_was_said_and_undone(desk: Desk) -> None:
    desk.press("tagged", key=KEYS[2], value="kept")
    form = next(node for node in parts(desk.press("open", key=KEYS[2])) if node["a"].get("class") == "typed")
    fields = {node["a"]["name"]: node["a"]["value"] for node in parts([form]) if node["t"] == "textarea"}
    assert fields == {"messages.0": f"question 2 {HOSTILE}", "messages.1": f"answer 2 {HOSTILE}"}
    desk.press("save", key=KEYS[2], typed=fields | {"messages.1": "a better answer"})
    assert desk.rows()[-1].row == talk(f"question 2 {HOSTILE}", "a better answer", tags=[])
    told = text(desk.item(KEYS[2]))
    assert ("a better answer" in told, f"answer 2 {HOSTILE}" in told, "edited" in told) == (True, True, True)
    desk.press("undo", key=KEYS[2])
    assert (desk.rows()[-1].row, desk.rows()[-1].tags) == (None, ["kept"]), "the edit alone is undone"
    assert "a better answer" not in text(desk.item(KEYS[2]))


def test_saving_what_was_not_changed_says_nothing(desk: Desk) -> None:
    desk.press("save", key=KEYS[0], typed={"messages.0": f"question 0 {HOSTILE}"})
    desk.press("exclude", key=KEYS[0], value="wrong")
    desk.press("exclude", key=KEYS[0], value="wrong")
    desk.press("open", key=KEYS[0])
    desk.press("close", key=KEYS[0])
    assert len(desk.rows()) == 1


def test_a_row_that_cannot_be_used_is_refused_beside_it_and_stays_open(desk: Desk) -> None:
    before = desk.press("open", key=KEYS[0])
    form = next(node for node in parts(before) if node["a"].get("class") == "typed")
    after = desk.press("save", key=KEYS[0], typed={"messages.1": "  "})
    assert "The assistant message is empty: mend it, or exclude the row" in text(desk.item(KEYS[0]))
    assert form in list(parts(after)), "the form is the same, so the browser keeps what was typed in it"
    assert not desk.rows()
    desk.press("save", key=KEYS[0], typed={"messages.1": "full"})
    assert "is empty" not in text(desk.tree())


@pytest.mark.parametrize("data", [
    {"name": "tagged", "key": KEYS[0], "value": "a,b"}, {"name": "tagged", "key": KEYS[0]}, {"name": "exclude", "key": KEYS[0]},
    {"name": "exclude", "key": "no such row", "value": "wrong"}, {"name": "tagged", "value": "x"}, {"name": "only", "key": "x"},
    {"name": "save", "key": KEYS[0], "typed": {"tags": "x"}}, {"name": "save", "key": KEYS[0], "typed": ["x"]},
    {"name": "save", "key": KEYS[0], "typed": {"messages.0.role": "x"}}, {"name": "no such thing", "key": KEYS[0]}, {},
])  # fmt: skip
def test_what_cannot_be_said_writes_nothing(desk: Desk, data: dict[str, Any]) -> None:
    desk.press(**({"name": "nothing"} | data))
    assert not desk.rows()


def test_rows_stay_where_they_are_until_another_page_is_asked_for(desk: Desk) -> None:
    desk.press("state", value="kept")
    desk.press("exclude", key=KEYS[3], value="wrong")
    assert desk.shown() == KEYS[:10]
    assert "excluded: wrong" in text(desk.item(KEYS[3]))
    desk.press("state", value="kept")
    assert KEYS[3] not in desk.shown()
    desk.press("state", value="excluded")
    assert desk.shown() == [KEYS[3]]


def test_words_tags_and_the_address(desk: Desk) -> None:
    tree = desk.press("words", value="QUESTION 7")
    assert desk.shown() == [KEYS[7], KEYS[17]]
    here = next(node for node in parts(tree) if node["t"] == "here")
    assert here["a"]["href"] == f"/curate?dataset={desk.dataset}&words=QUESTION+7"
    desk.press("tag", value="odd")
    desk.press("words", value="question")
    assert desk.shown() == [KEYS[n] for n in range(1, 20, 2)]
    assert "No row fits." in text(desk.press("words", value="nothing like it"))


def test_near_duplicates_stand_side_by_side_and_one_press_keeps_one(desk: Desk) -> None:
    tree = desk.press("state", value="alike")
    assert desk.shown() == KEYS[20:23]
    assert any(node["a"].get("class") == "columns n3" for node in parts(tree))
    assert [node["c"] for node in parts(tree) if node["t"] == "ins"] == [["!"], ["."]], "what the first of them has not is marked"
    desk.press("only", key=KEYS[21])
    assert {row.row_key: row.excluded for row in desk.rows()} == {KEYS[20]: "near-duplicate", KEYS[22]: "near-duplicate"}
    assert desk.shown() == KEYS[20:23], "they stay until another page is asked for"
    desk.press("only", key=KEYS[20])
    with Session(desk.place.database) as session:
        kept = [line.key for line in curating.read(session, desk.place.home, desk.dataset).lines if line.excluded is None]
    assert kept == [*KEYS[:21], *HELD], "changed one's mind: the other is kept"
    assert "No rows are nearly alike." in text(desk.press("state", value="alike"))


def test_what_is_alike_follows_an_edit(desk: Desk) -> None:
    desk.press("save", key=KEYS[21], typed={"messages.0": "something else", "messages.1": "entirely different"})
    desk.press("state", value="alike")
    assert desk.shown() == [KEYS[20], KEYS[22]]


def test_the_highest_loss_comes_first_with_the_models_name(desk: Desk, add_artifact: Callable[..., int], tmp_path: Path) -> None:
    assert f"/new?stage=row_losses&data={desk.dataset}" in [node["a"].get("href") for node in parts(desk.tree())]
    assert "highest loss" not in text(desk.tree())
    first = measure(desk, add_artifact, tmp_path / "one", {KEYS[4]: 1.5, KEYS[8]: 3.25, HELD[0]: 2.0})
    other = measure(desk, add_artifact, tmp_path / "two", {KEYS[5]: 9.0}, f"large {HOSTILE}")
    desk.press("by", value=first)
    assert desk.shown()[:4] == [KEYS[8], HELD[0], KEYS[4], KEYS[0]], "what was not measured comes last"
    assert "loss 3.25 under small" in text(desk.item(KEYS[8]))
    desk.press("save", key=KEYS[8], typed={"messages.1": "new"})
    assert "loss 3.25 under small before the edit" in text(desk.item(KEYS[8]))
    desk.press("by", value=other)
    assert desk.shown()[0] == KEYS[5]
    assert f"loss 9.00 under large {HOSTILE}" in text(desk.item(KEYS[5]))
    desk.press("by", value=0)
    assert desk.shown() == KEYS[:10]


def test_one_button_leads_to_the_new_dataset_with_counts(desk: Desk) -> None:
    desk.press("exclude", key=KEYS[0], value="wrong")
    tree = desk.tree()
    primary = [node for node in parts(tree) if "primary" in str(node["a"].get("class"))]
    assert [node["a"]["href"] for node in primary] == [f"/new?stage=curate&dataset={desk.dataset}"]
    assert "22 rows, 1 held out" in text(tree)
    with Session(desk.place.database) as session:
        shown = library.tree(desk.place, {"artifact": desk.dataset, "kind": "", "words": "", "start": 0})
        assert session.get_one(Artifact, desk.dataset).deleted_at is None
    assert f"/curate?dataset={desk.dataset}" in [node["a"].get("href") for node in parts(shown)]


def test_what_is_no_dataset_says_so(desk: Desk, add_artifact: Callable[..., int]) -> None:
    model, large = add_artifact("model", "a model"), add_artifact("dataset", "large", rows=50_000, heldout=1)
    for dataset, told in ((0, "is not here"), (999, "There is no artifact"), (model, "is no dataset"), (large, "at most 50,000 can be")):
        assert told in text(curate.tree(desk.place, curate.start(dataset)))
    with Session(desk.place.database) as session:
        session.get_one(Artifact, desk.dataset).deleted_at = utc_now()
        session.commit()
    desk.press("exclude", key=KEYS[0], value="wrong")
    assert not desk.rows()


def test_what_two_people_say_of_one_row_is_laid_over_what_is_there(desk: Desk) -> None:
    desk.press("tagged", key=KEYS[0], value="mine")
    with Session(desk.place.database) as session:
        edits.write(session, desk.dataset, KEYS[0], "bob", utc_now(), ["mine", "his"], None, None)
        session.commit()
    desk.press("exclude", key=KEYS[0], value="wrong")
    assert desk.rows()[-1].tags == ["mine", "his"]
