"""The main job as a person does it, with the tiny model: import, press Start, watch, read before and after."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import dashboard
from tests.browser.test_pages import opened
from tests.tiny_model import rows, tiny_model

MINUTES = 4 * 60 * 1000


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A dashboard on an empty home, hot spare included."""
    with dashboard(tmp_path / "home") as found:
        yield found


def written(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def start(page: Page) -> None:
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/runs?*")


def succeeded(page: Page, count: int = 1) -> None:
    expect(page.locator(".state.succeeded")).to_have_count(count, timeout=MINUTES)


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


@pytest.mark.timeout(900)
def test_the_quickstart_by_clicking(address: str, page: Page, tmp_path: Path) -> None:
    talk = written(tmp_path / "talk.jsonl", rows("short_answers", 160))
    prompts = written(tmp_path / "prompts.jsonl", rows("facts", 40, seed=1) + rows("open", 24, seed=1))

    opened(page, address + "/")
    page.get_by_role("link", name="Import model").click()
    page.get_by_label("path", exact=True).check()
    page.get_by_label("The folder or the .gguf file").fill(str(tiny_model()))
    page.get_by_label("Name of the result").fill("tiny")
    start(page)
    succeeded(page)

    for path, name in ((talk, "talk"), (prompts, "asked")):
        opened(page, address + "/new?stage=import_dataset")
        page.get_by_label("File or hub id").fill(str(path))
        page.get_by_label("Name of the result").fill(name)
        expect(page.locator(".dj", has_text="stored as").last).to_be_visible(timeout=20000)
        start(page)
        succeeded(page)

    opened(page, address + "/new?recipe=quickstart")
    choose(page, "Model", "tiny")
    choose(page, "Training conversations", "talk")
    choose(page, "Prompts", "asked")
    start(page)
    succeeded(page, 4)
    page.get_by_text("Read the report").click()
    sentence = page.locator("h1.sentence")
    expect(sentence).to_contain_text("stopping by itself", timeout=20000)
    expect(page.locator(".item")).to_have_count(10)
    page.get_by_text("changed", exact=False).first.click()
    assert "Learned stopping by itself" in sentence.inner_text()

    opened(page, address + "/runs")
    page.get_by_role("link", name="Fine-tune").click()
    expect(page.locator(".steps")).to_be_visible(timeout=20000)
    page.wait_for_selector(".dj-chart .main-svg")
