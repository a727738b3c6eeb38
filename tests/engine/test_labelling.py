"""Ranking projects: what raters get, what is written, what is refused, and when a project is complete."""

from collections import Counter
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session, select

from engine import labelling
from engine.errors import UserError
from engine.rankings import Said, read, write
from engine.stages.generate.rank_answers import RankAnswers
from storage import queries
from storage.labels import extra, labels, progress
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
        ({"seen": [0, 99]}, "read every answer"),
        ({"seen": [0, True]}, "read every answer"),
        ({"tiers": {"overall": [[0.0], [1]]}}, "no answer 0.0"),
        ({"tiers": {"overall": [[0], [True]]}}, "no answer True"),
        ({"flags": {"9" * 5000: ["unsafe"]}}, "is no flag"),
        ({"corrects": 1}, "corrects is 1"),
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
    id = project(2, raters=1)
    ann = labelling.next_item(database, id, "ann", NOW)
    assert labelling.next_item(database, id, "bob", NOW)["item"] != ann["item"]
    labelling.submit(database, id, "bob", press(labelling.next_item(database, id, "bob", NOW)), NOW)
    assert labelling.next_item(database, id, "bob", NOW)["state"] == "done"
    later = NOW + labelling.HOLD + timedelta(seconds=1)
    bob = labelling.next_item(database, id, "bob", later)
    assert bob["item"] == ann["item"]
    labelling.submit(database, id, "ann", press(ann), later)  # she worked on while her lease ran out: kept, and counted as extra
    assert labelling.submit(database, id, "bob", press(bob), later)["state"] == "closed", "who holds the place is waited for"
    with Session(database) as session:
        said = [(one.rater, one.extra) for one in labels(session, id) if one.item == ann["item"]]
        assert said == [("ann", True), ("bob", False)], "the surplus is hers, though she came first"
        assert extra(session, id) == 1


def test_what_comes_after_the_end_is_refused_and_nothing_is_written(database, project):
    id = project(2, raters=2)
    shown = labelling.next_item(database, id, "ann", NOW)
    said = press(shown)
    second = labelling.submit(database, id, "ann", said, NOW)
    labelling.close(database, id, NOW)
    with pytest.raises(UserError, match="closed while you worked"):
        labelling.submit(database, id, "ann", press(second), NOW)
    assert labelling.submit(database, id, "ann", said, NOW)["state"] == "closed", "what is written already is no error"
    with Session(database) as session:
        assert len(session.exec(select(Label)).all()) == 1


@pytest.mark.parametrize("order", ["012", "021", "102", "120", "201", "210"])
def test_what_was_changed_after_a_send_that_seemed_to_fail_corrects_it_whenever_it_arrives(database, project, order):
    id = project(3, answers=3, models=("a", "b", "c"))
    shown = labelling.next_item(database, id, "ann", NOW)
    names = [f"sent{n}" for n in range(3)]
    tiers = [[[n], [one for one in range(3) if one != n]] for n in range(3)]
    sent = [press(shown, tiers[n], client_event_id=names[n], corrects=names[:n]) for n in range(3)]
    for n in map(int, order):
        with suppress(UserError):  # an older one that comes late, for which the browser does not wait any more
            labelling.submit(database, id, "ann", sent[n], NOW)
    with Session(database) as session:
        (kept,) = labels(session, id)
        assert kept.tiers["overall"][0] == [kept.shown[2]], "the last thing that was sent is what counts"
        assert not kept.extra
    back = labelling.undo(database, id, "ann", "undo", NOW)
    assert back["previous"]["tiers"]["overall"] == tiers[2]
    with pytest.raises(UserError, match="nothing to undo"):
        labelling.undo(database, id, "ann", "again", NOW)


def test_nobody_corrects_what_somebody_else_said(database, project):
    id = project(2, raters=2)
    shown = labelling.next_item(database, id, "ann", NOW)
    labelling.submit(database, id, "ann", press(shown, client_event_id="hers"), NOW)
    with pytest.raises(UserError, match="was not given to you"):
        labelling.submit(database, id, "bob", press(shown, corrects=["hers"]), NOW)
    with pytest.raises(UserError, match="corrects"):
        labelling.submit(database, id, "ann", press(shown, corrects="hers"), NOW)


