"""A rater tries everything: reads all there is to read and posts every owner's event. Nothing leaks, nothing runs."""

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from engine import users
from storage.database import open_database
from storage.files import Home
from storage.queries import utc_now
from tests.browser.conftest import dashboard
from tests.browser.seed import HOSTILE, seed
from tests.engine.conftest import eventually

PASSWORD = "correct horse battery"
ASKED = "answers=6-1,7-3"
PAGES = ("/", "/new", "/new?stage=finetune", "/runs?run=1", "/compare", f"/compare?{ASKED}", "/report", "/library", "/library?artifact=1")
INNER = ("config", "openapi.json", "docs", "theme.css", *[f"gradio_api/{name}" for name in ("info", "openapi.json", "app_id", "runs")])
SECRETS = ("SmolLM2", "Short answers", "Quickstart", "SQLite format")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("access") / "home"
    seed(Home(folder))
    for name, role in (("ann", "owner"), ("bob", "rater")):
        users.add(open_database(Home(folder)), name, role, PASSWORD, utc_now())
    return folder


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    """On all addresses: whoever comes has to sign in, from this machine too."""
    with dashboard(home, "--no-spare", "--host", "0.0.0.0") as found:
        yield found


def visitor(address: str, name: str = "") -> httpx.Client:
    client = httpx.Client(base_url=address, timeout=20)
    if name:
        told = client.post("/login?next=/library", data={"name": name, "password": PASSWORD})
        assert (told.status_code, told.headers["location"]) == (303, "/library")
        cookie = told.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
    return client


def contents(home: Path) -> str:
    """All rows but the dispatcher's own."""
    with sqlite3.connect(home / "dianjing.db") as database:
        return "\n".join(line for line in database.iterdump() if not line.startswith(('INSERT INTO "lock"', 'INSERT INTO "attempt"')))


def file_addresses(home: Path) -> list[str]:
    report = next(home.glob("artifacts/*/report.html"))
    paths = [home / "dianjing.db", report, home / "ui.txt", home / "dispatcher.txt", home, "/etc/passwd", home / "artifacts"]
    return [f"/gradio_api/file={quote(str(path))}" for path in paths]


@pytest.mark.parametrize("who", ["bob", ""])
def test_who_is_no_owner_reads_nothing(address: str, home: Path, who: str) -> None:
    client = visitor(address, who)
    everything = [*PAGES, *[f"/{name}" for name in INNER], "/download/report/5"]
    everything += [f"/download/compare.{kind}?{ASKED}" for kind in ("html", "csv", "json")]
    everything += file_addresses(home)
    everything += [f"/label/..{path}" for path in ("/config", "/library")] + [f"/label/%2e%2e{path}" for path in ("/config", "/runs")]
    everything += [f"/label{path}" for path in file_addresses(home)] + ["//config", "/%2fconfig", "/label/../../config"]
    for path in everything:
        for accept in ("text/html", "*/*"):
            told = client.get(path, headers={"accept": accept})
            assert told.status_code != 200 or path.startswith("/label/") or path == "/", (path, told.status_code)
            assert not any(secret in told.text for secret in SECRETS), path
    assert client.get("/library", headers={"accept": "text/html"}).headers["location"] == ("/label/" if who else "/login?next=/library")
    assert client.get("/config").status_code == (403 if who else 401)


@pytest.mark.parametrize("who", ["bob", ""])
def test_who_is_no_owner_runs_nothing(address: str, home: Path, who: str) -> None:
    ann, client = visitor(address, "ann"), visitor(address, who)
    events = ann.get("/config").json()["dependencies"]
    assert len(events) >= 20
    harmless = {"data": [], "fn_index": events[0]["id"], "session_hash": "x"}
    assert ann.post("/gradio_api/queue/join", json=harmless).status_code not in (401, 403, 404), "an owner gets through"
    before = contents(home)
    for event in events:
        number, name = event["id"], event["api_name"] or "x"
        body: dict[str, Any] = {"data": [{"name": "delete", "artifact": 1}] * len(event["inputs"]), "fn_index": number, "session_hash": "x"}
        body |= {"event_data": {"name": "delete", "artifact": 1, "run": 1}, "trigger_id": 1}
        for prefix in ("/gradio_api", "/gradio_api/..//gradio_api"):
            for path in (f"/run/{name}", "/run/predict", "/queue/join", f"/call/{name}", "/component_server"):
                told = client.post(prefix + path, json={**body, "component_id": 1, "fn_name": "x"})
                assert told.status_code in (401, 403), (path, told.status_code)
    assert client.post("/gradio_api/upload", files={"files": ("../../evil", b"x")}).status_code in (401, 403)
    assert client.post("/label/gradio_api/upload", files={"files": ("../../evil", b"x")}).status_code in (401, 403)
    assert contents(home) == before


