"""Ranking projects: what raters get, what is written, what is refused, and when a project is complete."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import Session, select

from engine import labelling
from engine.errors import UserError
from engine.rankings import read
from engine.stages.generate.rank_answers import RankAnswers
from storage import queries
from storage.labels import labels, progress
from storage.tables import Artifact, Item, Label, Lease, Project

NOW = queries.utc_now()


@pytest.fixture
def answers(add_artifact, home):
    """A set of answers: `models` to `prompts` prompts."""
    import json

    def make(prompts=6, models=("alpha", "beta"), text="{model} says {prompt}"):
        id = add_artifact("responses", "answers")
        rows = [
            {"prompt_key": f"k{n}", "prompt": [{"role": "user", "content": f"question {n}"}], "artifact": 1, "source": model,
             "model": model, "answer": text.format(model=f"w{m}", prompt=n), "sample": 0, "extra": {}}
            for m, model in enumerate(models) for n in range(prompts)
        ]  # fmt: skip
        (home.artifact_folder(id) / "responses.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return id

    return make


@pytest.fixture
def project(run_stage, answers):
    def make(prompts=6, models=("alpha", "beta"), **settings):
        plain = {"care": {"everyone": 0, "repeats": 0}}
        return run_stage(RankAnswers(responses=[answers(prompts, models)], **plain | settings))["rankings"]

    return make


_count = iter(range(10**9))


def press(shown, tiers=None, **more):
    """What the widget sends for an item."""
    numbers = [[n] for n in range(len(shown["answers"]))]
    told = {"client_event_id": f"e{next(_count)}", "item": shown["item"], "guideline": shown["guideline"]["version"]}
    ranked = dict.fromkeys(shown["criteria"], tiers or numbers)
    return told | {"tiers": ranked, "seen": list(range(len(shown["answers"])))} | more


def test_a_project_waits_for_its_people_and_is_ready_when_every_item_has_its_raters(database, project):
    id = project(3, raters=2)
    with Session(database) as session:
        assert session.get_one(Artifact, id).ready_at is None
        assert not queries.is_lost(session, session.get_one(Artifact, id))
    for rater in ("ann", "bob"):
        shown = labelling.next_item(database, id, rater, NOW)
        for _ in range(3):
            assert shown["state"] == "item"
            shown = labelling.submit(database, id, rater, press(shown), NOW)
        assert shown["state"] == ("done" if rater == "ann" else "closed")
    with Session(database) as session:
        assert session.get_one(Artifact, id).ready_at == NOW
        assert progress(session, session.get_one(Project, id)) == (3, 3)
        assert len(labels(session, id)) == 6


def test_nothing_that_goes_to_the_browser_names_a_model(database, project):
    id = project(4, models=("secret-model-7b", "other-model"), answers=2)
    shown = labelling.next_item(database, id, "ann", NOW)
    assert "secret" not in str(shown)
    assert "other-model" not in str(shown)
    with Session(database) as session:
        item = session.get_one(Item, shown["item"])
        assert {choice["by"] for choice in item.answers} == {"secret-model-7b", "other-model"}


def test_a_press_that_comes_twice_is_one_label(database, project):
    id = project(3)
    said = press(labelling.next_item(database, id, "ann", NOW))
    first = labelling.submit(database, id, "ann", said, NOW)
    second = labelling.submit(database, id, "ann", said, NOW)
    assert first["item"] == second["item"]
    with Session(database) as session:
        assert len(session.exec(select(Label)).all()) == 1


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"tiers": {"overall": [[0]]}}, "2 has none"),
        ({"tiers": {"overall": [[0], [7]]}}, "no answer 7"),
        ({"tiers": {"overall": [[0], [0], [1]]}}, "two ranks"),
        ({"tiers": {"overall": [[0], [], [1]]}}, "none of them empty"),
        ({"tiers": {}}, "ranks by overall"),
        ({"seen": [0]}, "read every answer"),
        ({"accepted_above": 3}, "outside"),
        ({"flags": {"0": ["silly"]}}, "is no flag"),
        ({"strength": 2}, "pairs"),
        ({"reason": "bored"}, "no reason"),
        ({"item": 999}, "no item 999"),
        ({"client_event_id": ""}, "client_event_id"),
        ({"guideline": 0}, "guideline has changed"),
        ({"better": 7}, "must be text"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason_and_nothing_is_written(database, project, wrong, words):
    id = project(2)
    shown = labelling.next_item(database, id, "ann", NOW)
    with pytest.raises(UserError, match=words):
        labelling.submit(database, id, "ann", press(shown) | wrong, NOW)
    with Session(database) as session:
        assert not session.exec(select(Label)).all()
    assert labelling.next_item(database, id, "ann", NOW)["item"] == shown["item"]


def test_an_item_of_somebody_else_or_of_another_project_is_refused(database, project):
    one, two = project(2), project(2)
    shown = labelling.next_item(database, one, "ann", NOW)
    with pytest.raises(UserError, match="was not given to you"):
        labelling.submit(database, one, "bob", press(shown), NOW)
    with pytest.raises(UserError, match="no item"):
        labelling.submit(database, two, "ann", press(shown), NOW)
    with pytest.raises(UserError, match="no ranking project 999"):
        labelling.submit(database, 999, "ann", press(shown), NOW)


def test_a_deleted_project_is_named_and_refused(database, home, project):
    from engine import library

    id = project(2, save_as="My rankings")
    shown = labelling.next_item(database, id, "ann", NOW)
    library.delete(database, home, id)
    with pytest.raises(UserError, match="My rankings was deleted"):
        labelling.submit(database, id, "ann", press(shown), NOW)


def test_a_lease_holds_the_place_and_an_abandoned_one_returns(database, project):
    id = project(1, raters=1)
    ann = labelling.next_item(database, id, "ann", NOW)
    assert labelling.next_item(database, id, "bob", NOW)["state"] == "done"
    later = NOW + labelling.HOLD + timedelta(seconds=1)
    bob = labelling.next_item(database, id, "bob", later)
    assert bob["item"] == ann["item"]
    labelling.submit(database, id, "bob", press(bob), later)
    labelling.submit(database, id, "ann", press(ann), later)  # she worked on while her lease ran out: kept, and counted as extra
    with Session(database) as session:
        assert [(one.rater, one.extra) for one in labels(session, id)] == [("bob", False), ("ann", True)]


def test_undo_gives_the_item_back_and_the_same_ranking_again_is_the_identity(database, project):
    id = project(3, answers=3, models=("a", "b", "c"))
    shown = labelling.next_item(database, id, "ann", NOW)
    labelling.submit(database, id, "ann", press(shown, [[2], [0, 1]], accepted_above=1, flags={"1": ["unsafe"]}), NOW)
    with Session(database) as session:
        before = read(session, id).said
    again = labelling.undo(database, id, "ann", "u1", NOW)
    assert (again["item"], again["answers"]) == (shown["item"], shown["answers"])
    assert again["previous"]["tiers"] == {"overall": [[2], [0, 1]]}
    with Session(database) as session:
        assert not labels(session, id)
    redo = {name: again["previous"][name] for name in ("tiers", "accepted_above", "flags")}
    labelling.submit(database, id, "ann", press(again) | redo, NOW)
    with Session(database) as session:
        after = read(session, id).said
        assert len(session.exec(select(Label)).all()) == 3, "append-only"
    assert [(one.tiers, one.flags, one.accepted_above) for one in before] == [(one.tiers, one.flags, one.accepted_above) for one in after]


def test_a_changed_guideline_must_be_read_before_going_on(database, project):
    id = project(2)
    shown = labelling.next_item(database, id, "ann", NOW)
    assert labelling.change_guideline(database, id, "Be strict.", "owner", NOW) == 2
    with pytest.raises(labelling.GuidelineChanged):
        labelling.submit(database, id, "ann", press(shown), NOW)
    again = labelling.next_item(database, id, "ann", NOW)
    assert (again["item"], again["guideline"]) == (shown["item"], {"version": 2, "text": "Be strict."})
    labelling.submit(database, id, "ann", press(again), NOW)
    with Session(database) as session:
        assert [one.guideline for one in labels(session, id)] == [2]


def test_repeats_come_later_and_only_to_who_ranked_the_first(database, project):
    id = project(20, raters=1, care={"everyone": 0, "repeats": 0.1})
    shown, seen = labelling.next_item(database, id, "ann", NOW), []
    while shown["state"] == "item":
        seen.append(shown["item"])
        shown = labelling.submit(database, id, "ann", press(shown), NOW)
    with Session(database) as session:
        repeats = {item.id: item.of for item in session.exec(select(Item).where(Item.kind == "repeat"))}
    assert len(repeats) == 2
    assert len(set(seen)) == len(seen)
    for id, of in repeats.items():
        if id in seen:
            assert seen.index(id) - seen.index(of) > 5
    assert set(repeats) & set(seen)


def test_pairs_mode_asks_how_much_better_and_every_pair_of_the_answers_is_an_item(database, project):
    id = project(2, models=("a", "b", "c"), mode="pairs", answers=3)
    with Session(database) as session:
        assert len(session.exec(select(Item)).all()) == 6
    shown = labelling.next_item(database, id, "ann", NOW)
    with pytest.raises(UserError, match="how much better"):
        labelling.submit(database, id, "ann", press(shown), NOW)
    labelling.submit(database, id, "ann", press(shown, strength=3), NOW)


def test_a_paused_project_gives_nothing_and_takes_what_was_begun(database, project):
    id = project(3)
    shown = labelling.next_item(database, id, "ann", NOW)
    labelling.pause(database, id, True, NOW)
    assert labelling.next_item(database, id, "ann", NOW)["state"] == "paused"
    assert labelling.submit(database, id, "ann", press(shown), NOW)["state"] == "paused"
    labelling.pause(database, id, False, NOW)
    assert labelling.next_item(database, id, "ann", NOW)["state"] == "item"


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["take", "submit", "skip", "undo", "wait"])), max_size=30))
def test_no_order_of_events_gives_an_item_more_raters_than_it_wants(tmp_path_factory, steps):
    """The state machine: whatever people do, only a label under an expired lease is extra, and it is said to be."""
    from storage import labels as stored
    from storage.database import open_database
    from storage.files import Home

    database = open_database(Home(tmp_path_factory.mktemp("machine")))
    with Session(database) as session:
        session.add(Artifact(id=1, kind="rankings", name="p", folder="", created_at=NOW))
        session.flush()
        two = [{"key": "a", "text": "1"}, {"key": "b", "text": "2"}]
        items = [Item(project=1, position=n, prompt_key=str(n), prompt=[], answers=two) for n in range(3)]
        stored.open_project(session, 1, {"raters": 1}, "", items, NOW)
        session.commit()
    now, holding = NOW, {}
    for who, what in steps:
        if what == "wait":
            now += labelling.HOLD + timedelta(seconds=1)
        before = holding.get(who, {}).get("item")
        try:
            if what == "take":
                holding[who] = labelling.next_item(database, 1, who, now)
            elif what in ("submit", "skip") and holding.get(who, {}).get("state") == "item":
                skipped = {"reason": "unsafe"} if what == "skip" else {}
                holding[who] = labelling.submit(database, 1, who, press(holding[who]) | skipped, now)
            elif what == "undo":
                holding[who] = labelling.undo(database, 1, who, f"undo{next(_count)}", now)
        except UserError:
            continue
        with Session(database) as session:
            counted = [one.item for one in labels(session, 1) if not one.extra]
            assert len(counted) == len(set(counted))
            given = holding.get(who, {}).get("item")
            if what in ("take", "submit", "skip") and given not in (None, before):
                others = [one.item for one in session.exec(select(Lease)) if one.expires_at > now and one.rater != who]
                assert given not in [*counted, *others], "who is given an item finds a place in it"
    database.dispose()