def test_no_number_that_a_rater_chooses_meets_an_owners_a_judges_or_another_raters(database, project):
    id = project(2, raters=2)
    with Session(database) as session:
        items = [item.id for item in session.exec(select(Item))]
    shown = labelling.next_item(database, id, "ann", NOW)
    said = press(shown, client_event_id=f"{id}/{items[1]}/judge")
    labelling.submit(database, id, "ann", said, NOW)
    other = labelling.next_item(database, id, "bob", NOW)
    labelling.submit(database, id, "bob", press(other, client_event_id=said["client_event_id"]), NOW)
    with Session(database) as session:
        write(session, id, [Said(items[1], "judge", tiers={"overall": (("x",),)})], NOW)
        session.commit()
        assert len(labels(session, id)) == 3
    second = labelling.next_item(database, id, "ann", NOW)
    labelling.submit(database, id, "ann", press(second, client_event_id="settle/1"), NOW)
    with Session(database) as session:
        keys = [choice["key"] for choice in session.get_one(Item, items[0]).answers]
    labelling.settle(database, id, "owner", items[0], {"overall": [[key] for key in keys]}, "settle/1", NOW)
    with Session(database) as session:
        assert read(session, id).settled


def test_a_skip_leaves_the_place_to_somebody_else(database, project):
    id = project(2)
    shown, other = (labelling.next_item(database, id, who, NOW) for who in ("ann", "bob"))
    assert labelling.submit(database, id, "ann", press(shown, reason="cannot judge"), NOW)["state"] == "done"
    again = labelling.submit(database, id, "bob", press(other), NOW)
    assert again["item"] == shown["item"], "bob is here, and is asked"
    assert labelling.submit(database, id, "bob", press(again), NOW)["state"] == "closed"


def test_what_everybody_skipped_keeps_no_project_open(database, project):
    id = project(2)
    for who in ("ann", "bob"):
        labelling.next_item(database, id, who, NOW)
    for who in ("ann", "bob"):
        shown = labelling.next_item(database, id, who, NOW)
        while shown["state"] == "item":
            shown = labelling.submit(database, id, who, press(shown, reason="unsafe"), NOW)
    assert labelling.next_item(database, id, "ann", NOW)["state"] == "item", "the other one of bob's"
    shown = labelling.next_item(database, id, "ann", NOW)
    assert labelling.submit(database, id, "ann", press(shown, reason="unsafe"), NOW)["state"] == "closed"


def test_a_skip_that_is_taken_back_is_extra_if_its_place_is_taken_by_then(database, project):
    id = project(2, raters=1)
    shown, _ = (labelling.next_item(database, id, who, NOW) for who in ("ann", "bob"))
    labelling.submit(database, id, "ann", press(shown, reason="unsafe"), NOW)
    labelling.next_item(database, id, "cat", NOW)  # she has the place now
    back = labelling.undo(database, id, "ann", "u", NOW)
    assert (back["item"], back["previous"]["reason"]) == (shown["item"], "unsafe")
    labelling.submit(database, id, "ann", press(back), NOW)
    labelling.submit(database, id, "cat", press(shown), NOW)
    with Session(database) as session:
        assert {one.rater: one.extra for one in labels(session, id)} == {"ann": True, "cat": False}


def test_undo_gives_the_item_back_and_the_same_ranking_again_is_the_identity(database, project):
    id = project(3, answers=3, models=("a", "b", "c"))
    shown = labelling.next_item(database, id, "ann", NOW)
    labelling.submit(database, id, "ann", press(shown, [[2], [0, 1]], accepted_above=1, flags={"1": ["unsafe"]}), NOW)
    with Session(database) as session:
        before = read(session, id).said
    again = labelling.undo(database, id, "ann", "u1", NOW)
    assert (again["item"], again["answers"]) == (shown["item"], shown["answers"])
    assert again["previous"]["tiers"] == {"overall": [[2], [0, 1]]}
    for same in (labelling.undo(database, id, "ann", "u1", NOW), labelling.next_item(database, id, "ann", NOW)):
        assert same["previous"] == again["previous"], "neither a lost answer nor a reload loses it"
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
    assert set(repeats) <= set(seen), "the project waits for both"
    assert shown["state"] == "closed"


