"""The owner's page of rankings: what it says, what a press writes, what it never says too early, and who may come."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from app.access import Gate
from app.pages import Place, home, library, rankings, rankings_queue, run_list
from app.pages.new import _load
from app.view import Node
from engine import labelling, rankings_report, users
from engine.agreement import pair_agreement
from engine.errors import UserError
from engine.rankings import Said, read, write
from engine.rankings_report import of_project, summary
from engine.strengths import strengths, win_matrix
from storage import labels, queries
from storage.files import Home
from storage.labels import progress
from storage.tables import Consumed, Guideline, Label, Project, Run
from tests.app.test_access import PASSWORD, Visitor, cheap, signed_in, told
from tests.app.test_corrections import HOSTILE, parts, text
from tests.rankings_seed import MODELS, RATERS, seed_project

__all__ = ["cheap"]  # passwords that cost nothing


@pytest.fixture
def place(database: Engine, home: Home) -> Place:
    return Place(database, home)


def known(project: int | None, **more: Any) -> dict[str, Any]:
    plain = {"project": project, "criterion": "", "settled": False, "start": 0, "said": 0}
    return plain | {"signs_in": False, "origin": "https://rank.example"} | more


def page(place: Place, project: int | None, **more: Any) -> list[Node]:
    return rankings.tree(place, known(project, **more))


def buttons(nodes: list[Node], on: str) -> list[dict[str, Any]]:
    return [node["a"].get("data", {}) for node in parts(nodes) if node.get("on") == on]


def press(place: Place, state: dict[str, Any], **data: Any) -> list[Node]:
    return [*rankings.do(place, data, state, "ann"), *rankings.tree(place, state)]


def links(nodes: list[Node]) -> list[str]:
    return [str(node["a"].get("href", "")) for node in parts(nodes) if node["t"] == "a"]


# what it says


@pytest.mark.parametrize("more", [{}, {"criteria": ("helpful", "honest")}, {"raters": RATERS[:1]}, {"raters": ()}])
def test_columns_and_rankings_say_the_same(place: Place, more: dict[str, Any]) -> None:
    """Read as columns of text or as `Rankings`: one set of figures, and the same progress as the database counts."""
    project = seed_project(place.database, **more)
    with Session(place.database) as session:
        labelling_rows = read(session, project)
        counted = progress(session, session.get_one(Project, project))
    for criterion in labelling_rows.criteria:
        quick, slow = of_project(place.database, project, criterion), summary(labelling_rows, criterion)
        for name in ("done", "items", "agreement", "alpha", "tau", "consistency", "ties", "skips", "position", "length", "gold"):
            assert getattr(quick, name) == getattr(slow, name), name
        assert (quick.disagreements, quick.cycles, quick.wins.tolist()) == (slow.disagreements, slow.cycles, slow.wins.tolist())
        assert quick.strengths == slow.strengths
        plain = [(one.name, one.ranked, one.skipped, one.repeats, one.seconds) for one in slow.people]
        assert [(one.name, one.ranked, one.skipped, one.repeats, one.seconds) for one in quick.people] == plain
        assert (quick.done, quick.items) == counted


def test_labels_of_people_whose_turn_had_ended_are_counted(place: Place) -> None:
    project = seed_project(place.database)
    assert "turn had ended" not in text(page(place, project))
    with Session(place.database) as session:
        some = labels.labels(session, project)[:2]
        for n, one in enumerate(some):
            one.extra = True
            session.add(one)
            session.flush()
            told = f"{n + 1} label" + (" was" if not n else "s were")
            assert labels.extra(session, project) == summary(read(session, project)).extra == n + 1
        one = some[0]
        gone = Label(client_event_id="gone", rankings=project, item=one.item, rater=one.rater, act="undo", shown=[], at=queries.utc_now())
        gone.supersedes = one.id
        session.add(gone)
        session.commit()
    assert told == "2 labels were"
    assert "1 label was given by somebody whose turn had ended" in text(page(place, project))


def test_figures_are_those_of_normal_items_alone(place: Place) -> None:
    """Against the functions of agreement and strengths on rankings chosen by hand: no gold, no repeat, no practice."""
    project = seed_project(place.database)
    with Session(place.database) as session:
        rows = read(session, project)
    normal = rows.ranked(kinds=("normal",))
    by = {item.id: {choice.key: choice.by for choice in item.choices} for item in rows.items.values() if item.kind == "normal"}
    told = summary(rows)
    assert told.agreement == pair_agreement(normal)
    assert told.strengths == strengths(win_matrix(normal, by))
    assert {one.model for one in told.strengths} == set(MODELS), "no model called known"
    firsts = {(row.item, row.rater) for row in normal}
    assert told.consistency.n_items == len({row.of for row in rows.ranked(kinds=("repeat",)) if (row.of, row.rater) in firsts}) > 0
    assert told.gold.total.n_items == 12
    assert sum(one.repeats for one in told.people) == 10


def test_the_sentence_comes_from_the_figures(place: Place) -> None:
    project = seed_project(place.database)
    told = of_project(place.database, project)
    sentence = text([next(node for node in page(place, project) if isinstance(node, dict) and node["t"] == "h1")])
    assert sentence.startswith(f"{told.done} of {told.items} items ranked by 3 people. They agree on {told.agreement.value:.0%} of pairs")
    best, worst = told.preferred or (None, None)
    assert best
    assert worst
    assert worst.behind.interval
    assert worst.behind.interval[0] > 0
    assert f"{best.model} is preferred most and {worst.model} least: strength difference {worst.behind.value:.1f}" in sentence
    assert worst.behind.value == pytest.approx((best.strength.value or 0) - (worst.strength.value or 0))


def test_one_rater_agrees_with_nobody_and_few_labels_say_nothing(place: Place) -> None:
    alone = text(page(place, seed_project(place.database, raters=RATERS[:1])))
    assert "Not enough raters to say how far people agree." in alone
    assert "100%" not in text([node for node in parts(page(place, 1)) if node["t"] == "h1"])
    few = text(page(place, seed_project(place.database, items=4)))
    assert "Not enough labels to say how far people agree. Not enough labels to say which model is preferred." in few
    none = text(page(place, seed_project(place.database, raters=())))
    assert "is ranked yet" in none
    assert "Nobody has ranked anything yet" in none


def test_a_new_label_is_counted_at_once(place: Place) -> None:
    project = seed_project(place.database, raters=())
    assert of_project(place.database, project).people == []
    shown = labelling.next_item(place.database, project, "ann", queries.utc_now())
    ranked = {"overall": [[n] for n in range(len(shown["answers"]))]}
    said = {"client_event_id": "e", "item": shown["item"], "guideline": 1, "tiers": ranked, "seen": list(range(9))}
    labelling.submit(place.database, project, "ann", said, queries.utc_now())
    assert [(one.name, one.ranked) for one in of_project(place.database, project).people] == [("ann", 1)]
    labelling.undo(place.database, project, "ann", "u", queries.utc_now())
    assert sum(one.ranked for one in of_project(place.database, project).people) == 0, "what was taken back does not count"


def test_labels_counted_piece_by_piece_say_what_they_say_counted_at_once(place: Place) -> None:
    project = seed_project(place.database)
    with Session(place.database) as session:
        rows = session.exec(select(Label).where(Label.rankings == project).order_by(col(Label.id))).all()
        plain = [row.model_dump() for row in rows]
        for row in rows[::-1]:
            session.delete(row)
        session.commit()
    for at in range(0, len(plain), 7):
        with Session(place.database) as session:
            session.add_all(Label(**row) for row in plain[at : at + 7])
            session.commit()
            whole = summary(read(session, project))
        told = of_project(place.database, project)
        assert (told.done, told.agreement, told.tau, told.consistency, told.gold) == (
            whole.done, whole.agreement, whole.tau, whole.consistency, whole.gold
        )  # fmt: skip
        assert (told.strengths, told.disagreements) == (whole.strengths, whole.disagreements)


def test_criteria_have_a_tab_each(place: Place) -> None:
    project = seed_project(place.database, criteria=("helpful", "honest"), answers=2)
    state = known(project)
    first = text(rankings.tree(place, state))
    assert [data["criterion"] for data in buttons(rankings.tree(place, state), "criterion")] == ["helpful", "honest"]
    second = text(press(place, state, name="criterion", criterion="honest"))
    assert state["criterion"] == "honest"
    assert first.splitlines()[1] != second.splitlines()[1]
    assert "Ranked by" in second
    rankings.tree(place, nonsense := known(project, criterion="nonsense"))
    assert nonsense["criterion"] == "helpful"


def test_the_list_and_an_empty_home(place: Place) -> None:
    nobody = page(place, None)
    assert "/new?stage=rank_answers" in links(nobody)
    assert "Nobody ranks anything yet" in text(nobody)
    one, other = seed_project(place.database, name="first"), seed_project(place.database, name="second", raters=())
    labelling.pause(place.database, other, True, queries.utc_now())
    listed = page(place, None)
    assert {f"/rankings?project={one}", f"/rankings?project={other}"} <= set(links(listed))
    assert {"open", "paused"} <= set(text(listed).splitlines())
    assert "0 of 36 items" in text(listed)
    for missing in (0, 999):
        assert "is not here" in text(page(place, missing))


def test_hostile_text_stays_text(place: Place) -> None:
    project = seed_project(place.database, hostile=f" {HOSTILE}", raters=("ann", f"bo {HOSTILE}"), criteria=(f"kind {HOSTILE}", "b"))
    for nodes in (page(place, None), page(place, project)):
        assert HOSTILE in text(nodes)
        assert {node["t"] for node in parts(nodes)}.isdisjoint({"script", "img", "iframe", "style"})


# what a press does


def current(place: Place, project: int, item: int) -> Label | None:
    with Session(place.database) as session:
        return labels.settlement(session, project, item)


def test_a_disagreement_is_settled_and_leaves_the_queue(place: Place) -> None:
    project = seed_project(place.database)
    state = known(project)
    queue = [id for id, _ in of_project(place.database, project).disagreements]
    first = buttons(rankings.tree(place, state), "settle")
    item = first[0]["item"]
    assert item == queue[0], "the worst first"
    by_rater = next(data for data in first if data.get("rater"))
    shown = press(place, state, **by_rater, name="settle")
    assert item not in {data["item"] for data in buttons(shown, "settle")}
    with Session(place.database) as session:
        theirs = next(one for one in labels.labels(session, project) if (one.item, one.rater) == (item, by_rater["rater"]))
    settled = current(place, project, item)
    assert settled
    assert (settled.tiers, settled.rater, settled.act) == (theirs.tiers, "ann", "settle")
    again = press(place, known(project, settled=True), name="start", to=0)
    assert "ann settled it just now:" in text(again)
    press(place, state, **by_rater, name="settle")  # a press that comes twice
    with Session(place.database) as session:
        assert len(labels.labels(session, project, ("settle",))) == 1
    keys = [key for tier in settled.tiers["overall"] for key in tier]
    hand = next(data for data in buttons(again, "settle") if data.get("form"))
    press(place, state, **hand, name="settle", typed={f"0/{key}": "0" for key in keys})
    changed = current(place, project, item)
    assert changed
    assert [sorted(tier) for tier in changed.tiers["overall"]] == [sorted(keys)], "all tied by hand"
    assert changed.supersedes == settled.id


def test_the_majority_settles_by_every_criterion(place: Place) -> None:
    project = seed_project(place.database, criteria=("helpful", "honest"))
    data = next(one for one in buttons(page(place, project), "settle") if not one.get("rater") and not one.get("form"))
    press(place, known(project), **data, name="settle")
    settled = current(place, project, data["item"])
    assert settled
    assert set(settled.tiers) == {"helpful", "honest"}


def test_no_majority_is_offered_where_raters_are_split(place: Place) -> None:
    project = seed_project(place.database, raters=())
    with Session(place.database) as session:
        item = next(one for one in read(session, project).items.values() if one.kind == "normal")
        a, b, c = (choice.key for choice in item.choices)
        said = {"Mara": ((a,), (b,), (c,)), "Jonas": ((c,), (a,), (b,))}
        write(session, project, [Said(item.id, rater, tiers={"overall": order}) for rater, order in said.items()], queries.utc_now())
        session.commit()
    shown = page(place, project)
    assert "Raters are split: most agree on no order of all answers." in text(shown)
    assert "Take the majority" not in text(shown)
    with pytest.raises(UserError, match="most agree on no order"):
        press(place, known(project), name="settle", item=item.id, before=0)


@pytest.mark.parametrize("data", [{"item": 99999}, {"item": 1, "rater": "stranger"}, {"item": "x"}, {}, {"item": 61}])
def test_what_settles_nothing_writes_nothing(place: Place, data: dict[str, Any]) -> None:
    project, _other = seed_project(place.database), seed_project(place.database)
    with pytest.raises(UserError):
        press(place, known(project), name="settle", **data)
    with Session(place.database) as session:
        assert labels.labels(session, project, ("settle",)) == []


def test_pause_close_and_what_waits(place: Place) -> None:
    project = seed_project(place.database)
    with Session(place.database) as session:
        session.add(Run(stage="collect_preferences", queued_at=queries.utc_now()))
        session.flush()
        session.add(Consumed(run=1, artifact=project, field="rankings"))
        session.commit()
        done, of = progress(session, session.get_one(Project, project))
        listed = text(run_list.tree(session, {"filter": {"status": "", "words": ""}, "picked": []}))
    assert f"waiting for people, {done} of {of}" in listed
    assert f"/rankings?project={project}" in links(home.tree(place))
    state = known(project)
    shown = rankings.tree(place, state)
    assert "/runs?run=1" in links(shown)
    assert {f"/label/?project={project}", f"/new?stage=collect_preferences&rankings={project}"} <= set(links(shown))
    assert "paused" in text(press(place, state, name="pause"))
    assert "Resume" in text(rankings.tree(place, state))
    press(place, state, name="resume")
    assert "confirm" in buttons(rankings.tree(place, state), "close")[0]
    closed = press(place, state, name="close")
    assert "closed" in text(closed)
    assert f"/label/?project={project}" not in links(closed)
    with Session(place.database) as session:
        assert [run.id for run in queries.ready_to_start(session)] == [1]
    with pytest.raises(UserError, match="cannot be paused"):
        press(place, state, name="pause")


def test_a_guideline_has_versions(place: Place) -> None:
    project = seed_project(place.database)
    state = known(project)
    press(place, state, name="guideline", typed={"guideline": "Be brief."})
    press(place, state, name="guideline", typed={"guideline": "Be brief. "})  # the same again
    with Session(place.database) as session:
        newest = labels.guideline(session, project)
        assert (newest.version, newest.text, newest.person) == (2, "Be brief.", "ann")
        assert session.get(Guideline, (project, 1))
    with pytest.raises(UserError, match="shorten it"):
        press(place, state, name="guideline", typed={"guideline": "x" * 20_001})


def test_a_rater_is_invited_by_a_link_that_is_shown_once(place: Place) -> None:
    state = known(seed_project(place.database))
    shown = press(place, state, name="invite", typed={"rater": "bob"})
    link = next(data["text"] for data in buttons(shown, "copy"))
    assert link.startswith("https://rank.example/welcome?token="), "it can be pasted to somebody as it is"
    assert link in text(shown)
    assert link not in str(state) + str(rankings.tree(place, state)), "the state holds ids only"
    assert "dianjing user add NAME --role owner" in text(shown)
    assert "dianjing user add" not in text(page(place, state["project"], signs_in=True))
    with Session(place.database) as session:
        bob = users.invited(session, link.partition("=")[2], queries.utc_now())
        assert (bob.name, bob.role, bob.password_hash) == ("bob", "rater", "")
    press(place, state, name="invite", typed={"rater": "bob"})  # a new link while none is used
    users.accept(place.database, link.partition("=")[2], PASSWORD, queries.utc_now())
    for name in ("bob", " ", "a\nb"):
        with pytest.raises(UserError):
            press(place, state, name="invite", typed={"rater": name})


# judges, the library, and the form that makes projects


def test_a_judges_rankings_say_how_far_to_trust_them(place: Place, add_artifact: Callable[..., int]) -> None:
    project = seed_project(place.database)
    nothing = {"value": None, "n": 0, "n_items": 0, "decided": 0, "items": 0, "ties": 0.0, "interval": None}
    agreement = {"people": nothing, "known": nothing, "of": "", "among_people": {"value": None}}
    told = {"project": project, "judge": "gemma judges", "agreement": agreement, "validated": False, "consistency": None, "mass": None,
            "length_bias": {"share": {"value": None}}, "unreadable": 0, "items": 24}  # fmt: skip
    judge = add_artifact("rankings", "by gemma", format="judge", **told)
    with Session(place.database) as session:
        theirs = [one for one in read(session, project).said if one.rater == RATERS[0]]
        write(session, judge, [one.__class__(one.item, "gemma judges", tiers=one.tiers) for one in theirs if one.tiers], queries.utc_now())
        session.commit()
    shown = text(page(place, judge))
    assert "not validated" in shown
    assert "nobody has ranked" in shown
    assert "Rank\n" not in shown
    assert "gemma judges" in text(page(place, None))


def test_the_library_knows_open_projects(place: Place) -> None:
    project = seed_project(place.database)
    state = {"artifact": None, "kind": "rankings", "words": "", "start": 0}
    assert "open" in text(library.tree(place, state))
    shown = library.tree(place, state | {"artifact": project})
    assert f"/rankings?project={project}" in links(shown)


def test_lists_of_artifacts_fill_the_form(place: Place) -> None:
    class Request:
        query_params = {"stage": "rank_answers", "responses": "4,7,x"}

    filled, _ = _load(place, Request())  # type: ignore[arg-type]
    assert filled["settings"] == {"responses": [4, 7]}


def test_raters_may_not_see_it(database: Engine) -> None:
    for name, role in (("ann", "owner"), ("bob", "rater")):
        users.add(database, name, role, PASSWORD, queries.utc_now())
    gate = Gate(told, database, login=True)
    html = {"accept": "text/html"}
    assert signed_in(gate, "ann").ask("GET", "/rankings?project=1", headers=html).status_code == 200
    bob = signed_in(gate, "bob")
    assert bob.ask("GET", "/rankings?project=1", headers=html).headers["location"] == "/label/"
    assert bob.ask("GET", "/rankings").status_code == 403
    assert Visitor(gate).ask("GET", "/rankings").status_code == 401


def test_what_is_kept_is_kept_by_the_last_label(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    project = seed_project(place.database)
    first = of_project(place.database, project)
    assert of_project(place.database, project) is first
    monkeypatch.setattr(rankings_report._Counted, "summary", lambda *_: pytest.fail("counted again"))
    page(place, project)


@pytest.mark.parametrize(
    "line, words",
    [
        (None, "A > B = C"),
        (0, "A > B = C (none acceptable)"),
        (1, "A (acceptable to here) > B = C"),
        (2, "A > B = C (acceptable to here)"),
    ],
)
def test_an_order_says_down_to_where_it_is_acceptable(line, words):
    assert rankings_queue._order([["a"], ["b", "c"]], {"a": "A", "b": "B", "c": "C"}, line=line) == words
