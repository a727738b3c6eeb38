"""What pages list: everything can be found, and what is left out is counted."""

import pytest
from sqlmodel import Session

from app.pages import Place, as_id, library, report, run_list
from storage import listings, queries
from storage.tables import Artifact, Response, Run
from tests.app.test_wording import texts


@pytest.fixture
def runs(database):
    """205 fine-tunings, the first of them tagged and with a named result, and one import that failed."""
    with Session(database) as session:
        now = queries.utc_now()
        session.add_all([Run(stage="finetune", status="succeeded", tags="" if n else "50%_off", queued_at=now) for n in range(205)])
        session.add(Run(stage="import_dataset", status="failed", queued_at=now))
        session.flush()
        session.add(Artifact(kind="model", name="House style", folder="x", made_by=1, field="model", created_at=now))
        session.commit()
        yield session


@pytest.mark.parametrize(
    "words, found",
    [
        ("50%_off", [1]),
        ("house STYLE", [1]),
        ("77", [77]),
        ("import", [206]),
        ("fine-tune 7", [7]),
        ("0%_o", [1]),
        ("50%off", []),
        ("%", [1]),
    ],
)
def test_a_run_is_found_by_number_stage_tag_and_result_however_old(runs, words: str, found: list[int]) -> None:
    rows, total = listings.find_runs(runs, words=words)
    assert ([run.id for run in rows], total) == (found, len(found))


def test_states_and_words_narrow_together(runs) -> None:
    assert listings.find_runs(runs, "failed")[1] == 1
    assert listings.find_runs(runs, "failed", "finetune")[1] == 0


def test_the_list_says_how_many_it_leaves_out(runs) -> None:
    told = texts(run_list.tree(runs, {"filter": {"status": "", "words": ""}}))
    assert "The newest 200 of 206 are shown; search for the others." in told
    told = texts(run_list.tree(runs, {"filter": {"status": "failed", "words": ""}}))
    assert not any("are shown" in text for text in told)


def test_the_library_says_how_many_it_leaves_out(database, home) -> None:
    with Session(database) as session:
        now = queries.utc_now()
        session.add_all([Artifact(kind="report", name=str(n), folder="x", created_at=now, ready_at=now) for n in range(201)])
        session.commit()
    told = texts(library.tree(Place(database, home), {"artifact": None, "kind": "", "words": "", "start": 0}))
    assert "The newest 200 of 201 are shown; search for the others." in told


def test_a_report_in_the_making_links_to_its_run(runs, database, home) -> None:
    runs.add(Artifact(kind="report", name="Soon", folder="", made_by=3, field="report", created_at=queries.utc_now()))
    runs.commit()
    assert "Soon is not ready yet." in texts(report.parts(Place(database, home), 2, "all", 0)[0])


def test_a_panel_of_64_prompts_is_shown_whole(runs) -> None:
    runs.add(Artifact(kind="model", name="m", folder="x", created_at=queries.utc_now()))
    runs.flush()
    for n in range(64):
        runs.add(
            Response(run=1, at=queries.utc_now(), artifact=1, prompt_key=str(n), prompt=[], answer="", token_ids=[], finish_reason="stop")
        )
    runs.commit()
    assert len(listings.answers_at(runs, 1, 0)) == 64
    assert len(listings.answers_at(runs, 1, 0, 60, 8)) == 4


@pytest.mark.parametrize("text, id", [("12", 12), ("", 0), ("x", 0), ("-1", 0), ("²", 0), ("9" * 18, int("9" * 18)), ("9" * 30, 0)])
def test_only_what_a_row_can_have_is_an_id(text: str, id: int) -> None:
    assert as_id(text) == id
