"""The whole circle on a tiny model: it waits for people twice, learns in between, and ends with a report."""

import json

import pytest
from pydantic import ValidationError
from sqlmodel import Session

from engine import labelling
from engine.recipes.learn_from_rankings import BEST_OF, LearnFromRankings
from engine.stages.data.collect_preferences import CollectPreferences
from engine.stages.generate.best_of import BestOf
from engine.stages.generate.generate import Generate
from engine.stages.generate.rank_answers import RankAnswers
from engine.stages.measure.judge import Judge
from engine.stages.measure.preference_report import PreferenceReport
from storage import queries
from storage.tables import FINAL, Artifact
from tests.engine.test_recipes_forgetting import imported, queued, written
from tests.labelling import press
from tests.tiny_model import rows, tiny_model


def of(stages, kind):
    return [stage for stage in stages if isinstance(stage, kind)]


def test_old_and_new_answers_meet_blind_on_prompts_nobody_ranked():
    stages = queued(LearnFromRankings(model=1, prompts=2, unseen=3))
    ranked, compared = of(stages, RankAnswers)
    asked, before, after = of(stages, Generate)
    assert (asked.prompts, before.prompts, after.prompts) == (2, 3, 3)
    assert before.sampling == after.sampling
    assert (before.sampling.temperature, asked.samples) == (0, 5)
    assert (ranked.answers, compared.answers, len(compared.responses)) == (4, 2, 2)
    assert isinstance(stages[-1], PreferenceReport)
    assert stages[-1].receipt


def test_a_reward_model_chooses_and_is_compared_with_one_answer_drawn_alike():
    stages = queued(LearnFromRankings(model=1, prompts=2, unseen=3, learn="reward_model"))
    _, before, several = of(stages, Generate)
    assert (before.samples, several.samples) == (1, BEST_OF)
    assert before.sampling.temperature == several.sampling.temperature > 0
    assert before.sampling.seed != several.sampling.seed
    assert of(stages, BestOf)
    assert stages[-1].receipt is None, "no model was changed"


def test_a_judge_is_checked_against_the_rankings_that_were_learned_from():
    stages = queued(LearnFromRankings(model=1, prompts=2, unseen=3, rankings=9, judge=8))
    (compared,) = of(stages, RankAnswers)
    (judge,) = of(stages, Judge)
    assert compared.raters == 0
    assert (judge.model, judge.validate_on) == (8, 9)
    assert of(stages, CollectPreferences)[0].rankings == 9


def test_answers_that_would_all_be_the_same_are_refused():
    with pytest.raises(ValidationError, match="temperature"):
        LearnFromRankings(sampling={"temperature": 0.0, "top_p": 1.0})


def shorter_first(machine, project):
    """Somebody who likes short answers ranks all there is."""
    shown = labelling.next_item(machine.database, project, "ann", queries.utc_now())
    while shown["state"] == "item":
        sizes = sorted({len(text) for text in shown["answers"]})
        tiers = [[n for n, text in enumerate(shown["answers"]) if len(text) == size] for size in sizes]
        shown = labelling.submit(machine.database, project, "ann", press(shown, tiers), queries.utc_now())
    assert shown["state"] == "closed"


def waiting(machine, runs):
    """The projects that people must rank before these runs can go on; empty while anything else goes on."""
    with Session(machine.database) as session:
        open_ = [run for run in runs if machine.row(run).status not in FINAL]
        awaited = [queries.people_awaited(session, run) for run in open_]
    return {project for projects in awaited for project in projects} if all(awaited) else set()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("learn", ["dpo", "reward_model"])
def test_the_circle_closes(machine, tmp_path, monkeypatch, learn):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    model = machine.submit("import_model", source="path", path=str(tiny_model()), save_as="tiny")
    machine.finish(*model.runs, seconds=280)
    prompts = [{"prompt": row["prompt"]} for row in rows("facts", 40)]
    asked = imported(machine, written(tmp_path / "asked.jsonl", prompts[:20]), "asked", 0)
    unseen = imported(machine, written(tmp_path / "unseen.jsonl", prompts[20:]), "unseen", 0)
    sampling = {"temperature": 1.5, "top_p": 1.0, "max_new_tokens": 16}
    queued = machine.submit(
        "learn_from_rankings", model=model.outputs["model"], prompts=asked, unseen=unseen, size="tiny", learn=learn, sampling=sampling,
        suite={"probes": ["arithmetic"]},
    )  # fmt: skip
    for _ in range(2):
        machine.dispatch(lambda: waiting(machine, queued.runs), 280)
        (project,) = waiting(machine, queued.runs)
        assert machine.artifact(project).ready_at is None
        shorter_first(machine, project)
        assert machine.artifact(project).ready_at
    assert set(machine.finish(*queued.runs, seconds=280)) == {"succeeded"}
    row = machine.artifact(queued.outputs["report"])
    told = json.loads((machine.home.root / row.folder / "report.json").read_text())
    assert told["sentence"].startswith(("One person preferred", "Not enough labels"))
    assert len(told["answers"]) >= 10
    assert bool(told["verdicts"]) == (learn == "dpo")
    if learn == "reward_model":
        chosen = next(one for one in told["models"] if "best of" in one["name"])
        assert chosen["name"] == f"tiny, best of {BEST_OF}"
        with Session(machine.database) as session:
            assert session.get_one(Artifact, chosen["id"]).kind == "responses"
