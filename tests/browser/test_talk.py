"""A live conversation as a person holds it: two models answer word by word while a third is trained."""

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, expect
from sqlmodel import Session, col, select

from engine import submit
from engine.settings import RetentionSettings, TrainingSettings
from engine.stages.data.import_dataset import ImportDataset
from engine.stages.data.import_model import ImportModel
from engine.stages.train.finetune import Finetune
from engine.worker import work
from storage.database import open_database
from storage.files import Home
from storage.tables import Metric, Response, Run
from tests.browser.conftest import dashboard
from tests.browser.seed import HOSTILE
from tests.browser.test_quickstart import written
from tests.tiny_model import rows, tiny_model

MINUTE = 60_000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two models of the same weights, under two names, and conversations to train a third on."""
    folder = tmp_path_factory.mktemp("talk")
    place = Home(folder / "home")
    database = open_database(place)
    talk = written(folder / "talk.jsonl", rows("short_answers", 64))
    for form in (
        ImportModel(source="path", path=str(tiny_model()), save_as="one"),
        ImportModel(source="path", path=str(tiny_model()), save_as="two"),
        ImportDataset(source=str(talk), save_as="talk", heldout=0),
    ):
        work(database, place, submit.submit(database, place, form).runs[0])
    return place


@pytest.fixture(scope="module")
def address(home: Home) -> Iterator[str]:
    with dashboard(home.root, "--no-spare") as found:
        yield found


def ask(page: Page, text: str) -> None:
    page.get_by_label("Your turn").fill(text)
    page.get_by_label("Your turn").press("Enter")


def answered(page: Page, turn: int) -> None:
    item = page.locator(".item").nth(turn)
    expect(item.locator(".columns .side small", has_text="tokens")).to_have_count(2, timeout=MINUTE)


@pytest.mark.timeout(300)
def test_two_models_stream_while_a_third_trains(address: str, home: Home, page: Page) -> None:
    database = open_database(home)
    training = TrainingSettings(steps=2000, batch_size=2, checkpoints=1, precision="float32", compile="off")
    run = submit.submit(database, home, Finetune(model=1, data=3, training=training, retention=RetentionSettings(suite="off"))).runs[0]
    steps = _until_training(home, run)

    page.goto(address + "/compare")
    page.locator("label", has_text="one").get_by_role("checkbox").check()
    page.locator("label", has_text="two").get_by_role("checkbox").check()
    page.get_by_role("link", name="Start a conversation").click()
    ask(page, "tell me about mira")
    growing = page.locator(".item").first.locator(".columns pre")
    expect(growing).to_have_count(2, timeout=MINUTE)
    seen = set()
    for _ in range(900):
        seen.add(tuple(growing.all_inner_texts()))
        if not page.locator(".item .running").count() and len(seen) > 3:
            break
        page.wait_for_timeout(100)
    answered(page, 0)
    assert len([one for one in seen if all(one)]) >= 2, "both grow on the screen, not at the end"
    expect(page).to_have_url(f"{address}/compare?talk={_conversation(home)}")
    assert _last_step(home, run) > steps, "the training went on meanwhile"
    submit_stop(home, run)


def test_three_turns_edit_and_reload(address: str, page: Page) -> None:
    page.goto(address + "/compare?live=1,2")
    limit(page, 30)
    for turn, text in enumerate(("what is the city of mira ?", "and of tomas ?", HOSTILE)):
        ask(page, text)
        answered(page, turn)
    assert page.evaluate("window.hacked") is None
    expect(page.locator(".item")).to_have_count(3)
    page.locator(".item").nth(1).get_by_role("button", name="Edit and ask again").click()
    expect(page.get_by_label("Your turn")).to_have_value("and of tomas ?")
    ask(page, "what is the pet of mira ?")
    expect(page.locator(".item")).to_have_count(2)
    answered(page, 1)
    page.reload()
    expect(page.locator(".item .prompt")).to_have_text(["what is the city of mira ?", "what is the pet of mira ?"])
    page.goto(address + "/compare")
    expect(page.locator("li", has_text="one · two").first).to_be_visible()


def test_a_second_enter_is_no_second_question(address: str, home: Home, page: Page) -> None:
    before = _conversations(home)
    page.goto(address + "/compare?live=1,2")
    limit(page, 30)
    page.get_by_label("Your turn").fill("tell me about mira")
    for _ in range(3):
        page.get_by_label("Your turn").press("Enter")
    answered(page, 0)
    page.wait_for_timeout(500)
    expect(page.locator(".item")).to_have_count(1)
    assert len(_conversations(home)) == len(before) + 1
    ask(page, "tell me about mira")
    expect(page.locator(".item")).to_have_count(2)  # the same question asked later is one


def test_a_second_enter_that_arrives_after_the_answer_is_no_question_either(address: str, page: Page) -> None:
    page.goto(address + "/compare?live=1,2")
    limit(page, 30)
    pressed = []

    def late(route: Route) -> None:
        pressed.append(route)
        if len(pressed) != 2:
            route.continue_()

    page.get_by_label("Your turn").fill("tell me about mira")
    page.route("**/queue/join*", late)
    for _ in range(2):
        page.get_by_label("Your turn").press("Enter")
    answered(page, 0)
    pressed[1].continue_()
    page.wait_for_timeout(1500)
    expect(page.locator(".item")).to_have_count(1)


def test_stop_keeps_what_was_said(address: str, home: Home, page: Page) -> None:
    page.goto(address + "/compare?live=1,2")
    limit(page, 400)
    fill(page, "Temperature", "2")
    ask(page, "tell me a long story about mira")
    expect(page.locator(".item .columns pre").first).not_to_be_empty(timeout=MINUTE)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".item .running")).to_have_count(0, timeout=10_000)
    expect(page.locator(".item").first).to_contain_text("stopped")
    with Session(open_database(home)) as session:
        rows_ = session.exec(select(Response).where(Response.run == _conversation(home))).all()
    assert rows_
    assert all(row.answer for row in rows_)


def test_settings_that_do_not_go_together_are_told_and_the_question_stays(address: str, page: Page) -> None:
    page.goto(address + "/compare?live=1,2")
    page.get_by_text("Sampling").click()
    fill(page, "Top p", "0.5")
    ask(page, "kept")
    expect(page.locator(".problem")).to_contain_text("top_k reach nothing")
    expect(page.get_by_label("Your turn")).to_have_value("kept")


def test_a_question_too_long_for_the_context_is_named_with_counts(address: str, page: Page) -> None:
    page.goto(address + "/compare?live=1,2")
    ask(page, "mira " * 600)
    expect(page.locator(".item .problem")).to_have_count(2, timeout=MINUTE)
    expect(page.locator(".item .problem").first).to_contain_text("512")
    ask(page, "what is the city of mira ?")
    answered(page, 0)


def limit(page: Page, tokens: int) -> None:
    page.get_by_text("Sampling").click()
    fill(page, "Max new tokens", str(tokens))


def fill(page: Page, label: str, value: str) -> None:
    """Fill a field of a fold that has just opened: Gradio draws it once more a moment later, with its old value."""
    field = page.get_by_label(label).first
    for _ in range(20):
        field.fill(value)
        page.wait_for_timeout(200)
        if field.input_value() == value:
            return
    expect(field).to_have_value(value)


def submit_stop(home: Home, run: int) -> None:
    from engine import dispatcher

    dispatcher.stop(open_database(home), run)


def _until_training(home: Home, run: int) -> int:
    for _ in range(600):
        if step := _last_step(home, run):
            return step
        time.sleep(0.1)
    raise AssertionError((home.run_folder(run) / "log.txt").read_text())


def _last_step(home: Home, run: int) -> int:
    with Session(open_database(home)) as session:
        return session.exec(select(Metric.step).where(Metric.run == run).order_by(col(Metric.id).desc()).limit(1)).first() or 0


def _conversation(home: Home) -> int:
    return max(_conversations(home))


def _conversations(home: Home) -> list[int]:
    with Session(open_database(home)) as session:
        return list(session.exec(select(Run.id).where(Run.stage == "conversation")))
