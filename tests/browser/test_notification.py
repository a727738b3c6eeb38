"""Who asked to be told when a run ends is told once, in the way the browser allows; nobody else is told anything."""

import os

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from engine.processes import identity
from storage import queries
from storage.database import open_database, transaction
from storage.files import Home
from storage.tables import FAILED, RUNNING, SUCCEEDED, Run
from tests.browser.conftest import dashboard
from tests.browser.seed import seed
from tests.browser.test_pages import opened

LIVE = 4  # the run that seed leaves running

RECORD = """
  window.told = []; window.asked = 0;
  window.Notification = class {
    static permission = PERMISSION;
    static async requestPermission() { window.asked += 1; return Notification.permission = ANSWER; }
    constructor(title, more) {
      if (THROWS) throw new TypeError("Illegal constructor");
      window.told.push({ title, ...more }); window.note = this; this.close = () => window.told.closed = true;
    }
  };
"""
HIDDEN = """
  Object.defineProperty(document, "visibilityState", { get: () => "hidden" });
  Object.defineProperty(document, "hidden", { get: () => true });
"""


@pytest.fixture(scope="module")
def going_on(tmp_path_factory: pytest.TempPathFactory):
    home = Home(tmp_path_factory.mktemp("going-on"))
    seed(home)
    with dashboard(home.root, "--no-spare") as address:
        yield address, home


@pytest.fixture(autouse=True)
def running(going_on) -> None:
    """The live run runs again, as if it were a new one; this test stands for its process, so that nobody settles it."""
    with transaction(open_database(going_on[1])) as session:
        row = session.get_one(Run, LIVE)
        row.status, row.queued_at, row.ended_at, row.error = RUNNING, queries.utc_now(), None, None
        row.pid, row.pid_started, row.device = os.getpid(), identity(os.getpid()), "cpu"


def recording(context: BrowserContext, permission: str = "default", answer: str = "granted", throws: bool = False) -> None:
    script = RECORD.replace("PERMISSION", f"'{permission}'").replace("ANSWER", f"'{answer}'").replace("THROWS", str(throws).lower())
    context.add_init_script(script)


def end(home: Home, status: str = SUCCEEDED, error: str | None = None) -> None:
    with transaction(open_database(home)) as session:
        assert queries.settle(session, LIVE, status, queries.utc_now(), error)


def ask(page: Page, address: str) -> None:
    opened(page, f"{address}/runs?run={LIVE}")
    page.get_by_role("button", name="Tell me when it ends").click()
    expect(page.locator(".tell button[aria-pressed=true]")).to_be_visible()


def seen_end(page: Page, word: str = "succeeded") -> None:
    expect(page.locator(f".state.{word}").first).to_be_visible(timeout=10000)
    page.wait_for_timeout(300)


def test_one_notification_when_the_run_ends(page: Page, going_on) -> None:
    address, home = going_on
    recording(page.context)
    opened(page, f"{address}/runs?run={LIVE}")
    assert page.evaluate("window.asked") == 0, "nobody is asked before the click"
    page.get_by_role("button", name="Tell me when it ends").click()
    expect(page.locator(".tell.on")).to_be_visible()
    expect(page.locator(".tell small")).to_be_hidden()
    assert page.evaluate("window.asked") == 1
    end(home)
    seen_end(page)
    page.wait_for_timeout(2500)  # another look
    (told,) = page.evaluate("window.told")
    assert told["title"] == f"✓ {LIVE} Fine-tune: succeeded"
    assert told["body"].startswith("in the making. Held-out loss ")
    page.evaluate("window.note.onclick()")
    assert page.url.endswith(f"/runs?run={LIVE}")
    opened(page, f"{address}/runs?run={LIVE}")
    assert page.evaluate("window.told") == []


def test_nobody_is_told_who_did_not_ask_or_took_it_back(page: Page, going_on) -> None:
    address, home = going_on
    recording(page.context, "granted")
    other = page.context.new_page()
    opened(other, f"{address}/runs?run={LIVE}")
    ask(page, address)
    page.get_by_role("button", name="Tell me when it ends").click()
    expect(page.locator(".tell button[aria-pressed=false]")).to_be_visible()
    title = page.title()
    end(home)
    for tab in (page, other):
        seen_end(tab)
        assert tab.evaluate("[window.told.length, window.asked]") == [0, 0]
        assert tab.title() == title


def test_several_tabs_tell_it_once_and_know_of_each_other(page: Page, going_on) -> None:
    address, home = going_on
    recording(page.context, "granted")
    others = [page.context.new_page() for _ in range(3)]
    for other, path in zip(others, (f"/runs?run={LIVE}", "/runs", f"/runs?run={LIVE}"), strict=True):
        opened(other, address + path)
    ask(page, address)
    expect(others[0].locator(".tell.on")).to_be_visible()
    opened(page, f"{address}/runs?run={LIVE}")
    expect(page.locator(".tell.on")).to_be_visible()
    end(home, FAILED, "out of memory: lower batch size <b>now</b>")
    for tab in (page, *others):
        seen_end(tab, "failed")
    (told,) = (note for tab in (page, *others) for note in tab.evaluate("window.told"))
    assert told["title"] == f"✕ {LIVE} Fine-tune: failed"
    assert "out of memory: lower batch size <b>now</b>" in told["body"]


def test_a_hidden_tab_looks_by_itself(page: Page, going_on) -> None:
    """Gradio's timer rests in a hidden tab, and nothing may wait for a frame to be drawn there."""
    address, home = going_on
    recording(page.context, "granted")
    ask(page, address)
    page.evaluate(HIDDEN + "window.requestAnimationFrame = () => 0;")
    end(home)
    page.wait_for_function("window.told.length === 1", timeout=15000)


@pytest.mark.parametrize("permission, throws", [("default", False), ("granted", True)])
def test_where_it_is_not_allowed_the_title_says_it(page: Page, going_on, permission: str, throws: bool) -> None:
    address, home = going_on
    recording(page.context, permission, "denied", throws)
    ask(page, address)
    if not throws:
        expect(page.locator(".tell small")).to_contain_text("this tab's title will say it")
    end(home)
    seen_end(page)
    assert page.title() == f"✓ {LIVE} Fine-tune: succeeded"
    assert page.evaluate("window.told") == []


def test_on_plain_http_from_another_machine_the_title_says_it(page: Page, going_on) -> None:
    address, home = going_on
    page.context.add_init_script("delete window.Notification; Object.defineProperty(navigator, 'locks', { value: undefined });")
    ask(page, address)
    expect(page.locator(".tell small")).to_be_visible()
    end(home)
    seen_end(page)
    assert page.title() == f"✓ {LIVE} Fine-tune: succeeded"
