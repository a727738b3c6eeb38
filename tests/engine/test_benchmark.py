"""The benchmark stage with the real harness: local tasks on a tiny model, refusals, going on, and what the form checks first."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlmodel import Session, select

from engine import hub
from engine.errors import UserError
from engine.stages.measure import benchmark as stage_module
from engine.stages.measure._harness_files import read_results
from engine.stages.measure.benchmark import Benchmark
from storage.tables import Artifact, Run, Score
from tests.engine.teaching import Class
from tests.tiny_model import untrained_model

DATA = Path(__file__).parents[1] / "data"
TASKS = {"tasks": ["tiny_pets", "tiny_colours"], "folder": str(DATA / "tasks")}
needs_harness = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    """The hub does not answer, and says so at once."""

    def refuse():
        raise UserError("no hub")

    monkeypatch.setattr(hub, "require_hub", refuse)


@pytest.fixture
def model(add_artifact, tmp_path):
    return add_artifact("model", "tiny", untrained_model(tmp_path / "tiny"), format="full", parameters=10**5)


@pytest.fixture
def measured(run_stage, database, home):
    """What a run stores: the artifact, its folder, its scores."""

    def run(stage):
        made = run_stage(stage)["scores"]
        with Session(database) as session:
            row = session.get_one(Artifact, made)
            scores = session.exec(select(Score).where(Score.run == row.made_by).order_by(Score.id)).all()
            session.expunge_all()
            return row, home.root / row.folder, scores

    return run


def status(database, run=1):
    with Session(database) as session:
        row = session.get_one(Run, run)
        return row.status, row.error or ""


@needs_harness
def test_local_tasks_are_measured_item_by_item_as_the_harness_itself_does(measured, model):
    row, folder, scores = measured(Benchmark(models=[model], **TASKS))
    own = read_results(str(DATA / "lm_eval"))
    for task in own.tasks:
        found = [one for one in scores if one.probe == task.name]
        assert [(one.item_key, one.value) for one in found] == [(item.key, item.value) for item in task.items]
        assert {one.suite_hash for one in found} == {task.suite_hash}, "scores imported from the harness and measured here meet"
        assert row.summary["measured"][str(model)][task.name]["n"] == len(task.items)
    assert {one.artifact for one in scores} == {model}
    written = folder / f"model-{model}"
    assert sorted(path.name.split("_2")[0] for path in written.iterdir()) == ["results", "samples_tiny_colours", "samples_tiny_pets"]
    text = "".join(path.read_text() for path in written.iterdir())
    assert "pretty_env_info" not in text
    assert str(DATA) not in text
    assert json.loads(next(written.glob("results*")).read_text())["model_name"] == "tiny"


@needs_harness
def test_settings_reach_the_harness_and_part_the_scores(measured, model):
    hashes = set()
    for settings in ({}, {"limit": 4}, {"few_shot": 2}, {"apply_chat_template": True}, {"metric": "acc_norm"}):
        row, folder, scores = measured(Benchmark(models=[model], tasks=["tiny_pets"], folder=TASKS["folder"], **settings))
        hashes |= {one.suite_hash for one in scores}
        assert len(scores) == settings.get("limit", 8)
        told = row.summary["settings"]
        assert told["limit"] == settings.get("limit")
        assert told["few_shot"] == {"tiny_pets": settings.get("few_shot", 0)}
        assert told["apply_chat_template"] == settings.get("apply_chat_template", False)
        first = json.loads(next(folder.glob("*/samples*")).read_text().splitlines()[0])["arguments"]["gen_args_0"]["arg_0"]
        assert first.count("what is the pet of") == 1 + settings.get("few_shot", 0)
        assert ("<|im_start|>user" in first) == settings.get("apply_chat_template", False)
    assert len(hashes) == 5


@needs_harness
def test_an_answer_is_as_long_as_the_task_asks_for(measured, model):
    _, folder, _ = measured(Benchmark(models=[model], **TASKS))
    said = [json.loads(line)["resps"][0][0] for line in next(folder.glob("*/samples_tiny_colours*")).read_text().splitlines()]
    assert all(len(one.split()) <= 8 for one in said), "the model's own generation settings allow 128"


@needs_harness
def test_an_adapter_is_measured_whole(database, home, add_artifact, tmp_path, run_stage, measured):
    school = Class(database, home, add_artifact, tmp_path)
    taught = run_stage(school.lesson(training={"steps": 6}, lora={"rank": 4}))["model"]
    with Session(database) as session:
        assert session.get_one(Artifact, taught).summary["format"] == "adapter"
    row, folder, scores = measured(Benchmark(models=[school.model, taught], tasks=["tiny_pets"], folder=TASKS["folder"]))
    assert {one.artifact for one in scores} == {school.model, taught}
    assert {one.step for one in scores if one.artifact == taught} == {6}
    assert len({one.suite_hash for one in scores}) == 1
    likely = [next(folder.glob(f"model-{id}/samples*")).read_text() for id in (school.model, taught)]
    assert json.loads(likely[0].splitlines()[0])["resps"] != json.loads(likely[1].splitlines()[0])["resps"]
    assert row.summary["models"] == [school.model, taught]


@needs_harness
def test_a_stopped_run_keeps_the_models_it_measured(database, home, add_artifact, tmp_path, monkeypatch):
    school = Class(database, home, add_artifact, tmp_path)
    other = add_artifact("model", "other", school.folder / "tiny", format="full")
    stage = Benchmark(models=[school.model, other], tasks=["tiny_pets"], folder=TASKS["folder"], batch_size=1)
    asked = []
    measure = Benchmark._measure
    monkeypatch.setattr(Benchmark, "_measure", lambda self, work, model, *rest: (asked.append(model.id), measure(self, work, model, *rest)))

    work = school.start(stage)
    tell = work.progress

    def stop_in_the_second(step, of):
        work.stopping = work.stopping or step > of / 2
        tell(step, of)

    monkeypatch.setattr(work, "progress", stop_in_the_second)
    assert not school.finish(work, stage)
    with Session(database) as session:
        assert {one.artifact for one in session.exec(select(Score))} == {school.model}
    assert school.finish(school.start(stage, run=work.run), stage)
    assert asked == [school.model, other, other]
    with Session(database) as session:
        assert len(session.exec(select(Score)).all()) == 16


@needs_harness
def test_a_task_that_needs_the_hub_ends_the_run_at_once(database, home, model, monkeypatch):
    from engine import submit, worker

    monkeypatch.setattr(Benchmark, "_measure", lambda *_: pytest.fail("a model was asked before all tasks were loaded"))
    stage = Benchmark(models=[model], tasks=["tiny_pets", "tiny_from_the_hub"], folder=TASKS["folder"])
    worker.work(database, home, submit.submit(database, home, stage).runs[0])
    state, error = status(database)
    assert state == "failed"
    assert "tiny_from_the_hub needs data from the hub, which does not answer" in error
    assert "bring the data here" in error


@needs_harness
@pytest.mark.parametrize("text, says", [
    ("dataset_path: json\ndataset_kwargs: {data_files: {test: nowhere.jsonl}}\ntest_split: test\n", "cannot be loaded .*nowhere.jsonl"),
    ("dataset_path: json\ndataset_kwargs: {data_files: {test: pets.jsonl}}\ntest_split: other\n", "cannot be loaded .*other"),
    ("dataset_path: json\ndataset_kwargs: {data_files: {test: pets.jsonl}}\ntest_split: test\nunsafe_code: true\n", "runs code"),
])  # fmt: skip
def test_a_task_that_cannot_work_is_refused_in_words(tmp_path, text, says):
    folder = shutil.copytree(DATA / "tasks", tmp_path / "tasks")
    (folder / "odd.yaml").write_text(f"task: odd\noutput_type: generate_until\ndoc_to_text: '{{{{name}}}}'\ndoc_to_target: 'x'\n{text}")
    stage = Benchmark(models=[1], tasks=["odd"], folder=str(folder))
    with stage_module._hub(), stage_module.chdir(folder), pytest.raises(UserError, match=says) as refused:
        stage._manager()
    assert refused.value.field == "tasks"


@needs_harness
def test_an_unknown_task_is_answered_with_the_nearest():
    with stage_module._hub(), pytest.raises(UserError, match="there is no task named 'tiny_pet'; did you mean tiny_pets"):
        Benchmark(models=[1], tasks=["tiny_pet"], folder=TASKS["folder"])._manager()


@needs_harness
def test_where_the_hub_answers_it_stays_on(monkeypatch):
    from datasets import config

    before = config.HF_HUB_OFFLINE
    with stage_module._hub():
        assert config.HF_HUB_OFFLINE
    monkeypatch.setattr(hub, "require_hub", lambda: None)
    with stage_module._hub():
        assert before == config.HF_HUB_OFFLINE
    assert before == config.HF_HUB_OFFLINE


def test_without_the_harness_the_form_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed: run pip install 'dianjing\[benchmark\]'"):
        Benchmark(models=[1], **TASKS).check({})


@pytest.mark.parametrize("settings, field, says", [
    ({"tasks": []}, "tasks", "there is no task yet"),
    ({"tasks": ["a", "b", "a"]}, "tasks", "a stands here twice"),
    ({"models": [1, 1]}, "models", "1 stands here twice"),
    ({"folder": "/nowhere/at/all"}, "folder", "there is no task in /nowhere/at/all"),
])  # fmt: skip
def test_what_cannot_work_is_refused_before_it_is_queued(monkeypatch, settings, field, says):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UserError, match=says) as refused:
        Benchmark.model_validate({"models": [1], **TASKS, **settings}).check({})
    assert refused.value.field == field


def test_settings_have_limits():
    for wrong in ({"limit": 0}, {"few_shot": -1}, {"batch_size": 0}, {"models": []}):
        with pytest.raises(ValidationError):
            Benchmark.model_validate({"models": [1], **TASKS, **wrong})
    assert Benchmark(models=[1], **TASKS, limit=3).estimate({}, None).warnings == ("With a limit the scores are for testing only.",)
    assert Benchmark(models=[1], **TASKS).estimate({}, None) is None
