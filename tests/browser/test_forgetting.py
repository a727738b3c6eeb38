"""The Forgetting page in Chromium with real rows: the loss is read first, items are one click away, and nothing of them runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlmodel import col, select

from storage.database import open_database, transaction
from storage.files import Home
from storage.tables import Artifact, Response
from tests.browser.conftest import dashboard
from tests.browser.seed import HOSTILE
from tests.engine.test_forgetting import Lab


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A base and a model that forgot a subject, with hostile names and answers."""
    home = Home(Path(tmp_path_factory.mktemp("forgetting")) / "home")
    database = open_database(home)
    with transaction(database) as session:
        lab = Lab(session)
        for place, step, right in ((0, 0, 98), (1, 10, 3)):
            lab.measure(place, step, "capitals", right)
            lab.measure(place, step, "arithmetic", 60, hash="a")
        for step in (0, 5, 10):
            lab.measure(1, step, "capitals", 30 - 2 * step, n=32, hash="watch")
        session.get_one(Artifact, lab.models[1]).name = HOSTILE
        for row in session.exec(select(Response).where(col(Response.artifact) == lab.models[1])):
            row.answer = HOSTILE
    with dashboard(home.root, "--no-spare") as found:
        yield found


@pytest.mark.parametrize("width", [1280, 390])
def test_a_loss_is_seen_and_its_items_are_one_click_away(address: str, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 860})
    page.goto(address + "/forgetting")
    expect(page.locator("h1.sentence")).to_contain_text("Forgot Capitals (98% → 3%, n = 100).")
    expect(page.locator(".dj-chart .scatterlayer .trace").first).to_be_attached()
    assert page.locator(".dj-chart .modebar-btn").count() == 1, "the picture can be saved"
    page.get_by_role("link", name="Capitals").first.click()
    expect(page.locator(".item").first).to_contain_text("✕ not right")
    expect(page.get_by_text("lost 95")).to_be_visible()
    page.get_by_role("link", name="Next →").click()
    expect(page.get_by_role("link", name="← Previous")).to_be_visible()
    assert page.evaluate("window.hacked") is None
    assert page.locator(".dj img[src='x'], .dj script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_it_leaves_as_a_file_that_asks_nobody_for_anything(address: str, page: Page, tmp_path: Path) -> None:
    page.goto(address + "/forgetting")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as one HTML file").click()
    path = tmp_path / "told.html"
    download.value.save_as(path)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    expect(page.locator("h1")).to_contain_text("Forgot Capitals")
    assert page.evaluate("window.hacked") is None
    assert asked == [path.as_uri()]
    assert "98%" in page.inner_text("body")
