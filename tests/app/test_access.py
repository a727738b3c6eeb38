"""The gate: who gets through, by which path, host and origin, and what ten wrong passwords cost. No browser."""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import _IncludedRouter
from sqlalchemy import Engine
from sqlmodel import Session, select
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from app.access import DOORS, Gate, anyone, is_loopback, owner
from app.dashboard import _let_the_owner_in, application
from app.pages import LOCAL, Place
from app.pages.new import _keep
from engine import users
from engine.errors import UserError
from storage.database import open_database
from storage.files import Home, forget_old, fresh
from storage.queries import utc_now
from storage.tables import Attempt

PASSWORD = "correct horse battery"
HERE = "http://127.0.0.1:7860"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a real password costs is checked with the users."""
    monkeypatch.setattr(users, "COST", (2**4, 8, 1))
    monkeypatch.setattr(users, "_NOBODY", users.hash_password("x" * 20))


@pytest.fixture
def people(database: Engine) -> Engine:
    """An owner, ann, and a rater, bob."""
    users.add(database, "ann", "owner", PASSWORD, utc_now())
    users.add(database, "bob", "rater", PASSWORD, utc_now())
    return database


async def told(scope: Scope, receive: Receive, send: Send) -> None:
    """Behind the gate: says who asked for what."""
    state = scope.get("state", {})
    await PlainTextResponse(json.dumps([state.get("user"), state.get("role"), scope["path"]]))(scope, receive, send)


class Visitor:
    """A browser in front of an app in this process."""

    def __init__(self, app: Any, base: str = HERE, address: str = "1.2.3.4") -> None:
        self.transport = httpx.ASGITransport(app, client=(address, 1), raise_app_exceptions=False)
        self.base, self.cookies = base, httpx.Cookies()

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self._ask(method, path, **options))

    async def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        async with httpx.AsyncClient(transport=self.transport, base_url=self.base, cookies=self.cookies) as client:
            answer = await client.request(method, path, **options)
            self.cookies = client.cookies
            return answer

    def sign_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        return self.ask("POST", "/login", data={"name": name, "password": password})


def signed_in(app: Any, name: str, **options: Any) -> Visitor:
    visitor = Visitor(app, **options)
    assert visitor.sign_in(name).status_code == 303
    return visitor


@pytest.mark.parametrize("host, fine", [
    ("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("my.localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False),
    ("192.168.1.5", False), ("example.org", False), ("localhost.example.org", False), ("", False),
])  # fmt: skip
def test_only_this_machine_is_loopback(host: str, fine: bool) -> None:
    assert is_loopback(host) == fine


def test_whoever_sits_here_is_the_owner(database: Engine) -> None:
    visitor = Visitor(Gate(told, database, login=False))
    assert visitor.ask("GET", "/library?artifact=1").json() == [LOCAL, "owner", "/library"]
    for door in DOORS:  # a bookmark from when one had to sign in
        assert visitor.ask("GET", door).headers["location"] == "/"
    assert visitor.ask("GET", "/label").headers["location"] == "/label/"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "192.168.1.5:7860", "localhost.evil.example", "[::1", "", "["])
def test_another_name_for_this_machine_is_refused(database: Engine, host: str) -> None:
    answer = Visitor(Gate(told, database, login=False)).ask("GET", "/config", headers={"host": host})
    assert answer.status_code == 403
    assert "names of this machine only" in answer.text


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1:7860", "[::1]:7860"])
def test_a_tunnel_has_its_own_port(database: Engine, host: str) -> None:
    visitor = Visitor(Gate(told, database, login=False))
    assert visitor.ask("POST", "/x", headers={"host": host, "origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize("login", [False, True])
@pytest.mark.parametrize("method, headers", [
    ("POST", {"origin": "http://evil.example"}), ("POST", {"origin": "null"}), ("POST", {"origin": "http://127.0.0.1:3000"}),
    ("DELETE", {"origin": "http://[evil"}), ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}),
    ("POST", {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}),
])  # fmt: skip
def test_what_another_site_makes_the_browser_send_is_refused(people: Engine, login: bool, method: str, headers: dict[str, str]) -> None:
    gate = Gate(told, people, login)
    visitor = signed_in(gate, "ann") if login else Visitor(gate)
    answer = visitor.ask(method, "/gradio_api/run/x", headers=headers)
    assert answer.status_code == 403
    assert "another site" in answer.text
    assert visitor.ask("GET", "/library", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}).status_code == 200


def test_another_site_cannot_sign_anybody_in(people: Engine) -> None:
    form = {"name": "ann", "password": PASSWORD}
    answer = Visitor(Gate(told, people, True)).ask("POST", "/login", data=form, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_who_is_who(people: Engine) -> None:
    gate = Gate(told, people, True)
    ann, bob, nobody = signed_in(gate, "ann"), signed_in(gate, "bob"), Visitor(gate)
    page = {"accept": "text/html"}
    assert ann.ask("GET", "/library").json() == ["ann", "owner", "/library"]
    assert ann.ask("GET", "/label/").json() == ["ann", "owner", "/label/"]
    assert bob.ask("GET", "/label/").json() == ["bob", "rater", "/label/"]
    assert bob.ask("GET", "/library", headers=page).headers["location"] == "/label/"
    assert bob.ask("GET", "/library").status_code == 403
    assert nobody.ask("GET", "/library?artifact=1", headers=page).headers["location"] == "/login?next=/library%3Fartifact%3D1"
    assert nobody.ask("GET", "/library").status_code == 401
    for path in ("/health", "/look/view.js", "/favicon.ico"):
        assert nobody.ask("GET", path).status_code == 200, path
    ann.ask("POST", "/logout")
    assert ann.ask("GET", "/library").status_code == 401


@pytest.mark.parametrize("host", ["x/label/", "x/look/?", "x/look/#", "127.0.0.1:7860/label/?", "x/health?", "x/login?"])
def test_the_host_header_does_not_move_the_path(people: Engine, host: str) -> None:
    gate = Gate(told, people, True)
    for visitor, code in ((signed_in(gate, "bob"), 403), (Visitor(gate), 401)):
        assert visitor.ask("GET", "/download/report/1", headers={"host": host}).status_code == code


@pytest.mark.parametrize("path", [
    "/label/gradio_api/file=/etc/passwd", "/label/gradio_api/file=http://example.org/", "/label/gradio_api/upload",
    "/label/gradio_api/proxy=x", "/label/gradio_api/component_server", "/label/gradio_api//file=x", "/label/gradio_api/vibe-edit",
    "/label/gradio_api/file=/gradio_api/run/x", "/x/label/gradio_api/run/x", "/labels/", "/Label/", "//label/", "/config", "/",
])  # fmt: skip
def test_a_rater_sends_and_gets_no_files(people: Engine, path: str) -> None:
    answer = signed_in(Gate(told, people, True), "bob").ask("POST", HERE + path)
    assert (answer.status_code, "owners only" in answer.text) == (403, True)


def test_the_cookie_stays_on_https(people: Engine) -> None:
    gate = Gate(told, people, True)
    assert "secure" not in Visitor(gate).sign_in("ann").headers["set-cookie"].lower()
    cookie = Visitor(gate, base="https://dianjing.example").sign_in("ann").headers["set-cookie"].lower()
    assert all(word in cookie for word in ("secure", "httponly", "samesite=lax", "max-age=2592000"))


def test_a_sign_in_ends_by_the_clock(people: Engine) -> None:
    now = utc_now()
    gate = Gate(told, people, True, now=lambda: now)
    ann = signed_in(gate, "ann")
    now += users.STAYS - timedelta(seconds=1)
    assert ann.ask("GET", "/").status_code == 200
    now += timedelta(seconds=1)
    assert ann.ask("GET", "/").status_code == 401


@pytest.mark.parametrize("cookie", ["dianjing=x", "dianjing=", "dianjing", "=;;", 'dianjing="\\', "dianjing=é", f"dianjing={'x' * 5000}"])
def test_a_made_up_cookie_opens_nothing(people: Engine, cookie: str) -> None:
    assert Visitor(Gate(told, people, True)).ask("GET", "/", headers={"cookie": cookie.encode()}).status_code == 401


def test_guesses_side_by_side_are_slowed_too(people: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = Visitor(Gate(told, people, True))
    checked: list[str] = []
    real = users._matches
    monkeypatch.setattr(users, "_matches", lambda password, stored: checked.append(password) or real(password, stored))

    async def many() -> list[httpx.Response]:
        form = {"name": "ann", "password": "wrong wrong wrong"}
        return await asyncio.gather(*[visitor._ask("POST", "/login", data=form) for _ in range(20)])

    answers = asyncio.run(many())
    assert sorted(answer.status_code for answer in answers) == [403] * 5 + [429] * 15
    assert len(checked) == 5
    slowed = next(answer for answer in answers if answer.status_code == 429)
    assert 1 <= int(slowed.headers["retry-after"]) <= 60
    assert "Too many failed attempts" in slowed.text
    assert 'value="ann"' in slowed.text, "what was typed stays"
    assert "wrong wrong" not in slowed.text
    with Session(people) as session:
        assert len(session.exec(select(Attempt)).all()) == 5
    assert Visitor(Gate(told, people, True), address="5.6.7.8").sign_in("ann").status_code == 303


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"name=%00&password=%00", b"name=a&name=b&password=%ff", b"x" * 20_000])
def test_a_broken_form_is_a_failed_attempt(people: Engine, body: bytes) -> None:
    answer = Visitor(Gate(told, people, True)).ask("POST", "/login", content=body)
    assert answer.status_code == 403
    assert "do not go together" in answer.text


def test_a_link_for_somebody(people: Engine) -> None:
    visitor = Visitor(Gate(told, people, True))
    token = users.invite(people, "bob", utc_now())
    address = f"/welcome?token={token}"
    assert "You will sign in as bob" in visitor.ask("GET", address).text
    for given, code, words in (
        ({"password": "short", "again": "short"}, 422, "10 to 1000"),
        ({"password": PASSWORD, "again": "another"}, 422, "two passwords differ"),
        ({"password": "a new one for bob", "again": "a new one for bob"}, 303, ""),
        ({"password": "a second time", "again": "a second time"}, 410, "used already"),
    ):
        answer = visitor.ask("POST", address, data=given)
        assert (answer.status_code, words in answer.text) == (code, True)
    assert visitor.ask("GET", "/label/").json()[0] == "bob"
    assert visitor.sign_in("bob").status_code == 403, "the old password is gone"


# The whole application.


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("served") / "home")


@pytest.fixture(scope="module")
def served(place: Home) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "COST", (2**4, 8, 1))
        patch.setenv("GRADIO_TEMP_DIR", str(place.incoming))
        database = open_database(place)
        for name, role in (("ann", "owner"), ("bob", "rater")):
            users.add(database, name, role, PASSWORD, utc_now())
        yield application(database, place, login=True)


def addresses(routes: list[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every method and path there is, apps that are mounted included."""
    for route in routes:
        if isinstance(route, Mount):
            yield from addresses(route.routes, prefix + route.path)
        elif isinstance(route, _IncludedRouter):
            yield from addresses(route.original_router.routes, prefix)
        elif isinstance(route, Route):
            path = prefix + "".join("1" if i % 2 else part for i, part in enumerate(route.path.replace("}", "{").split("{")))
            yield from ((method, path) for method in route.methods or ())


