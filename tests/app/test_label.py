"""The raters' app without a browser: what it gets in every state, who it believes, and that no model's name is ever in it."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from app.dashboard import application
from engine import labelling, users
from storage.database import open_database
from storage.files import Home
from storage.labels import RANK, SKIP, UNDO, labels
from storage.queries import utc_now
from storage.tables import Artifact
from tests.labelling import MODELS, add_project, press

PASSWORD = "correct horse battery"
LOCAL_HOST = "http://127.0.0.1:7860"


class Browser:
    """One person's browser in front of the whole application, speaking as Gradio's own pages do."""

    def __init__(self, app: Any, name: str = "") -> None:
        self.app, self.cookies, self.seen = app, httpx.Cookies(), ""
        if name:
            self.ask("POST", "/login", data={"name": name, "password": PASSWORD})
        self.events = {event["targets"][0][1]: event for event in self.ask("GET", "/label/config").json()["dependencies"]}

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=LOCAL_HOST, cookies=self.cookies) as client:
                answer = await client.request(method, path, **options)
                self.cookies = client.cookies
                return answer

        answer = asyncio.run(asked())
        self.seen += answer.text
        return answer

    def run(self, event: str, data: Any = None, query: str = "") -> Any:
        """What an event's handler answers, for each of its outputs."""
        body = {"data": [], "fn_index": self.events[event]["id"], "session_hash": "x", "event_data": data}
        answer = self.ask("POST", "/label/gradio_api/run/predict" + query, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def open(self, query: str = "") -> Any:
        return self.run("load", query=query)

    def act(self, event: str, project: object, said: Any, **more: Any) -> Any:
        return self.run(event, {"project": project, "said": said, **more})[0]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Any]:
    """Where nobody has to sign in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DIANJING_DATABASE", raising=False)
        home = Home(tmp_path_factory.mktemp("label") / "home")
        database = open_database(home)
    return database, application(database, home, login=False)


@pytest.fixture
def here(local: tuple[Engine, Any]) -> Browser:
    """Whoever sits at the machine."""
    return Browser(local[1])


@pytest.fixture
def database(local: tuple[Engine, Any]) -> Engine:
    """Theirs; every test makes projects of its own in it."""
    return local[0]


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Any]]:
    """Where everybody has to: an owner, ann, and the raters bob and cat."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "COST", (2**4, 8, 1))
        patch.delenv("DIANJING_DATABASE", raising=False)
        home = Home(tmp_path_factory.mktemp("label") / "home")
        database = open_database(home)
        for name, role in (("ann", "owner"), ("bob", "rater"), ("cat", "rater")):
            users.add(database, name, role, PASSWORD, utc_now())
        yield database, application(database, home, login=True)


def words(tree: Any) -> str:
    return json.dumps(tree, ensure_ascii=False)


def test_the_list_says_what_there_is_and_how_far_one_is(here: Browser, database: Engine) -> None:
    with Session(database) as session:
        for row in session.exec(select(Artifact)):
            row.deleted_at = utc_now()
        session.commit()
    assert "nothing to rank yet" in words(here.open()[0])
    first = add_project(database, guideline="# Be *fair*\n\nand quick")
    second = add_project(database, name="Rankings of answers of secret-base-7b")
    third = add_project(database, name="The Secret-Tuned-7B against the rest")
    labelling.pause(database, first, True, utc_now())
    shown, widget = here.open("?as=Ann")
    assert widget is None
    assert "Be *fair" in words(shown)
    assert "paused" in words(shown)
    assert "0 / 3" in words(shown)
    assert {"Politeness", f"Project {second}", f"Project {third}"} <= set(json.dumps(shown).replace('"', "\n").split("\n"))
    assert f"/label/?project={first}&as=Ann" in words(shown)
    assert not any(name in words(shown).lower() for name in MODELS)


def test_who_ranks_is_who_they_say_where_nobody_signs_in(here: Browser, database: Engine) -> None:
    id = add_project(database, raters=2)
    names = {"Ann": "Ann", "  Ann   Bee ": "Ann Bee", "": "local owner", "x\u202ey": "local owner", "y" * 99: "y" * 60}
    for given, name in names.items():
        assert here.open(f"?project={id}&as={given}")[1]["rater"] == name, given
    first = here.open(f"?project={id}&as=Ann")[1]["shown"]
    told = here.act("submit", id, press(first), **{"as": "Ann"})
    assert told["shown"]["done"] == 1
    with Session(database) as session:
        assert [one.rater for one in labels(session, id)] == ["Ann"]


