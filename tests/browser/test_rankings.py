"""The owner's page of rankings in Chromium: it is read, something is settled, and nothing of what people wrote runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlmodel import Session

from storage import labels
from storage.database import open_database
from storage.files import Home
from tests.browser.conftest import dashboard
from tests.browser.seed import HOSTILE
from tests.rankings_seed import seed_project


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A project as after some days, and one where every text is hostile."""
    home = Home(Path(tmp_path_factory.mktemp("rankings")) / "home")
    database = open_database(home)
    seed_project(database)
    seed_project(database, hostile=HOSTILE, raters=(f"Mara {HOSTILE}", "Jonas"), criteria=("helpful", HOSTILE))
    return home


@pytest.fixture(scope="module")
def address(home: Home) -> Iterator[str]:
    with dashboard(home.root, "--no-spare") as found:
        yield found


@pytest.mark.parametrize("width", [1280, 390])
def test_an_owner_reads_settles_and_sees_it_settled(address: str, home: Home, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 860})
    page.goto(address + "/rankings")
    page.get_by_role("link", name="Which answer helps more", exact=True).click()
    expect(page.locator("h1.sentence")).to_contain_text("items ranked by 3 people. They agree on")
    expect(page.locator(".strengths .bar .mark")).to_have_count(3)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing but tables scrolls sideways"
    before = int(page.get_by_role("link", name="to settle").inner_text().split()[-1])
    page.get_by_role("button", name="Take the majority").first.click()
    expect(page.get_by_role("link", name=f"to settle {before - 1}")).to_be_visible()
    page.get_by_text("Set the ranks by hand").first.click()
    for select in page.locator(".panel .item").first.locator("select").all():
        select.select_option("2")
    page.get_by_role("button", name="Settle like this").first.click()
    expect(page.get_by_role("link", name=f"to settle {before - 2}")).to_be_visible()
    page.get_by_role("link", name="settled", exact=False).last.click()
    expect(page.get_by_text("local owner settled it just now:").first).to_be_visible()
    expect(page.locator(".panel .item").first).to_contain_text("A = B = C")
    with Session(open_database(home)) as session:
        assert len(labels.labels(session, 1, ("settle",))) == (2 if width == 1280 else 4)


def test_a_guideline_is_changed_and_a_rater_invited(address: str, page: Page) -> None:
    page.goto(address + "/rankings?project=1")
    page.get_by_text("Guideline", exact=True).first.click()
    page.get_by_label("Guideline").fill("Prefer what is true.")
    page.get_by_role("button", name="Save as version 2").click()
    expect(page.get_by_role("button", name="Save as version 3")).to_be_visible()
    expect(page.get_by_label("Guideline")).to_have_value("Prefer what is true.")
    page.get_by_text("Invite a rater").click()
    page.get_by_label("The rater's name").fill("Ann")
    page.get_by_role("button", name="Make a link").click()
    expect(page.get_by_role("button", name="Copy the link")).to_be_visible()
    expect(page.get_by_text(f"{address}/welcome?token=")).to_be_visible()
    page.on("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.get_by_role("link", name="Rank", exact=True)).to_be_visible()


def test_hostile_text_is_only_shown(address: str, page: Page) -> None:
    for path in ("/rankings", "/rankings?project=2"):
        page.goto(address + path)
        expect(page.get_by_text("${1+1}").first).to_be_visible()
        page.wait_for_timeout(300)
        assert page.evaluate("window.hacked") is None
        assert page.locator(".dj img[src='x'], .dj script").count() == 0
