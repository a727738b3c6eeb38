"""Every page in Chromium: it opens, says what to do, keeps still, and runs nothing that a model wrote."""

import re
import time

import pytest
from playwright.sync_api import Browser, Page, expect

PAGES = ["/", "/new", "/new?stage=finetune", "/new?stage=import_dataset", "/new?recipe=quickstart", "/runs", "/report", "/library"]
FILLED = [*PAGES]
FILLED += ["/runs?run=3", "/runs?run=4", "/runs?run=5", "/runs?run=9", "/runs?compare=3,4", "/report?report=5", "/library?artifact=2",
          "/library?artifact=3", "/new?from=3", "/curate?dataset=2"]  # fmt: skip


def opened(page: Page, address: str) -> Page:
    """The page once its handlers have filled it."""
    page.goto(address)
    page.wait_for_function("document.querySelector('.dj h1, .dj .problem')", timeout=20000)
    page.wait_for_timeout(400)  # late console errors
    return page


@pytest.mark.parametrize("path", PAGES)
def test_on_an_empty_home_every_page_opens(page: Page, bare: str, path: str) -> None:
    opened(page, bare + path)


@pytest.mark.parametrize("path", FILLED)
def test_on_a_filled_home_every_page_opens_and_nothing_hostile_runs(page: Page, filled: str, path: str) -> None:
    opened(page, filled + path)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src='x']").count() == 0


@pytest.mark.parametrize(
    "path", ["/runs?run=3", "/runs?run=5", "/report?report=5", "/library?artifact=2", "/library?artifact=3", "/runs", "/runs?run=9"]
)
def test_hostile_text_is_shown_as_it_is(page: Page, filled: str, path: str) -> None:
    opened(page, filled + path)
    page.locator("details").evaluate_all("all => all.forEach(d => d.open = true)")
    expect(page.locator(".dj").filter(has_text="${1+1} {{value}}").first).to_be_attached()


def test_invisible_characters_are_shown_by_their_code(page: Page, filled: str) -> None:
    opened(page, filled + "/runs?run=3")
    expect(page.locator(".invisible", has_text="U+200B").first).to_be_visible()


@pytest.mark.parametrize(
    "path",
    [
        "/runs?run=99",
        "/runs?run=x",
        "/report?report=99",
        "/library?artifact=99",
        "/new?stage=finetun",
        "/new?from=99",
        f"/runs?run={10**30}",
        "/runs?run=%C2%B2",
        f"/library?artifact={10**30}",
        "/curate?dataset=1",
        "/curate?dataset=99",
        f"/curate?dataset={10**30}",
        f"/report?report={10**30}",
        f"/new?from={10**30}",
        f"/runs?plan={10**30}",
        f"/runs?compare={10**30},3",
    ],
)
def test_a_link_to_what_is_not_there_says_so(page: Page, filled: str, path: str) -> None:
    opened(page, filled + path)
    expect(page.locator(".problem").first).to_be_visible()


@pytest.mark.parametrize("path", FILLED)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(browser: Browser, filled: str, path: str, theme: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=theme)  # type: ignore[arg-type]
    page = opened(context.new_page(), filled + path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_the_address_asks_nobody_else(browser: Browser, filled: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    opened(page, filled + "/runs?run=3")
    context.close()
    assert [url for url in asked if not url.startswith((filled, "data:", "blob:"))] == []


def test_a_zoomed_chart_stays_zoomed_while_ticks_arrive(page: Page, filled: str) -> None:
    opened(page, filled + "/runs?run=3")
    page.wait_for_selector(".dj-chart .main-svg")
    page.evaluate("Plotly.relayout(document.querySelector('.dj-chart'), {'xaxis.range': [10, 20]})")
    time.sleep(4.5)
    assert page.evaluate("document.querySelector('.dj-chart').layout.xaxis.range") == [10, 20]


def test_a_tick_that_brings_nothing_redraws_nothing(page: Page, filled: str) -> None:
    opened(page, filled + "/runs?run=3")
    page.wait_for_selector(".dj-chart .main-svg")
    page.evaluate(
        "const OURS = (m) => (m.target.closest ?? (() => null)).call(m.target, '.dj, .dj-chart');"
        "window.changes = 0; new MutationObserver(all => changes += all.filter(OURS).length)"
        ".observe(document.body, {subtree: true, childList: true, characterData: true})"
    )
    time.sleep(5)
    assert page.evaluate("window.changes") == 0


def test_not_a_number_is_a_gap_and_a_mark(page: Page, filled: str) -> None:
    opened(page, filled + "/runs?run=3")
    page.wait_for_selector(".dj-chart .main-svg")
    drawn = page.evaluate("document.querySelector('.dj-chart').data.map(t => [t.name, Array.from(t.x), Array.from(t.y)])")
    loss = next(line for line in drawn if line[0] == "Loss")
    assert loss[2][loss[1].index(20)] is None
    assert next(line for line in drawn if line[0] == "not a number")[1] == [20]


def test_the_scrubber_goes_to_another_checkpoint(page: Page, filled: str) -> None:
    opened(page, filled + "/runs?run=3")
    expect(page.locator(".steps b")).to_have_text("40")
    page.get_by_label("Earlier checkpoint").click()
    expect(page.locator(".steps b")).to_have_text("20")
    expect(page.locator(".side.tuned").last).to_contain_text("Paris")


def test_a_message_stands_beside_its_field_and_what_was_typed_stays(page: Page, bare: str) -> None:
    opened(page, bare + "/new?stage=import_dataset")
    path = page.get_by_label("File or hub id")
    path.fill("/nowhere/data.jsonl")
    page.get_by_label("Name of the result").fill("mine")
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".fielderror", has_text="there is no file /nowhere/data.jsonl".capitalize()[:12])).to_be_visible()
    assert path.input_value() == "/nowhere/data.jsonl"
    assert page.get_by_label("Name of the result").input_value() == "mine"


def test_deleting_asks_first_and_names_what_needs_it(page: Page, filled: str) -> None:
    opened(page, filled + "/library?artifact=1")
    expect(page.get_by_text("Cannot be deleted: needed by")).to_be_visible()
    assert page.get_by_role("button", name="Delete").count() == 0
    opened(page, filled + "/library?artifact=3")
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.get_by_role("button", name="Delete").click()
    assert re.match(r"Delete tuned", asked[0])


def test_filters_and_search_narrow_the_list(page: Page, filled: str) -> None:
    opened(page, filled + "/runs?status=failed")
    expect(page.locator("tbody tr")).to_have_count(1)
    opened(page, filled + "/runs")
    page.get_by_label("Search runs").fill("first")
    page.get_by_label("Search runs").press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_two_runs_are_overlaid_with_what_differs(page: Page, filled: str) -> None:
    opened(page, filled + "/runs?compare=3,4")
    page.wait_for_selector(".dj-chart .main-svg")
    assert page.evaluate("document.querySelector('.dj-chart').data.filter(t => t.name.includes('Fine-tune')).length") == 2


def test_a_run_that_has_no_points_is_named_under_the_overlay(page: Page, filled: str) -> None:
    opened(page, filled + "/runs?compare=3,5")
    expect(page.get_by_text("No points yet: 5 Fine-tune")).to_be_visible()


def test_settings_of_another_version_are_shown_raw(page: Page, filled: str) -> None:
    opened(page, filled + "/runs?run=9")
    page.get_by_text("Settings", exact=True).click()
    expect(page.get_by_text("These settings were made by another version")).to_be_visible()
