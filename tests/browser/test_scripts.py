"""The two scripts by themselves, on a blank page: what they draw, what they refuse, what they keep."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from app.live import PLOTLY
from app.view import h

ASSETS = Path(__file__).parents[2] / "assets"
MOUNT = """(name) => {
  const element = document.body.appendChild(document.createElement("div"));
  element.innerHTML = name === "view" ? "<div class='dj'></div>" : "<div class='dj-chart' style='width:600px'></div>";
  const props = { value: null }; let told = null; window.acts = [];
  window.dianjing[name](element, props, (_, then) => { told = then; }, (data) => window.acts.push(data ?? "resync"));
  window.show = (value) => { props.value = value; told(); };
}"""


@pytest.fixture
def view(page: Page) -> Page:
    page.add_script_tag(path=ASSETS / "view.js")
    page.evaluate(MOUNT, "view")
    return page


@pytest.fixture
def chart(page: Page) -> Page:
    page.add_script_tag(path=PLOTLY)
    page.add_script_tag(path=ASSETS / "chart.js")
    page.evaluate(MOUNT, "chart")
    return page


def show(page: Page, value: Any) -> None:
    page.evaluate("(value) => window.show(value)", json.loads(json.dumps(value)))


def test_tags_and_attributes_that_are_not_known_do_nothing(view: Page) -> None:
    frame, loud = h("iframe", "x", src="https://example.org"), h("p", "y", onclick="hacked=1", style="color:red")
    show(view, [h("script", "window.hacked = 1"), frame, loud])
    assert view.locator(".dj script, .dj iframe, .dj [onclick], .dj [style]").count() == 0
    assert view.locator(".dj").inner_text().split() == ["window.hacked", "=", "1x", "y"]


ELSEWHERE = ["javascript:alert(1)", "//example.org", "/\\example.org", "data:text/html,x", " javascript:x", "vbscript:x", "/\t/example.org"]


@pytest.mark.parametrize("address", ELSEWHERE)
def test_an_address_that_is_not_ours_or_http_is_dropped(view: Page, address: str) -> None:
    show(view, h("a", "x", href=address))
    assert view.locator(".dj a").get_attribute("href") is None
    show(view, {"t": "go", "a": {"href": address}, "c": []})
    assert view.url == "about:blank"


def test_what_did_not_change_keeps_its_nodes_focus_and_folds(view: Page) -> None:
    def tree(word: str) -> list[Any]:
        return [h("p", word), h("details", h("summary", "more"), h("p", "inside")), h("input", type="text", value="old", on="name")]

    show(view, tree("one"))
    view.locator("summary").click()
    view.locator("input").fill("typed")
    view.evaluate("window.before = [...document.querySelectorAll('.dj *')]")
    show(view, tree("two"))
    assert view.evaluate("[...document.querySelectorAll('.dj *')].every((e, i) => e === before[i])")
    assert view.locator("details").get_attribute("open") is not None
    assert view.locator("input").input_value() == "typed"
    assert view.locator("p").first.inner_text() == "two"


def test_hidden_characters_are_spelled_out_and_updated(view: Page) -> None:
    show(view, h("p", "a\u200bb\u202ec"))
    assert view.locator("p").inner_text() == "aU+200BbU+202Ec"
    show(view, h("p", "tag\U000e0041ged"))
    assert view.locator("p").inner_text() == "tagU+E0041ged"
    show(view, h("p", "plain"))
    assert view.locator("p").inner_text() == "plain"


def test_no_picture_comes_from_elsewhere(view: Page) -> None:
    show(view, [h("img", src="https://example.org/x.png"), h("img", src="/logo.svg")])
    assert view.evaluate("[...document.querySelectorAll('.dj img')].map((i) => i.getAttribute('src'))") == [None, "/logo.svg"]


def test_a_click_carries_its_data_and_a_second_press_is_ignored_for_a_while(view: Page) -> None:
    show(view, h("button", "go", on="start", data={"run": 3}))
    view.locator("button").dblclick()
    assert view.evaluate("window.acts") == [{"run": 3, "name": "start"}]


def test_an_answer_frees_the_button_unless_it_is_switched_off(view: Page) -> None:
    button = view.locator("button")
    show(view, h("button", "next", on="step", data={"step": 1}))
    button.click()
    assert button.get_attribute("aria-busy") == "true"
    show(view, h("button", "next", on="step", data={"step": 2}))
    button.click()
    assert view.evaluate("window.acts.map((a) => a.step)") == [1, 2]
    show(view, h("button", "stop", on="step", data={"step": 3}, disabled=True))
    view.wait_for_timeout(1700)
    assert button.is_disabled()


def test_bars_are_placed_by_numbers_alone(view: Page) -> None:
    show(view, [h("i", at=0.25), h("i", at="1; background: url(x)")])
    assert view.evaluate("[...document.querySelectorAll('.dj i')].map((i) => i.style.cssText)") == ["--at: 0.25;", ""]


LINE = {"series": "loss", "label": "Loss", "panel": 0, "colour": "#0072B2", "marker": "circle", "sparse": False}
POINTS = {"loss": [[1, 3], [2, None], [3, 2]]}
WHOLE = {"lines": [LINE], "points": POINTS, "after": None, "cursor": 3, "words": {"step": "step", "gap": "gap"}}


@pytest.mark.parametrize("panels", [2, 3, 6])
def test_panels_with_headings_stand_below_each_other_however_many(chart: Page, panels: int) -> None:
    lines = [LINE | {"series": f"s{n}", "panel": n, "heading": f"Panel {n}" if n else ""} for n in range(panels)]
    show(chart, WHOLE | {"lines": lines, "points": {f"s{n}": POINTS["loss"] for n in range(panels)}})
    layout = chart.evaluate("document.querySelector('.dj-chart').layout")
    domains = [layout[f"yaxis{n + 1}" if n else "yaxis"]["domain"] for n in range(panels)]
    assert all(above[0] > below[1] for above, below in pairwise(domains))
    assert min(domains[-1]) >= 0
    assert {f"Panel {n}" for n in range(1, panels)} <= {note["text"] for note in layout["annotations"]}


def drawn(page: Page) -> list[Any]:
    return page.evaluate("document.querySelector('.dj-chart').data.map((t) => [[...t.x], [...t.y]])")


def test_points_are_added_after_the_cursor_and_newer_steps_win(chart: Page) -> None:
    show(chart, WHOLE)
    show(chart, {"points": {"loss": [[4, 1]]}, "after": 3, "cursor": 4})
    assert drawn(chart)[0] == [[1, 2, 3, 4], [3, None, 2, 1]]
    show(chart, {"points": {"loss": [[3, 9]]}, "after": 4, "cursor": 5})
    assert drawn(chart)[0] == [[1, 2, 3], [3, None, 9]]
    assert chart.evaluate("window.acts") == []


def test_what_does_not_follow_asks_for_the_whole(chart: Page) -> None:
    show(chart, WHOLE)
    show(chart, {"points": {"loss": [[9, 1]]}, "after": 7, "cursor": 9})
    assert chart.evaluate("window.acts") == ["resync"]
    assert drawn(chart)[0][0] == [1, 2, 3]


def test_not_a_number_is_a_gap_with_a_mark(chart: Page) -> None:
    show(chart, WHOLE)
    assert drawn(chart)[1] == [[2], [3]]


def test_a_name_is_never_markup(chart: Page) -> None:
    show(chart, WHOLE | {"lines": [LINE | {"label": "<img src=x onerror=hacked=1>"}]})
    assert chart.locator(".dj-chart img").count() == 0