def test_every_address_there_is_asks_for_the_role(served: Any) -> None:
    """From the list of routes itself, so that a new one is asked too."""
    found = set(addresses(served.routes))
    assert {("GET", "/config"), ("POST", "/gradio_api/queue/join"), ("GET", "/label/config"), ("GET", "/download/report/1")} <= found
    assert len(found) > 150
    bob, nobody = signed_in(served, "bob"), Visitor(served)
    for method, path in sorted(found):
        if path in ("/favicon.ico", "/look/1", *DOORS):
            continue
        assert nobody.ask(method, path).status_code in (401, 307), (method, path)
        if not path.startswith("/label/"):
            assert bob.ask(method, path).status_code in (403, 307), (method, path)


def test_both_locks_hold_by_themselves(served: Any, people: Engine) -> None:
    """Gradio asks for the owner too: were the gate to let somebody through, the owners' app would still not answer."""
    mounts = {route.path: route.app for route in served.routes if isinstance(route, Mount)}
    assert Visitor(mounts[""]).ask("GET", "/config").status_code == 401
    assert Visitor(Gate(mounts[""], people, login=False)).ask("GET", "/config").status_code == 200
    request = type("Request", (), {"scope": {"state": {"user": "bob", "role": "rater"}}})()
    assert (owner(request), anyone(request)) == (None, "bob")