def test_a_due_repeat_is_given_although_somebody_else_has_ranked_the_last_item(database, project):
    id = project(8, raters=1, care={"everyone": 0, "repeats": 0.25})
    for _ in range(4):
        for who in ("ann", "bob"):
            labelling.submit(database, id, who, press(labelling.next_item(database, id, who, NOW)), NOW)
    given = []
    for who in ("bob", "ann"):
        shown = labelling.next_item(database, id, who, NOW)
        while shown["state"] == "item":
            given.append(shown["item"])
            shown = labelling.submit(database, id, who, press(shown), NOW)
    assert shown["state"] == "closed"
    with Session(database) as session:
        assert set(given) == {item.id for item in session.exec(select(Item).where(Item.kind == "repeat"))}


def test_who_is_here_still_gets_what_everybody_gets_and_who_left_is_not_waited_for_longer_than_a_lease(database, project):
    id = project(4, raters=1, care={"everyone": 1, "repeats": 0})
    for who in ("ann", "bob", "cat"):
        labelling.submit(database, id, who, press(labelling.next_item(database, id, who, NOW)), NOW)
    soon = NOW + labelling.HOLD / 2
    shown = labelling.next_item(database, id, "ann", soon)
    while shown["state"] == "item":
        shown = labelling.submit(database, id, "ann", press(shown), soon)
    assert shown["state"] == "done", "bob and cat have some before them"
    shown = labelling.next_item(database, id, "bob", soon)
    while shown["state"] == "item":
        shown = labelling.submit(database, id, "bob", press(shown), soon)
    assert shown["state"] == "done"
    assert labelling.next_item(database, id, "bob", NOW + labelling.HOLD - timedelta(seconds=1))["state"] == "done"
    assert labelling.next_item(database, id, "bob", NOW + labelling.HOLD + timedelta(seconds=1))["state"] == "closed", "cat left"
    with Session(database) as session:
        assert [one.rater for one in labels(session, id)].count("bob") == 4


def test_pairs_mode_asks_how_much_better_and_every_pair_of_the_answers_is_an_item(database, project):
    id = project(2, models=("a", "b", "c"), mode="pairs", answers=3)
    with Session(database) as session:
        assert len(session.exec(select(Item)).all()) == 6
    shown = labelling.next_item(database, id, "ann", NOW)
    for strength in (None, [], 0, 5, True, 1.0, "1"):
        with pytest.raises(UserError, match="how much better"):
            labelling.submit(database, id, "ann", press(shown, strength=strength), NOW)
    labelling.submit(database, id, "ann", press(shown, strength=3), NOW)


def test_a_paused_project_gives_nothing_and_takes_what_was_begun(database, project):
    id = project(3)
    shown = labelling.next_item(database, id, "ann", NOW)
    labelling.pause(database, id, True, NOW)
    assert labelling.next_item(database, id, "ann", NOW)["state"] == "paused"
    assert labelling.submit(database, id, "ann", press(shown), NOW)["state"] == "paused"
    labelling.pause(database, id, False, NOW)
    assert labelling.next_item(database, id, "ann", NOW)["state"] == "item"


def test_what_is_taken_back_while_paused_may_be_said_again_then_or_later(database, project):
    id = project(3)
    shown = labelling.next_item(database, id, "ann", NOW)
    labelling.submit(database, id, "ann", press(shown, [[1], [0]]), NOW)
    labelling.pause(database, id, True, NOW)
    for number in range(2):
        back = labelling.undo(database, id, "ann", f"u{number}", NOW)
        assert (back["item"], back["previous"]["tiers"]) == (shown["item"], {"overall": [[1], [0]]})
        assert labelling.next_item(database, id, "ann", NOW)["state"] == "paused"
        if not number:
            assert labelling.submit(database, id, "ann", press(back, [[1], [0]]), NOW)["state"] == "paused"
    labelling.pause(database, id, False, NOW)
    later = labelling.next_item(database, id, "ann", NOW)
    assert (later["item"], later["previous"]["tiers"]) == (shown["item"], {"overall": [[1], [0]]})


