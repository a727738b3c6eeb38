"""What a person does on the pages, beyond opening them: filters, folds, live rows, going back and forth."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlmodel import Session

from storage import queries
from storage.curves import Recorder
from storage.database import open_database
from storage.files import Home
from tests.browser.conftest import dashboard
from tests.browser.seed import seed
from tests.browser.test_pages import opened

LIVE = 4  # the run that seed leaves running


@pytest.fixture(scope="module")
def going_on(tmp_path_factory: pytest.TempPathFactory):
    """A dashboard and its home, for tests that write rows while it is looked at."""
    home = Home(tmp_path_factory.mktemp("going-on"))
    seed(home)
    with dashboard(home.root, "--no-spare") as address:
        yield address, home


def record(home: Home, steps: range, **values: float) -> None:
    """Write metrics of the live run as its trainer would."""
    with Session(open_database(home)) as session:
        recorder = Recorder(session, LIVE)
        for step in steps:
            recorder.record(session, queries.utc_now(), step, values)
        session.commit()


def loss(page: Page) -> list[list[float]]:
    line = "document.querySelector('.dj-chart').data.find(t => t.name === 'Loss')"
    return [page.evaluate(f"[...{line}.{axis}]") for axis in "xy"]


def test_new_points_arrive_and_steps_that_go_back_replace_what_followed(page: Page, going_on) -> None:
    address, home = going_on
    opened(page, f"{address}/runs?run={LIVE}")
    page.wait_for_selector(".dj-chart .main-svg")
    assert loss(page)[0][-1] == 30
    record(home, range(31, 34), loss=0.25)
    page.wait_for_function("document.querySelector('.dj-chart').data.find(t => t.name === 'Loss').x.at(-1) === 33")
    record(home, range(32, 33), loss=0.75)
    page.wait_for_function("document.querySelector('.dj-chart').data.find(t => t.name === 'Loss').x.at(-1) === 32")
    steps, values = loss(page)
    assert steps[-2:] == [31, 32]
    assert values[-2:] == [0.25, 0.75]


def test_an_overlay_goes_on_while_its_runs_do(page: Page, going_on) -> None:
    address, home = going_on
    opened(page, f"{address}/runs?compare=3,{LIVE}")
    page.wait_for_selector(".dj-chart .main-svg")
    page.evaluate("Plotly.relayout(document.querySelector('.dj-chart'), {'xaxis.range': [10, 20]})")
    record(home, range(90, 92), tokens_per_second=1)  # not what is drawn here
    page.wait_for_timeout(2500)
    last = f"document.querySelector('.dj-chart').data.find(t => t.name === '{LIVE} Fine-tune').x.at(-1)"
    for step in (100, 101):  # one payload after the other
        record(home, range(step, step + 1), loss=0.5)
        page.wait_for_function(f"{last} === {step}")
    assert page.evaluate("document.querySelector('.dj-chart').layout.xaxis.range") == [10, 20]


def test_a_fold_stays_open_while_rows_arrive(page: Page, going_on) -> None:
    address, home = going_on
    opened(page, f"{address}/runs?run={LIVE}")
    page.get_by_text("Settings", exact=True).click()
    expect(page.get_by_text("training.learning_rate")).to_be_visible()
    with Session(open_database(home)) as session:
        queries.say(session, LIVE, "a line that came later", queries.utc_now())
        session.commit()
    expect(page.get_by_text("a line that came later")).to_be_visible()
    expect(page.get_by_text("training.learning_rate")).to_be_visible()


def test_folded_charts_are_drawn_as_wide_as_their_place(page: Page, filled: str) -> None:
    opened(page, filled + "/runs?run=3")
    page.get_by_role("button", name="Learning rate, speed, memory").click()
    page.wait_for_timeout(800)
    wide = page.evaluate("[...document.querySelectorAll('.dj-chart')].map(c => [c.clientWidth, c.querySelector('.main-svg')?.clientWidth])")
    assert len(wide) == 2
    assert all(drawn is not None and abs(place - drawn) <= 2 for place, drawn in wide), wide


def test_a_filter_is_in_the_address_so_that_it_can_be_passed_on(page: Page, filled: str) -> None:
    opened(page, filled + "/runs")
    page.get_by_role("link", name="failed 1").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    assert page.url.endswith("/runs?status=failed")


def test_something_else_leads_back_to_the_choice(page: Page, filled: str) -> None:
    opened(page, filled + "/new?stage=finetune")
    page.get_by_role("link", name="Something else").click()
    expect(page.get_by_role("heading", name="New run")).to_be_visible()
    page.locator(".card", has_text="Import model").click()
    expect(page.get_by_role("heading", name="Import model")).to_be_visible()


def test_report_shows_one_sort_of_answers(page: Page, filled: str) -> None:
    opened(page, filled + "/report?report=5")
    page.get_by_role("link", name="lost 13").click()
    expect(page.locator(".item")).to_have_count(10)
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("11 to 13 of 13")).to_be_visible()


def test_a_name_can_be_changed_and_a_taken_one_is_refused(page: Page, going_on) -> None:
    address, _ = going_on
    opened(page, address + "/library?artifact=2")
    page.get_by_label("Note", exact=True).fill("checked by hand")
    page.get_by_label("Note", exact=True).press("Enter")
    page.get_by_label("Name", exact=True).fill("Quickstart report")
    page.get_by_label("Name", exact=True).press("Enter")
    expect(page.locator(".problem")).to_contain_text("already an artifact named")
    opened(page, address + "/library?artifact=2")
    assert page.get_by_label("Note", exact=True).input_value() == "checked by hand"
    expect(page.get_by_role("heading", name="Short answers")).to_be_visible()


def test_the_command_is_copied(page: Page, filled: str) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened(page, filled + "/runs?run=3")
    page.get_by_text("Settings", exact=True).click()
    page.get_by_role("button", name="Copy as command").click()
    expect(page.locator("button.copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("dianjing run finetune - <<'END'")


def test_an_upload_is_kept_in_the_home_under_a_safe_name(page: Page, going_on, tmp_path: Path) -> None:
    address, home = going_on
    file = tmp_path / "my rows; (1).jsonl"
    file.write_text('{"prompt": "a?", "completion": "b"}\n')
    opened(page, address + "/new?stage=import_dataset")
    page.locator("input[type=file]").set_input_files(file)
    path = page.get_by_label("File or hub id")
    expect(path).to_have_value(str(home.uploads / "my-rows-1.jsonl"))
    assert Path(path.input_value()).read_text() == file.read_text()
