"""The Forgetting page for somebody who has nothing yet, who mistypes, and who looks at a loss."""

import json

import pytest
from sqlmodel import Session

from app.pages import Place, forgetting
from storage.tables import Artifact
from tests.app.test_listings import texts as pieces
from tests.engine.test_forgetting import Lab

HOSTILE = '<img src=x onerror="alert(1)"> ${1+1}'


def texts(nodes):
    return " ".join(pieces(nodes))


@pytest.fixture
def page(database, home):
    with Session(database) as session:
        lab = Lab(session)
        for place, step, right in ((0, 0, 98), (1, 10, 3)):
            lab.measure(place, step, "capitals", right)
        for step in (0, 5, 10):
            lab.measure(1, step, "capitals", 30 - 2 * step, n=32, hash="watch")
        session.get_one(Artifact, lab.models[1]).name = HOSTILE
        session.commit()
        models = lab.models
    return Place(database, home), models


def test_without_scores_it_says_what_to_do(database, home):
    head, drawn, body = forgetting.parts(Place(database, home), {})
    assert "Start an audit" in texts(head)
    assert drawn is None
    assert body == []


def test_the_newest_measured_model_is_shown_and_its_loss_said_first(page):
    place, _ = page
    head, drawn, body = forgetting.parts(place, {})
    assert "Forgot Capitals (98% → 3%, n = 100)." in texts(head)
    assert HOSTILE in texts(head), "as a text, which the browser does not read as a page"
    (points,) = drawn["points"].values()
    assert [point[0] for point in points] == [0, 5, 10]
    assert all(low <= rate <= high for _, rate, low, high in points)
    assert set(drawn["floors"].values()) == {0.25}
    assert "lost 95" in texts(body)
    assert json.dumps([head, drawn, body])


def test_addresses_that_name_nothing_say_so(page):
    place, models = page
    head, _, _ = forgetting.parts(place, {"model": "999"})
    assert "is not here" in texts(head)
    head, _, _ = forgetting.parts(place, {"model": "x", "base": "9"})
    assert "is not here" in texts(head)
    _, _, body = forgetting.parts(place, {"model": str(models[1]), "probe": "nothing", "show": "nothing", "start": "-1"})
    assert "lost 95" in texts(body)


def test_several_runs_are_compared_at_an_equal_score_only_where_a_task_says_it(page):
    place, models = page
    _, _, body = forgetting.parts(place, {"model": str(models[1]), "with": str(models[0])})
    assert "Learned against kept" not in texts([node for node in body if isinstance(node, dict) and node["t"] == "h2"])
