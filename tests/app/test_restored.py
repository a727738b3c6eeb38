"""Every page of a home whose artifacts were left out of its backup: it says so, and nothing breaks."""

import pytest
from sqlmodel import Session, select

from app.pages import Place, compare, compare_address, home, library, report, run_list, run_view
from engine.backup import back_up
from engine.restore import INTERRUPTED, LEFT_OUT, restore
from storage.database import open_database
from storage.files import Home
from storage.tables import Artifact, Run
from tests.app.test_wording import texts
from tests.browser.seed import seed


@pytest.fixture
def place(home: Home, tmp_path, monkeypatch) -> Place:
    seed(home)
    back_up(open_database(home), home, tmp_path / "b.tar", "none")
    restore(tmp_path / "b.tar", Home(tmp_path / "new"))
    return Place(open_database(Home(tmp_path / "new")), Home(tmp_path / "new"))


def test_every_page_still_opens(place: Place) -> None:
    with Session(place.database) as session:
        artifacts, runs = session.exec(select(Artifact)).all(), session.exec(select(Run)).all()
        for run in runs:
            assert texts(run_view.head(session, run))
            assert texts(run_view.body(session, place.home, run))
            run_view.panel(session, run, {})
        assert texts(run_list.tree(session, {"filter": {"status": "", "words": ""}}))
    gone = 0
    for artifact in artifacts:
        told = texts(library.tree(place, {"artifact": artifact.id, "kind": "", "words": "", "start": 0}))
        gone += LEFT_OUT in told
        if artifact.kind == "report":
            assert texts(report.parts(place, artifact.id, "all", 0)[0])
        asked = compare_address.read({"answers": str(artifact.id)})
        assert texts(compare.tree(place, asked | {"draft": "", "read": "", "picked": []}))
    assert gone == sum(artifact.ready_at is not None for artifact in artifacts)
    assert texts(library.tree(place, {"artifact": None, "kind": "", "words": "", "start": 0}))
    assert texts(home.tree(place))


def test_the_run_that_was_going_on_says_what_happened_and_can_be_resumed(place: Place) -> None:
    with Session(place.database) as session:
        run = next(run for run in session.exec(select(Run)) if run.error == INTERRUPTED)
        told = texts(run_view.head(session, run))
    assert INTERRUPTED in told
    assert "Resume" in told
