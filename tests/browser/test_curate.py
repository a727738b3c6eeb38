"""Curating as a person does: tag, edit, exclude, keep one of those that are alike, and make a new dataset; by keyboard too."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlmodel import Session

from storage.database import open_database
from storage.files import Home
from storage.queries import utc_now
from storage.tables import FINAL, Artifact, Run
from tests.browser.conftest import dashboard
from tests.browser.seed import HOSTILE

LONG = "please tell me in a few plain words why the sky over a city is blue at noon and red at night"


def talk(user: str, answer: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]}


TRAIN = [talk(f"question {n} {HOSTILE}", f"answer {n} {HOSTILE}") for n in range(14)]
TRAIN += [talk(LONG + end, "light scatters") for end in "?!."]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Home]]:
    """A dashboard on a home with a dataset."""
    home = Home(tmp_path_factory.mktemp("curated"))
    with Session(open_database(home)) as session:
        row = Artifact(kind="dataset", name="talks", folder="artifacts/1", created_at=utc_now(), ready_at=utc_now(),
                       summary={"format": "messages", "rows": len(TRAIN), "heldout": 1, "columns": ["messages"]})  # fmt: skip
        session.add(row)
        session.commit()
    folder = home.artifact_folder(1)
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TRAIN))
    (folder / "heldout.jsonl").write_text(json.dumps(talk("held out", "its answer")) + "\n")
    with dashboard(home.root, "--no-spare") as address:
        yield address, home


@pytest.fixture
def desk(page: Page, place: tuple[str, Home]) -> Page:
    page.goto(place[0] + "/library?artifact=1")
    page.get_by_role("link", name="Curate", exact=True).click()
    expect(page.locator(".item.curated")).to_have_count(10)
    return page


def made(home: Home) -> Path:
    """The folder of the newest dataset, once its run has succeeded."""
    for _ in range(600):
        with Session(open_database(home)) as session:
            runs = [run for run in session.query(Run) if run.stage == "curate"]
            if runs and runs[-1].status in FINAL:
                assert runs[-1].status == "succeeded", runs[-1].error
                return home.root / session.query(Artifact).filter_by(made_by=runs[-1].id).one().folder
        time.sleep(0.1)
    raise AssertionError("the run did not end")


def test_from_the_library_to_a_new_dataset(desk: Page, place: tuple[str, Home]) -> None:
    row = desk.locator(".item.curated").first
    field = row.get_by_label("Add a tag to row 1")
    field.fill("good")
    field.press("Enter")
    expect(row.get_by_role("button", name="Take away the tag good")).to_be_visible()
    expect(field).to_be_focused()
    expect(field).to_have_value("")
    field.press_sequentially("a,b")
    field.press("Enter")
    expect(row.locator(".fielderror")).to_contain_text("'a,b' cannot be a tag")
    expect(field).to_have_value("a,b")

    second = desk.locator(".item.curated").nth(1)
    second.get_by_role("button", name="Edit row 2").click()
    answer = second.get_by_label("assistant")
    expect(answer).to_have_value(f"answer 1 {HOSTILE}")
    answer.fill("   ")
    second.get_by_label("user").fill("a question that stays typed")
    second.get_by_role("button", name="Save").click()
    expect(second.locator(".fielderror")).to_contain_text("The assistant message is empty")
    expect(second.get_by_label("user")).to_have_value("a question that stays typed")
    answer.fill("a better answer")
    second.get_by_role("button", name="Save").click()
    expect(second.locator("pre").nth(1)).to_have_text("a better answer")
    expect(second.get_by_text("What it said before")).to_be_visible()

    third = desk.locator(".item.curated").nth(2)
    third.get_by_text("Exclude", exact=True).click()
    third.get_by_role("button", name="off topic").click()
    expect(third.get_by_text("excluded: off topic")).to_be_visible()
    fourth = desk.locator(".item.curated").nth(3)
    fourth.get_by_text("Exclude", exact=True).click()
    fourth.get_by_label("Another reason to exclude row 4").fill("too long")
    fourth.get_by_label("Another reason to exclude row 4").press("Enter")
    expect(fourth.get_by_text("excluded: too long")).to_be_visible()

    desk.get_by_role("link", name="near-duplicates").click()
    expect(desk.locator(".columns.n3 .curated")).to_have_count(3)
    desk.locator(".columns .curated").nth(1).get_by_role("button", name="Exclude all but this").click()
    expect(desk.locator("h1")).to_have_text(
        "talks: 4 rows excluded (2 near-duplicate, 1 off topic, 1 too long), 1 edited, 1 tagged."
    )
    assert desk.evaluate("window.hacked") is None

    desk.reload()
    expect(desk.get_by_text("No rows are nearly alike.")).to_be_visible()
    desk.get_by_role("link", name="Make the new dataset").click()
    expect(desk.get_by_role("heading", name="Curate")).to_be_visible()
    desk.get_by_role("button", name="Start").click()
    desk.wait_for_url("**/runs?run=*")
    folder = made(place[1])
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert rows[:2] == [TRAIN[0] | {"tags": ["good"]}, talk("a question that stays typed", "a better answer")]
    assert rows[2:] == [*TRAIN[4:14], TRAIN[15]]
    assert json.loads((folder / "heldout.jsonl").read_text()) == talk("held out", "its answer")
    desk.goto(place[0] + "/library")
    expect(desk.get_by_text("4 rows excluded (2 near-duplicate, 1 off topic, 1 too long), 1 edited, 1 tagged")).to_be_visible()


def test_the_keyboard_alone_is_enough(desk: Page) -> None:
    desk.get_by_label("Add a tag to row 9").focus()
    desk.keyboard.type("by hand")
    desk.keyboard.press("Enter")
    row = desk.locator(".item.curated").nth(8)
    expect(row.get_by_role("button", name="Take away the tag by hand")).to_be_visible()
    desk.keyboard.press("Tab")
    expect(row.get_by_role("button", name="Edit row 9")).to_be_focused()
    desk.keyboard.press("Tab")
    desk.keyboard.press("Enter")
    desk.keyboard.press("Tab")
    expect(row.get_by_role("button", name="wrong")).to_be_focused()
    desk.keyboard.press("Enter")
    expect(row.get_by_text("excluded: wrong")).to_be_visible()
    back = row.get_by_role("button", name="Put row 9 back")
    back.focus()
    desk.keyboard.press("Enter")
    expect(row.get_by_text("excluded: wrong")).to_have_count(0)
    row.get_by_role("button", name="Take away the tag by hand").press("Enter")
    expect(row.locator(".tag")).to_have_count(0)


def test_hostile_rows_stay_text_and_fit_a_phone(browser: Browser, place: tuple[str, Home]) -> None:
    for theme in ("light", "dark"):
        context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=theme)  # type: ignore[arg-type]
        page = context.new_page()
        for state in ("", "&state=alike", "&words=hacked"):
            page.goto(f"{place[0]}/curate?dataset=1{state}")
            expect(page.locator("h1.sentence")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_role("button", name="Edit row 1", exact=True).click()
        expect(page.get_by_label("assistant")).to_have_value(f"answer 0 {HOSTILE}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate("window.hacked") is None
        assert page.locator(".dj img[src='x'], .dj script").count() == 0
        context.close()