def test_the_raters_app_shows_no_owner_component(address: str) -> None:
    client = visitor(address, "bob")
    config = client.get("/label/config").json()
    assert len(config["components"]) < 10
    assert not any(secret in json.dumps(config) for secret in SECRETS)
    for event in config["dependencies"]:
        told = client.post("/label/gradio_api/run/predict", json={"data": [], "fn_index": event["id"], "session_hash": "x"})
        assert not any(secret in told.text for secret in SECRETS)


def test_signing_in_by_hand(address: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(address + "/library?artifact=1")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill("wrong wrong wrong")
    page.get_by_role("button").click()
    expect(page.get_by_role("alert")).to_contain_text("do not go together")
    expect(page.get_by_label("Name")).to_have_value("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button").click()
    page.wait_for_url("**/library?artifact=1")
    expect(page.locator(".dj h1")).to_have_text("SmolLM2-135M-Instruct")
    page.goto(address + "/")
    page.get_by_role("link", name="Sign out").click()
    page.get_by_role("button", name="Sign out").click()
    page.goto(address + "/runs")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.close()


def test_a_rater_comes_to_the_label_page(address: str, browser: Browser) -> None:
    page = browser.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(address + "/login")
    page.get_by_label("Name").fill("bob")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button").click()
    expect(page.locator(".dj")).to_contain_text("Signed in as bob")
    expect(page.locator(".dj .empty")).to_be_visible()
    page.goto(address + "/library")
    expect(page.locator(".dj")).to_contain_text("Signed in as bob")
    assert problems == []
    page.close()


def test_a_sign_in_survives_a_restart_and_ends_with_its_user(tmp_path: Path) -> None:
    seed(Home(tmp_path / "home"))
    database = open_database(Home(tmp_path / "home"))
    for name in ("ann", "eve"):
        users.add(database, name, "owner", PASSWORD, utc_now())
    with dashboard(tmp_path / "home", "--no-spare", "--host", "0.0.0.0") as first:
        cookies = visitor(first, "ann").cookies
    with dashboard(tmp_path / "home", "--no-spare", "--host", "0.0.0.0") as second:
        assert httpx.get(second + "/config", cookies=cookies).status_code == 200
        users.remove(database, "ann")
        assert httpx.get(second + "/config", cookies=cookies).status_code == 401


def test_an_open_redirect_is_none(address: str) -> None:
    for wanted in ("https://evil.example", "//evil.example", "/\\evil.example", "//[", "/login", "/logout?x", "javascript:x", "/\tx"):
        told = httpx.post(f"{address}/login", params={"next": wanted}, data={"name": "ann", "password": PASSWORD})
        assert told.headers["location"] == "/", wanted


def test_hostile_words_in_a_login_stay_text(address: str) -> None:
    told = httpx.post(f"{address}/login", params={"next": '/"><script>'}, data={"name": HOSTILE, "password": HOSTILE})
    assert "<script" not in told.text.lower().replace("&lt;script", "")
    assert httpx.post(f"{address}/login", content=b"x" * 100_000).status_code == 403


def test_another_site_cannot_use_the_browser_of_who_sits_here(filled: str) -> None:
    assert httpx.get(filled + "/config", headers={"host": "evil.example"}).status_code == 403
    assert httpx.get(filled + "/config", headers={"host": "localhost:1"}).status_code == 200
    event = {"data": [], "fn_index": 0, "session_hash": "x"}
    assert httpx.post(filled + "/gradio_api/run/predict", json=event, headers={"origin": "http://evil.example"}).status_code == 403
    assert httpx.post(filled + "/gradio_api/run/predict", json=event, headers={"origin": "null"}).status_code == 403
    told = httpx.get(filled + "/config").headers
    assert (told["x-content-type-options"], told["referrer-policy"]) == ("nosniff", "same-origin")


@pytest.mark.parametrize("name", ["../../evil", "..\\..\\evil", "/etc/evil", "a\x00b", "évil" * 100, "CON", ".ssh", "-rf", "a/../../b"])
def test_an_upload_stays_where_uploads_are(filled: str, name: str) -> None:
    told = httpx.post(filled + "/gradio_api/upload", files={"files": (name, b"hello")})
    if told.status_code != 200:
        return
    written = Path(told.json()[0])
    assert re.search(r"/incoming/[0-9a-f]{64}/[^/]+$", str(written)), written
    assert written.resolve() == written
    assert written.read_bytes() == b"hello"


def test_the_owner_of_a_container_comes_by_the_link_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Page) -> None:
    monkeypatch.setenv("DIANJING_CONTAINER", "1")
    with dashboard(tmp_path / "home", "--no-spare", "--host", "0.0.0.0") as found:
        log = tmp_path / "home" / "ui.txt"
        eventually(lambda: "/welcome?token=" in log.read_text())
        token = re.findall(r"/welcome\?token=(\S+)", log.read_text())
        page.goto(f"{found}/welcome?token={token[0]}")
        for label in ("Password", "The same again"):
            page.get_by_label(label).fill(PASSWORD)
        page.get_by_role("button").click()
        expect(page.locator(".dj")).to_contain_text("owner")