def test_nobody_reads_what_an_owner_uploaded(served: Any) -> None:
    ann, bob = signed_in(served, "ann"), signed_in(served, "bob")
    uploaded = ann.ask("POST", "/gradio_api/upload", files={"files": ("rows.jsonl", b"secret")}).json()[0]
    assert ann.ask("GET", f"/gradio_api/file={quote(uploaded)}").text == "secret"
    for prefix in ("", "/label"):
        assert bob.ask("GET", f"{prefix}/gradio_api/file={quote(uploaded)}").status_code == 403


def test_an_owner_gets_no_files_of_the_home_by_their_path(served: Any, place: Home) -> None:
    ann = signed_in(served, "ann")
    (place.root / ".env").write_text("KEY=secret")
    (place.root / "artifacts" / "1").mkdir(parents=True)
    (place.root / "artifacts" / "1" / "model.safetensors").write_text("secret")
    for path in (".env", "dianjing.db", "artifacts/1/model.safetensors", "incoming/../.env"):
        answer = ann.ask("GET", f"/gradio_api/file={quote(str(place.root / path))}")
        assert answer.status_code == 403, path
        assert "secret" not in answer.text


@pytest.mark.parametrize("name", [
    "../../evil", "..\\..\\evil", "/etc/evil", "a\0b", "évil" * 100, "CON", ".ssh", "-rf", "a/../../b", "..", ".", "", "%2e%2e%2fevil",
    "x" * 5000, "\u202egnp.exe", "two\nlines",
])  # fmt: skip
def test_an_upload_lands_in_a_folder_of_its_own(served: Any, place: Home, name: str) -> None:
    forget_old(place.incoming, time.time() + 60)
    before = everything(place.root.parent)
    boundary = b'--b\r\nContent-Disposition: form-data; name="files"; filename="' + name.encode() + b'"\r\n\r\nhello\r\n--b--\r\n'
    content_type = {"content-type": "multipart/form-data; boundary=b"}
    answer = signed_in(served, "ann").ask("POST", "/gradio_api/upload", content=boundary, headers=content_type)
    written = everything(place.root.parent) - before
    assert all(path.is_relative_to(place.incoming) for path in written), written
    if answer.status_code == 200:
        path = Path(answer.json()[0])
        assert path in written
        assert path.parent.parent == place.incoming
        assert path.read_bytes() == b"hello"


