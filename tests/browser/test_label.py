"""People rank in Chromium: by keyboard, by click and by drag; hostile answers, drafts, failures, and two at once through a restart."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect
from sqlalchemy import Engine
from sqlmodel import Session, select

from engine import labelling, users
from storage.database import open_database
from storage.files import Home
from storage.labels import labels
from storage.queries import utc_now
from storage.tables import Item, Label, Lease
from tests.browser.conftest import dashboard
from tests.labelling import MODELS, add_project

PASSWORD = "correct horse battery"
HOSTILE = [
    "`${1+1}` and ${window.hacked=1} {{value}} {{constructor}}", '<img src=x onerror="window.hacked=1"> <script>window.hacked=1</script>',
    "\\frac{1}{2} C:\\users\\x \\u0041", "done <|im_end|>\n<|im_start|>user\nzero\u200bwidth \u202eback\u202c",
]  # fmt: skip
LONG = "It begins.\n\n" + "\n\n".join(f"Paragraph {n} of many." for n in range(30))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Engine]]:
    """A dashboard on this machine alone, and its database."""
    home = tmp_path_factory.mktemp("label")
    with dashboard(home, "--no-spare") as address:
        yield address, open_database(Home(home))


def opened(page: Page, address: str, project: int, who: str = "Ann") -> Page:
    page.goto(f"{address}/label/?project={project}&as={who}")
    page.locator(".dj-rank > :nth-child(2)").wait_for()
    return page


def keys(page: Page, *pressed: str) -> None:
    for key in pressed:
        page.keyboard.press(key)


def said(database: Engine, project: int) -> list[Label]:
    with Session(database) as session:
        return list(labels(session, project))


def card(page: Page, letter: str) -> Locator:
    return page.locator(".answer").nth("ABCDEFGHI".index(letter))


def on_item(page: Page, number: int) -> None:
    """Wait until so many are done and the next one is there."""
    expect(page.locator(".count")).to_have_text(re.compile(rf"^{number} / \d+$"), timeout=20_000)


def drag(page: Page, what: Locator, onto: Locator) -> None:
    start, end = what.bounding_box(), onto.bounding_box()
    assert start
    assert end
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(end["x"] + 10, end["y"] + end["height"] / 2, steps=5)
    page.mouse.up()


def by_keyboard(page: Page) -> None:
    keys(page, "2", "ArrowDown", "1", "Tab", "=", "ArrowDown", "4", "ArrowUp", "a", "f", "2", "4", "Escape", "Enter")


def by_click(page: Page) -> None:
    for letter, rank in (("A", 2), ("B", 1), ("D", 4)):
        card(page, letter).locator(f"[data-n='{rank}']").click()
    card(page, "C").get_by_role("button", name="Tie").click()  # with the lowest above it that is ranked: D
    card(page, "C").locator("[data-n='2']").click()
    card(page, "C").locator("[data-act=acceptable]").click()
    card(page, "C").locator("[data-act=flag]").click()
    for flag in ("unsafe", "bad format"):
        card(page, "C").locator(".flags").get_by_text(flag).click()
    page.get_by_role("button", name="Submit").click()


def by_drag(page: Page) -> None:
    for letter, rank in (("A", 2), ("B", 1), ("C", 2), ("D", 4)):
        handle = card(page, letter).locator(".letter") if letter in "AB" else page.locator(".tray .chip", has_text=letter)
        drag(page, handle, page.locator(f"[data-rank='{rank}']"))
    drag(page, page.locator("[data-drag=line]"), page.locator("[data-rank='2']"))
    card(page, "C").locator(".letter").click()
    keys(page, "f", "2", "4", "Escape")
    page.get_by_role("button", name="Submit").click()


def test_keyboard_click_and_drag_write_the_same_label(page: Page, place: tuple[str, Engine]) -> None:
    address, database = place
    rows = []
    for act in (by_keyboard, by_click, by_drag):
        id = add_project(database, 1, 4)
        opened(page, address, id)
        act(page)
        expect(page.locator(".end h2")).to_be_visible()
        (label,) = said(database, id)
        number = {key: n for n, key in enumerate(label.shown)}
        tiers = [sorted(number[key] for key in tier) for tier in label.tiers["overall"]]
        rows.append([tiers, label.accepted_above, {number[key]: words for key, words in label.flags.items()}, label.strength, label.rater])
        assert 0 <= label.active_ms <= label.wall_ms
        assert label.wall_ms > 0
    expected: list[Any] = [[[1], [0, 2], [3]], 2, {2: ["unsafe", "bad format"]}, None, "Ann"]
    # by keyboard C was tied when B and A alone were ranked: with A, the one ranked lowest
    assert rows == [expected] * 3


def test_a_finger_drags_too(browser: Browser, place: tuple[str, Engine]) -> None:
    address, database = place
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = opened(context.new_page(), address, add_project(database, 1, 2))
    chip, cell = page.locator(".tray .chip").first.bounding_box(), page.locator("[data-rank='2']").bounding_box()
    assert chip
    assert cell
    session = context.new_cdp_session(page)

    def touch(kind: str, *at: float) -> None:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": at[0], "y": at[1]}] if at else []})

    touch("touchStart", chip["x"] + 10, chip["y"] + 10)
    for step in range(1, 6):
        touch("touchMove", chip["x"] + (cell["x"] + 10 - chip["x"]) * step / 5, chip["y"] + (cell["y"] + 10 - chip["y"]) * step / 5)
    touch("touchEnd")
    expect(card(page, "A").locator(".place")).to_have_text("2")
    context.close()


def test_pairs_by_keys_and_by_click(page: Page, place: tuple[str, Engine]) -> None:
    address, database = place
    id = add_project(database, 3, 2, mode="pairs")
    opened(page, address, id)
    keys(page, "3")
    expect(page.locator(".told")).to_contain_text("choose the better answer")
    keys(page, "ArrowRight", "Enter")
    expect(page.locator(".told")).to_contain_text("how much better")
    keys(page, "3", "Enter")
    on_item(page, 1)
    page.get_by_role("button", name="A is better").click()
    page.get_by_role("button", name="significantly").click()
    page.get_by_role("button", name="Submit").click()
    on_item(page, 2)
    keys(page, "=", "Enter")
    expect(page.locator(".end")).to_be_visible()
    found = [([[one.shown.index(key) for key in tier] for tier in one.tiers["overall"]], one.strength) for one in said(database, id)]
    assert found == [([[1], [0]], 3), ([[0], [1]], 4), ([[0, 1]], None)]


def test_criteria_are_ranked_one_by_one(page: Page, place: tuple[str, Engine]) -> None:
    address, database = place
    id = add_project(database, 1, 2, criteria=["helpful", "honest"], ties=False)
    opened(page, address, id)
    keys(page, "1", "ArrowDown", "1")
    expect(card(page, "A").locator(".place")).to_have_text("not ranked")  # without ties the place was taken
    keys(page, "=")
    expect(page.locator(".told")).to_contain_text("Ties are off")
    keys(page, "ArrowUp", "2", "]", "a")
    expect(page.locator(".told")).to_contain_text("belongs to the ranking by helpful")
    keys(page, "1", "[", "Enter")
    expect(page.locator(".told")).to_contain_text("honest: no rank yet for B")
    expect(page.get_by_role("tab", selected=True)).to_have_text("By honest ✓".removesuffix(" ✓"))
    keys(page, "2", "n", "[", "n", "Enter")
    expect(page.locator(".end")).to_be_visible()
    (label,) = said(database, id)
    a, b = label.shown
    assert label.tiers == {"helpful": [[b], [a]], "honest": [[a], [b]]}
    assert label.accepted_above == 0


def test_hostile_answers_stay_text(page: Page, place: tuple[str, Engine]) -> None:
    address, database = place
    turns = [{"role": role, "content": HOSTILE[n]} for n, role in enumerate(("system", "user", "assistant", "user"))]
    id = add_project(database, 1, 4, lambda n, m: HOSTILE[m], lambda n: {"prompt": turns}, guideline="\n\n".join(HOSTILE))
    opened(page, address, id)
    for text in ("{{value}}", "onerror", "\\frac{1}{2} C:\\users\\x", "<|im_end|>"):
        expect(page.locator(".gate")).to_contain_text(text)
    keys(page, "Enter")
    page.locator(".deck").wait_for()
    for _ in range(2):  # as it comes, then the other way
        shown = page.locator(".answers").inner_text()
        for text in ("${1+1}", "${window.hacked=1} {{value}} {{constructor}}", HOSTILE[1], HOSTILE[2]):
            assert text in shown
        expect(page.locator(".answers .token").first).to_have_text("<|im_end|>")
        expect(page.locator(".answers .invisible").first).to_have_text("U+200B")
        keys(page, "r")
    assert page.locator(".answer .text.raw").count() in (0, 4)
    expect(page.locator(".turn.named")).to_have_count(4)
    assert page.evaluate("window.hacked") is None
    assert page.locator(".dj-rank img, .dj-rank script").count() == 0


def test_a_long_answer_must_be_opened_before_it_is_judged(page: Page, place: tuple[str, Engine]) -> None:
    address, database = place
    id = add_project(database, 1, 2, lambda n, m: LONG + str(m))
    opened(page, address, id)
    keys(page, "1", "ArrowDown", "2", "Enter")
    expect(page.locator(".told")).to_contain_text("Not read yet: A, B")
    expect(card(page, "A")).to_be_focused()
    keys(page, "e", "ArrowDown", "e", "e")
    expect(card(page, "B").locator(".unread")).to_be_hidden()
    keys(page, "Enter")
    expect(page.locator(".end")).to_be_visible()
    assert len(said(database, id)) == 1


def test_what_was_typed_survives_a_reload_and_keys_are_letters_in_a_box(page: Page, place: tuple[str, Engine]) -> None:
    address, database = place
    id = add_project(database, 2, 3)
    opened(page, address, id)
    keys(page, "1", "ArrowDown", "3", "c")
    page.keyboard.type("us? 1=2, w")
    keys(page, "Escape", "w")
    page.keyboard.type("A better one")
    keys(page, "Escape", "f", "1")
    page.reload()
    expect(card(page, "A").locator(".place")).to_have_text("1")
    expect(card(page, "B").locator(".place")).to_have_text("3")
    expect(card(page, "B").locator(".marks")).to_have_text("factual error")
    expect(page.get_by_role("textbox", name="Comment")).to_have_value("us? 1=2, w")
    keys(page, "ArrowDown", "ArrowDown", "2", "Enter")
    on_item(page, 1)
    (label,) = said(database, id)
    assert (label.comment, label.better) == ("us? 1=2, w", "A better one")
    expect(page.get_by_role("textbox", name="Comment")).to_be_hidden()  # the next item begins empty


def test_undo_gives_it_back_as_it_was_and_skip_asks_why(page: Page, place: tuple[str, Engine]) -> None:
    address, database = place
    id = add_project(database, 2, 3)
    opened(page, address, id)
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    keys(page, "1", "ArrowDown", "1", "ArrowDown", "3", "Enter")
    on_item(page, 1)
    keys(page, "u")
    expect(page.locator(".place")).to_have_text(["1", "1", "2"])
    keys(page, "Enter")
    on_item(page, 1)
    keys(page, "s", "7", "3")
    expect(page.locator(".end")).to_be_visible()
    first, second = said(database, id)
    assert [len(tier) for tier in first.tiers["overall"]] == [2, 1]
    assert (second.act, second.reason) == ("skip", "cannot judge")
    expect(page.locator(".end")).to_contain_text("closed")


def test_a_changed_guideline_is_read_again_and_the_same_label_goes_through(page: Page, place: tuple[str, Engine]) -> None:
    address, database = place
    id = add_project(database, 2, 2, guideline="# Be fair")
    opened(page, address, id)
    expect(page.locator(".gate")).to_contain_text("Be fair")
    keys(page, "1")  # nothing to rank yet
    page.wait_for_timeout(100)
    keys(page, "Enter", "1", "ArrowDown", "2")
    labelling.change_guideline(database, id, "Be **strict**", "owner", utc_now())
    keys(page, "Enter")
    expect(page.locator(".gate strong")).to_have_text("strict")
    keys(page, "Enter")
    on_item(page, 1)
    (label,) = said(database, id)
    assert label.guideline == 2
    page.reload()
    expect(page.locator(".deck")).to_be_visible()  # read already
    page.locator("details.guideline summary").click()
    expect(page.locator("details.guideline")).to_contain_text("Be strict")


def test_practice_tells_what_is_known_and_goes_on(page: Page, place: tuple[str, Engine]) -> None:
    address, database = place
    gold = {"kind": "practice", "wanted": 0, "gold": (("0-1",), ("0-0",))}
    id = add_project(database, 2, 2, more=lambda n: gold if n == 0 else {})
    opened(page, address, id)
    expect(page.locator(".practice")).to_have_text("practice")
    wrong_first = "Answer 0" in card(page, "A").locator(".text").inner_text()
    keys(page, *(("1", "ArrowDown", "2") if wrong_first else ("2", "ArrowDown", "1")), "Enter")
    told = page.locator(".told")
    expect(told).to_contain_text("Known to be better: B > A. Yours: A > B." if wrong_first else "Known to be better: A > B. Yours: B > A.")
    card(page, "A").locator("[data-n='2']").click()  # it was submitted: nothing changes any more
    keys(page, "s")
    expect(told).to_contain_text("Known to be better")
    page.wait_for_timeout(600)
    keys(page, "Enter")
    expect(page.locator(".practice")).to_have_count(0)
    expect(page.locator(".count")).to_have_text("0 / 1")


def test_a_double_press_is_one_label(page: Page, place: tuple[str, Engine]) -> None:
    address, database = place
    id = add_project(database, 3, 2)
    opened(page, address, id)
    for number in range(3):
        keys(page, "1", "ArrowDown", "2", "Enter", "Enter")
        expect(page.locator(".count")).to_have_text(f"{number + 1} / 3")
        keys(page, "Enter")
        expect(page.locator(".told.problem")).to_have_count(0)
    assert len(said(database, id)) == 3


def test_a_server_that_does_not_answer_is_said_and_the_retry_is_one_label(browser: Browser, place: tuple[str, Engine]) -> None:
    address, database = place
    id = add_project(database, 2, 2)
    context = browser.new_context()
    page = opened(context.new_page(), address, id)
    sent: list[str] = []

    def swallow(route: Route) -> None:
        body = route.request.post_data_json
        event = (body.get("event_data") or {}).get("said", {}).get("client_event_id")
        sent.append(event)
        if len(sent) == 1:
            route.fetch()  # it arrives, and its answer is lost
        else:
            route.continue_()

    page.route("**/run/**", swallow)
    page.clock.install()
    keys(page, "1", "ArrowDown", "2", "Enter")
    expect(page.locator("[data-act=submit]")).to_have_attribute("aria-busy", "true")
    keys(page, "Enter", "2", "u")  # while it is on its way nothing else happens
    page.clock.run_for(10_500)
    expect(page.locator(".told.problem")).to_contain_text("has not answered")
    page.get_by_role("button", name="Send again").click()
    on_item(page, 1)
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert len(sent[0]) == 32
    assert len(said(database, id)) == 1
    context.close()


@pytest.mark.parametrize("arrives", ["before", "late"])
def test_what_is_changed_after_a_send_that_seemed_to_fail_is_what_counts(browser: Browser, place: tuple[str, Engine], arrives: str) -> None:
    address, database = place
    id = add_project(database, 2, 2)
    context = browser.new_context()
    page = opened(context.new_page(), address, id)
    first: list[Route] = []

    def swallow(route: Route) -> None:
        first.append(route)
        if len(first) > 1:
            route.continue_()
        elif arrives == "before":
            route.fetch()  # and its answer is lost

    page.route("**/run/**", swallow)
    page.clock.install()
    keys(page, "1", "ArrowDown", "2", "Enter")
    expect(page.locator("[data-act=submit]")).to_have_attribute("aria-busy", "true")
    page.clock.run_for(10_500)
    expect(page.locator(".told.problem")).to_contain_text("has not answered")
    keys(page, "1", "ArrowUp", "2", "Enter")  # the other way round
    on_item(page, 1)
    if arrives == "late":
        first[0].fetch()
    (kept,) = said(database, id)
    assert kept.tiers["overall"] == [[kept.shown[1]], [kept.shown[0]]]
    context.close()


def test_screen_readers_are_told(page: Page, place: tuple[str, Engine]) -> None:
    address, database = place
    opened(page, address, add_project(database, 1, 3))
    items = page.get_by_role("listitem").filter(has=page.locator(".letter"))
    expect(items).to_have_count(3)
    assert [items.nth(n).get_attribute("aria-posinset") for n in range(3)] == ["1", "2", "3"]
    keys(page, "ArrowDown", "2")
    expect(page.locator(".dj-rank [role=status]")).to_have_text("Answer B on rank 2. 2 without a rank.")
    expect(page.get_by_role("listitem", name="Answer B, rank 2")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    keys(page, "?")
    expect(page.get_by_role("dialog", name="Help")).to_be_visible()
    keys(page, "1", "Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("listitem", name="Answer B, rank 2")).to_be_focused()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(browser: Browser, place: tuple[str, Engine], theme: str) -> None:
    address, database = place
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=theme)  # type: ignore[arg-type]
    page = context.new_page()
    wide = "w" * 400 + "\n```\n" + "c " * 200 + "\n```"
    for settings in ({"answers": 9}, {"answers": 2, "mode": "pairs"}, {"answers": 4, "criteria": ["helpful", "harmless", "honest"]}):
        opened(page, address, add_project(database, 1, texts=lambda n, m: wide, **settings))  # type: ignore[arg-type]
        keys(page, "3", "f", "s")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        small = page.locator(".deck .main button").evaluate_all("all => all.filter(one => one.offsetHeight < 44).length")
        assert small == 0
    page.goto(f"{address}/label/?as=Ann")
    page.locator(".cards").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_the_name_that_was_typed_stays(page: Page, place: tuple[str, Engine]) -> None:
    address, database = place
    add_project(database, 1, 2, name="Named here")
    page.goto(f"{address}/label/")
    page.get_by_label("Your name").fill("Ann Bee")
    page.keyboard.press("Enter")
    page.wait_for_url("**/label/?as=Ann+Bee")
    page.get_by_role("link", name="Named here").click()
    expect(page.locator(".dj").first).to_contain_text("You rank as Ann Bee.")


def rank_item(page: Page, turn: int) -> None:
    """Rank what is shown, by keyboard alone; each turn another order."""
    order = ["1", "2", "3"] if turn % 2 else ["3", "1", "2"]
    for rank in order:
        keys(page, rank, "ArrowDown")
    keys(page, "Enter", "Enter")


def two_at_once(browser: Browser, folder: Path, each: int) -> None:
    """Two raters, each in a browser of their own, with double presses, a reload, and the server restarted half-way."""
    database = open_database(Home(folder))
    for name, role in (("ann", "owner"), ("bob", "rater"), ("cat", "rater")):
        users.add(database, name, role, PASSWORD, utc_now())
    id = add_project(database, each * 2, 3, name="Rankings of secret-base-7b", guideline="Be fair.")
    pages: dict[str, Page] = {}
    options = ("--no-spare", "--host", "0.0.0.0")
    with dashboard(folder, *options) as address:
        port = int(address.rsplit(":", 1)[1])
        for name in ("bob", "cat"):
            page = pages[name] = browser.new_context().new_page()
            page.goto(f"{address}/login?next=/label/%3Fproject={id}")
            page.get_by_label("Name").fill(name)
            page.get_by_label("Password").fill(PASSWORD)
            keys(page, "Enter")
            page.locator(".gate").wait_for()
            keys(page, "Enter")
        for turn in range(each // 2):
            for page in pages.values():
                on_item(page, turn)
                rank_item(page, turn)
            if turn == each // 4:
                on_item(pages["bob"], turn + 1)
                keys(pages["bob"], "2")
                pages["bob"].reload()
        for page in pages.values():
            on_item(page, each // 2)
            keys(page, "2")
    keys(pages["bob"], "ArrowDown", "1", "ArrowDown", "3", "Enter")  # sent to a server that is not there
    with dashboard(folder, *options, port=port):
        for page in pages.values():  # Gradio reloads by itself when the server is back, at a moment of its own
            page.reload()
            expect(page.locator(".answer .place").first).to_have_text("2", timeout=60_000)
        for turn in range(each // 2, each):
            for page in pages.values():
                on_item(page, turn)
                rank_item(page, turn)
        for page in pages.values():
            expect(page.locator(".end")).to_be_visible()
            shown = page.content().lower()
            assert not any(name in shown for name in MODELS)
            page.context.close()
    with Session(database) as session:
        rows = session.exec(select(Label)).all()
        assert len(rows) == 2 * each
        assert Counter(row.rater for row in rows) == {"bob": each, "cat": each}
        assert len({row.item for row in rows}) == 2 * each == len(session.exec(select(Item)).all()), "no item twice, none left out"
        assert not any(row.extra for row in rows)
        assert not session.exec(select(Lease)).all()


def test_two_rank_at_once_through_a_reload_and_a_restart(browser: Browser, tmp_path: Path) -> None:
    two_at_once(browser, tmp_path / "home", 6)


@pytest.mark.long
def test_two_rank_thirty_items_each_at_once_through_a_reload_and_a_restart(browser: Browser, tmp_path: Path) -> None:
    two_at_once(browser, tmp_path / "home", 30)
