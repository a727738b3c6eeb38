"""How much scores move by themselves: every pass is another way to ask the same, and what does not move is said not to."""

import pytest

from engine.settings import SuiteSettings
from engine.stages.measure.noise import WORDINGS, Noise
from tests.engine.teaching import Class


@pytest.fixture
def school(database, home, add_artifact, tmp_path):
    return Class(database, home, add_artifact, tmp_path / "school")


def test_the_spread_is_that_of_the_five_passes(school):
    stage = Noise(model=school.model, suite=SuiteSettings(size="watch", probes=["arithmetic"]))
    work = school.start(stage)
    assert school.finish(work, stage)
    told = work._made["scores"]["noise"]["arithmetic"]
    assert set(told["values"]) == {"as it is", "other batches", "another draw", *WORDINGS}
    assert told["values"]["as it is"] == told["values"]["other batches"], "in float32 batches change nothing"
    assert told["spread"] == max(told["values"].values()) - min(told["values"].values())
    assert 0 <= told["low"] <= told["high"] <= 1


def test_wordings_change_the_question_and_nothing_else(school):
    variants = Noise(model=school.model, suite=SuiteSettings(size="watch", probes=["arithmetic"]))._variants()
    plain, worded = variants["as it is"][0].items, variants["worded with a label"][0].items
    assert [item.key for item in plain] == [item.key for item in worded]
    assert worded[0].prompt[-1]["content"] == "Question: " + plain[0].prompt[-1]["content"]
    assert [item.choices for item in plain] == [item.choices for item in worded]
    assert {item.key for item in variants["another draw"][0].items} != {item.key for item in plain}


def test_another_draw_of_all_there_is_is_no_other_draw():
    variants = Noise(model=1, suite=SuiteSettings(size="full", probes=["arithmetic", "maths"]))._variants()
    assert [part.probe.name for part in variants["as it is"]] == ["arithmetic", "maths"]
    assert [part.probe.name for part in variants["another draw"]] == ["arithmetic"], "maths has fewer than 200 items"
