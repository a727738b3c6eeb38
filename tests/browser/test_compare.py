"""Comparing as a person does: read, step, search, measure, pin, copy the link, take it along, and nothing of it runs."""

import csv
import io
import json

import pytest
from playwright.sync_api import Page, expect

from tests.browser.seed import HOSTILE

TWO = "/compare?answers=6-1,7-3"


@pytest.fixture
def two(page: Page, filled: str) -> Page:
    page.goto(filled + TWO)
    expect(page.locator(".columns.n2")).to_be_visible()
    return page


def test_a_card_leads_to_the_answers_side_by_side(page: Page, filled: str) -> None:
    page.goto(filled + "/compare")
    page.locator("a.card", has_text="24 prompts").click()
    expect(page.locator(".columns.n2 .side")).to_have_count(2)
    expect(page.locator(".figures .side").first).to_contain_text("baseline")
    expect(page.locator(".figures .side").first).to_contain_text("SmolLM2-135M-Instruct")


def test_hostile_answers_stay_text_in_every_cell(two: Page, filled: str) -> None:
    for more in ("", "&rows=10", "&pin=sum0", "&only=changed", f"&measures={json.dumps([['regex', ['<img']]])}"):
        two.goto(filled + TWO + more)
        expect(two.locator(".columns.n2").first).to_be_visible()
        assert two.evaluate("window.hacked") is None
        assert two.locator(".dj img[src='x'], .dj script").count() == 0
    two.goto(filled + TWO)
    written = two.locator(".columns pre").first.inner_text().replace("\n", "")
    assert "${1+1} {{value}} <img src=x onerror" in written
    assert "\\frac{1}{2} C:\\users\\x" in written
    assert "U+202E" in written, "what turns the text around is shown by its code"
    assert "</script><script>" in written


def test_keys_step_from_prompt_to_prompt_but_not_while_typing(two: Page) -> None:
    asked = two.locator(".item .prompt").first
    two.keyboard.press("ArrowRight")
    expect(asked).to_have_text("What is 1 and 1?")
    two.keyboard.press("ArrowRight")
    expect(asked).to_have_text("What is 2 and 2?")
    two.keyboard.press("ArrowLeft")
    expect(asked).to_have_text("What is 1 and 1?")
    two.get_by_label("search prompts and answers").fill("What")
    two.keyboard.press("ArrowRight")
    expect(asked).to_have_text("What is 1 and 1?")


def test_the_address_says_what_is_shown(two: Page, browser, filled: str) -> None:
    two.get_by_label("search prompts and answers").fill("and 7")
    two.keyboard.press("Enter")
    expect(two.locator(".item .prompt")).to_have_text(["What is 7 and 7?"])
    two.get_by_label("Measure").select_option("contains")
    two.get_by_role("button", name="Use each prompt's own").click()
    expect(two.locator(".figures tr", has_text="Contains")).to_contain_text("n = 2")
    two.get_by_role("button", name="Pin", exact=True).click()
    expect(two.locator(".pinned .prompt")).to_have_text("What is 7 and 7?")
    other = browser.new_page()
    other.goto(two.url)
    expect(other.locator(".pinned .prompt")).to_have_text("What is 7 and 7?")
    expect(other.locator(".figures tr", has_text="Contains")).to_be_visible()
    expect(other.get_by_label("search prompts and answers")).to_have_value("and 7")
    other.close()


def test_a_bad_pattern_is_told_and_nothing_is_lost(two: Page) -> None:
    two.get_by_label("Measure").select_option("regex")
    pattern = two.locator("input[type=text]").last
    pattern.fill("((")
    pattern.press("Enter")
    expect(two.locator(".problem")).to_be_visible()
    expect(two.locator(".columns.n2")).to_be_visible()


def test_columns_stack_on_a_narrow_screen(browser, filled: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(filled + TWO)
    sides = page.locator(".columns.n2 .side")
    expect(sides).to_have_count(2)
    first, second = (sides.nth(n).bounding_box() for n in (0, 1))
    assert second["y"] > first["y"] + first["height"] - 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_it_leaves_as_files(two: Page, filled: str) -> None:
    got = {kind: two.request.get(f"{filled}/download/compare.{kind}{TWO.removeprefix('/compare')}") for kind in ("html", "csv", "json")}
    assert all(one.ok for one in got.values())
    rows = list(csv.reader(io.StringIO(got["csv"].text())))
    assert len(rows) == 1 + 24
    told = got["json"].json()
    assert told["models"][0]["name"] == "SmolLM2-135M-Instruct"
    assert len(told["examples"]) == 24
    assert told["examples"][0]["output_text_a"] == HOSTILE
    assert "<script>window.hacked" not in got["html"].text()
    two.set_content(got["html"].text())
    assert two.evaluate("window.hacked") is None
    assert two.locator("text=What is 7 and 7?").count() == 1
    assert two.request.get(f"{filled}/download/compare.exe{TWO.removeprefix('/compare')}").status == 404
    assert two.request.get(f"{filled}/download/compare.html?answers=99-9").status == 404


def test_an_address_of_what_is_not_there_says_so(page: Page, filled: str) -> None:
    page.goto(filled + "/compare?answers=99-1,6-1")
    expect(page.locator(".problem")).to_contain_text("99-1")
    expect(page.locator(".columns pre").first).to_be_visible()
    page.goto(filled + "/compare?talk=999")
    expect(page.locator(".problem")).to_contain_text("no model or conversation")