def test_a_file_that_is_too_large_leaves_nothing_behind(served: Any, place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_old(place.incoming, time.time() + 60)
    owners = next(route.app for route in served.routes if isinstance(route, Mount) and route.path == "")
    assert owners.get_blocks().max_file_size == 2 * 1024**3
    monkeypatch.setattr(owners.get_blocks(), "max_file_size", 1000)
    ann = signed_in(served, "ann")
    answer = ann.ask("POST", "/gradio_api/upload", files={"files": ("big", b"x" * 2000)})
    assert answer.status_code == 413
    assert not list(place.incoming.iterdir())


@pytest.mark.parametrize("name, kept", [
    ("rows.jsonl", "rows.jsonl"), ("...", "upload"), (".ssh", "ssh"), ("-rf", "rf"), ("a b\u202e.csv", "a-b.csv"),
    ("\n.json", "upload.json"), ("行" * 80 + ".jsonl", "行" * 50 + ".jsonl"),
    ("𠀀" * 60 + "." + "𠀀" * 2, "𠀀" * 50 + "." + "𠀀" * 2), ("x.$(reboot)", "x.reboot"),
])  # fmt: skip
def test_what_is_kept_has_a_plain_name(database: Engine, home: Home, tmp_path: Path, name: str, kept: str) -> None:
    uploaded = fresh(tmp_path / "given") / name
    uploaded.write_text("hello")
    first, second = (Path(_keep(Place(database, home), str(uploaded))) for _ in range(2))
    assert first == home.uploads / kept
    assert second != first, "nothing is written over"
    assert (first.parent, second.parent) == (home.uploads, home.uploads)
    assert first.read_text() == second.read_text() == "hello"


def everything(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("dianjing.db")}


# The first owner.


def test_a_container_takes_its_first_owner_from_the_environment(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIANJING_CONTAINER", "1")
    monkeypatch.setenv("DIANJING_OWNER_PASSWORD", PASSWORD)
    assert _let_the_owner_in(database, "0.0.0.0", 7860) is None
    assert "DIANJING_OWNER_PASSWORD" not in os.environ, "no run inherits it"
    assert signed_in(Gate(told, database, True), "owner").ask("GET", "/").json()[1] == "owner"


def test_a_weak_password_in_the_environment_is_named(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIANJING_CONTAINER", "1")
    monkeypatch.setenv("DIANJING_OWNER_PASSWORD", "short")
    with pytest.raises(UserError, match="10 to 1000") as refused:
        _let_the_owner_in(database, "0.0.0.0", 7860)
    assert refused.value.field == "DIANJING_OWNER_PASSWORD"


def test_only_a_container_makes_owners_by_itself(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIANJING_CONTAINER", raising=False)
    monkeypatch.setenv("DIANJING_OWNER_PASSWORD", PASSWORD)
    users.add(database, "bob", "rater", PASSWORD, utc_now())
    with pytest.raises(UserError, match="user add NAME --role owner"):
        _let_the_owner_in(database, "0.0.0.0", 7860)
    users.add(database, "ann", "owner", PASSWORD, utc_now())
    assert _let_the_owner_in(database, "0.0.0.0", 7860) is None