ODD = ("\ud800", "\0", 0.0, 1.0, 2**70, "9" * 5000, "unsafe")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(["overall", "0"]), inner, max_size=3),
    max_leaves=8,
)
RANKED = ("tiers", "seen", "strength", "accepted_above", "flags", "better")
FIELDS = (*RANKED, "client_event_id", "corrects", "item", "guideline", "comment", "reason", "active_ms", "wall_ms")


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
@pytest.mark.parametrize("mode", ["rank", "pairs"])
def test_whatever_comes_over_the_wire_is_a_label_or_refused_with_a_reason(database, project, mode, data):
    if not hasattr(project, mode):
        setattr(project, mode, project(200, mode=mode))
    id = getattr(project, mode)
    shown = labelling.next_item(database, id, "ann", NOW)
    tiers = st.lists(st.lists(st.sampled_from([0, 1, 0.0, True, "0", 2, -1]), max_size=2), max_size=2)
    odd = ANYTHING | tiers | tiers.map(lambda one: {"overall": one}) | st.lists(st.sampled_from([0, 1, 1.0, True, 99]), max_size=3)
    changed = data.draw(st.dictionaries(st.sampled_from(FIELDS), odd, max_size=2))
    said = press(shown, strength=2) if mode == "pairs" else press(shown)
    before = written(database)
    try:
        labelling.submit(database, id, "ann", said | changed, NOW)
    except UserError:
        assert written(database) == before
        assert labelling.next_item(database, id, "ann", NOW)["item"] == shown["item"]
    with suppress(UserError):
        labelling.undo(database, id, "ann", data.draw(ANYTHING), NOW)
    with Session(database) as session:
        for one in read(session, id).said:
            assert one.act == "skip" or sorted(key for tier in one.tiers["overall"] for key in tier) == sorted(one.shown)


def written(database):
    """How many labels there are, of whatever act."""
    with Session(database) as session:
        return len(session.exec(select(Label)).all())


STEPS = st.tuples(st.sampled_from("abc"), st.sampled_from(["take", "submit", "skip", "change", "undo", "wait"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=40), st.sampled_from([1, 2]))
def test_no_order_of_events_gives_an_item_more_raters_than_it_wants(tmp_path_factory, steps, wanted):
    """The state machine: whatever people do, only a label under an expired lease is extra, and it is said to be."""
    from storage import labels as stored
    from storage.database import open_database
    from storage.files import Home

    database = open_database(Home(tmp_path_factory.mktemp("machine")))
    with Session(database) as session:
        session.add(Artifact(id=1, kind="rankings", name="p", folder="", created_at=NOW))
        session.flush()
        two = [{"key": "a", "text": "1"}, {"key": "b", "text": "2"}]
        items = [Item(project=1, position=n, prompt_key=str(n), prompt=[], answers=two, wanted=wanted * (n < 3)) for n in range(4)]
        stored.open_project(session, 1, {"raters": wanted}, "", items, NOW)
        session.commit()
    now, holding, last = NOW, {}, {}
    for who, what in steps:
        if what == "wait":
            now += labelling.HOLD + timedelta(seconds=1)
        before = holding.get(who, {}).get("item")
        with Session(database) as session:
            live = {(one.rater, one.item) for one in session.exec(select(Lease)) if one.expires_at > now}
            known = {one.id for one in session.exec(select(Label))}
        try:
            if what == "take":
                holding[who] = labelling.next_item(database, 1, who, now)
            elif what in ("submit", "skip") and holding.get(who, {}).get("state") == "item":
                last[who] = press(holding[who]) | ({"reason": "unsafe"} if what == "skip" else {})
                holding[who] = labelling.submit(database, 1, who, last[who], now)
            elif what == "change" and who in last:
                changed = last[who] | {"client_event_id": f"c{next(_count)}", "corrects": [last[who]["client_event_id"]]}
                changed.pop("reason", None)
                holding[who] = labelling.submit(database, 1, who, changed, now)
                last[who] = changed
            elif what == "undo":
                holding[who] = labelling.undo(database, 1, who, f"undo{next(_count)}", now)
        except UserError:
            continue
        with Session(database) as session:
            said = labels(session, 1)
            assert len({(one.rater, one.item) for one in said}) == len(said), "nobody counts twice for one item"
            ranked = Counter(one.item for one in said if one.act == "rank" and not one.extra)
            leases = [one for one in session.exec(select(Lease)) if one.expires_at > now]
            full = ranked + Counter(one.item for one in leases)
            assert all(full[item.id] <= item.wanted for item in session.exec(select(Item)) if item.wanted)
            new = [one for one in session.exec(select(Label)) if one.id not in known]
            assert not any(one.extra for one in new if (one.rater, one.item) in live), "who holds a place is never extra"
            given = holding.get(who, {}).get("item")
            if what in ("take", "submit", "skip") and given not in (None, before):
                assert (given, who) in [(one.item, one.rater) for one in leases], "who is given an item finds a place in it"
            if session.get_one(Project, 1).closed_at:
                assert progress(session, session.get_one(Project, 1)) == (4, 4)
                assert not leases, "nobody is working"
    database.dispose()