def test_who_is_signed_in_is_who_ranks_whatever_they_say(signed: tuple[Engine, Any]) -> None:
    database, app = signed
    id = add_project(database)
    bob = Browser(app, "bob")
    shown, widget = bob.open(f"?project={id}&as=ann")
    assert widget["rater"] == "bob"
    assert "as=" not in words(shown) + widget["back"]
    bob.act("submit", id, press(widget["shown"]), **{"as": "cat"})
    with Session(database) as session:
        assert [one.rater for one in labels(session, id)] == ["bob"]
    assert Browser(app, "ann").open(f"?project={id}")[1]["rater"] == "ann", "owners may rank too"
    nobody = Browser.__new__(Browser)
    nobody.app, nobody.cookies, nobody.seen = app, httpx.Cookies(), ""
    assert nobody.ask("GET", "/label/config").status_code == 401


def test_every_state_is_told(here: Browser, database: Engine) -> None:
    id = add_project(database, items=2, guideline="Be fair.")
    state = here.open(f"?project={id}")[1]["shown"]
    assert (state["state"], state["done"], state["of"], state["guideline"]) == ("item", 0, 2, {"version": 1, "text": "Be fair."})
    said = press(state)
    second = here.act("submit", id, said)
    assert (second["reply"], second["shown"]["done"]) == (said["client_event_id"], 1)
    back = here.act("undo", id, {"client_event_id": "u1"})
    assert back["shown"]["previous"]["tiers"] == {"overall": [[0], [1], [2]]}
    assert here.act("undo", id, {"client_event_id": "u2"})["error"] == "There is nothing to undo"
    labelling.pause(database, id, True, utc_now())
    assert here.act("more", id, {"client_event_id": "m1"})["shown"]["state"] == "paused"
    labelling.pause(database, id, False, utc_now())
    shown = here.act("more", id, {"client_event_id": "m2"})["shown"]
    while shown["state"] == "item":
        shown = here.act("submit", id, press(shown))["shown"]
    assert (shown["state"], shown["done"], shown["of"]) == ("closed", 2, 2)
    assert here.open(f"?project={id}&as=Late")[1]["shown"]["state"] == "closed"


def test_practice_tells_what_was_right_and_gold_does_not(here: Browser, database: Engine) -> None:
    kinds = ("practice", "gold", "normal")
    known = {"gold": (("0-1",), ("0-0",)), "wanted": 0}
    id = add_project(database, 3, 2, more=lambda n: {"kind": kinds[n]} | (known | {"gold": ((f"{n}-1",), (f"{n}-0",))} if n < 2 else {}))
    first = here.open(f"?project={id}")[1]["shown"]
    assert first["practice"]
    better = first["answers"].index("Answer 1 to question 0.")
    told = here.act("submit", id, press(first, [[0], [1]]))["shown"]
    assert told["feedback"] == {"gold": [[better], [1 - better]], "yours": {"overall": [[0], [1]]}}
    assert (told["practice"], told["done"]) == (False, 0)
    second = here.act("submit", id, press(told))["shown"]
    assert "feedback" not in second
    assert "gold" not in words(told | {"feedback": None})


def test_a_changed_guideline_comes_with_the_refusal(here: Browser, database: Engine) -> None:
    id = add_project(database, guideline="Be fair.")
    said = press(here.open(f"?project={id}")[1]["shown"])
    labelling.change_guideline(database, id, "Be strict.", "ann", utc_now())
    told = here.act("submit", id, said)
    assert told["guideline"] == {"version": 2, "text": "Be strict."}
    assert "read it again" in told["error"]
    assert here.act("submit", id, said | {"guideline": 2})["shown"]["done"] == 1


@pytest.mark.parametrize("project", [None, 0, -1, 999, 2**70, True, "1", 1.0, [1], {"a": 1}])
def test_a_project_that_is_none_is_refused(here: Browser, database: Engine, project: object) -> None:
    add_project(database)
    for event in ("submit", "undo", "more"):
        assert "here is no ranking project" in here.act(event, project, {"client_event_id": "x"})["error"]


@pytest.mark.parametrize("said", [
    None, 7, [], "x", {}, {"item": 1}, {"client_event_id": 5, "item": "1"}, {"client_event_id": "x" * 999, "item": 1},
])  # fmt: skip
def test_what_nobody_could_have_pressed_is_refused_and_nothing_is_written(here: Browser, database: Engine, said: Any) -> None:
    id = add_project(database)
    here.open(f"?project={id}")
    assert here.act("submit", id, said)["error"]
    assert here.act("undo", id, said)["error"]
    with Session(database) as session:
        assert not labels(session, id, (RANK, SKIP, UNDO))


def test_somebody_elses_item_and_another_projects_are_refused(signed: tuple[Engine, Any]) -> None:
    database, app = signed
    one, two = add_project(database), add_project(database)
    bob, cat = Browser(app, "bob"), Browser(app, "cat")
    said = press(bob.open(f"?project={one}")[1]["shown"])
    assert "was not given to you" in cat.act("submit", one, said)["error"]
    assert "no item" in cat.act("submit", two, said)["error"]
    assert "error" not in bob.act("submit", one, said)
    assert "was not given to you" in cat.act("submit", one, said)["error"], "a number is each rater's own"


def test_a_deleted_project_is_refused_without_the_name_of_a_model(here: Browser, database: Engine) -> None:
    id = add_project(database, name="Rankings of secret-base-7b")
    said = press(here.open(f"?project={id}")[1]["shown"])
    with Session(database) as session:
        session.get_one(Artifact, id).deleted_at = utc_now()
        session.commit()
    assert here.act("submit", id, said)["error"].startswith(f"The ranking project Project {id} was deleted")
    assert "was deleted" in words(here.open(f"?project={id}")[0])


def test_nothing_a_rater_ever_receives_names_a_model(signed: tuple[Engine, Any]) -> None:
    """All that reached the browser, from the page and the config to the last event, is searched as it came over the wire."""
    database, app = signed
    id = add_project(database, 4, 4, name="Rankings of secret-base-7b, secret-tuned-7b")
    bob = Browser(app, "bob")
    for path in ("/label/", f"/label/?project={id}", "/label/config", "/label/theme.css", "/label/gradio_api/info", "/look/rank.js"):
        bob.ask("GET", path)
    bob.open()
    shown = bob.open(f"?project={id}")[1]["shown"]
    keys = {"state", "item", "practice", "prompt", "answers", "mode", "ties", "criteria", "guideline", "project", "done", "of"}
    while shown["state"] == "item":
        assert set(shown) == keys, "what else is sent could tell"
        assert [set(turn) for turn in shown["prompt"]] == [{"role", "content"}]
        shown = bob.act("submit", id, press(shown, flags={"0": ["unsafe"]}))["shown"]
    for event in bob.events:
        bob.run(event, {"project": id, "said": {}, "name": "x", "value": "y"}, f"?project={id}")
    assert len(bob.seen) > 10_000
    assert "Answer 0 to question" in bob.seen
    assert not any(name in bob.seen.lower() for name in (*MODELS, "secret", "agreement", "alpha", "tau"))


def test_the_order_differs_by_rater_and_stays(signed: tuple[Engine, Any]) -> None:
    database, app = signed
    id = add_project(database, 1, 9, raters=5)
    orders = [Browser(app, name).open(f"?project={id}")[1]["shown"]["answers"] for name in ("bob", "cat", "bob")]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_an_abandoned_item_comes_back(here: Browser, database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    id = add_project(database, 1)
    assert here.open(f"?project={id}&as=Ann")[1]["shown"]["state"] == "item"
    assert here.open(f"?project={id}&as=Bob")[1]["shown"]["state"] == "done"
    later = utc_now() + labelling.HOLD + timedelta(seconds=1)
    monkeypatch.setattr("storage.queries.utc_now", lambda: later)
    assert here.open(f"?project={id}&as=Bob")[1]["shown"]["state"] == "item"


def test_half_a_character_over_the_wire_is_refused_like_anything_else(here: Browser, database: Engine) -> None:
    id = add_project(database)
    said = press(here.open(f"?project={id}")[1]["shown"])
    body = json.dumps({"data": [], "fn_index": here.events["submit"]["id"], "session_hash": "x", "event_data": {"project": id, "said": {
        "client_event_id": "\ud800", "item": "\udfff"}}})  # fmt: skip
    answer = here.ask("POST", "/label/gradio_api/run/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert "whole number" in answer.json()["data"][0]["error"]
    assert here.act("undo", id, {"client_event_id": "\0"})["error"].startswith("What was sent has no client_event_id")
    assert here.act("submit", id, said)["shown"]["done"] == 1


def test_what_is_taken_back_while_paused_comes_back_as_it_was(here: Browser, database: Engine) -> None:
    id = add_project(database)
    here.act("submit", id, press(here.open(f"?project={id}")[1]["shown"], [[2], [0, 1]]))
    labelling.pause(database, id, True, utc_now())
    back = here.act("undo", id, {"client_event_id": "u"})["shown"]
    assert (back["state"], back["previous"]["tiers"]) == ("item", {"overall": [[2], [0, 1]]})
    assert here.act("submit", id, press(back, [[2], [0, 1]]))["shown"]["state"] == "paused"
