"""A project whose people are not done: who waits for it, what the command says, and what a backup and a deletion make of it."""

import json
from typing import Any

import pytest
from sqlmodel import Session

from engine import labelling, library, submit
from engine.__main__ import main
from engine.backup import back_up
from engine.errors import UserError
from engine.following import people_wanted
from engine.restore import restore
from engine.stages.data.collect_preferences import CollectPreferences
from engine.stages.generate.rank_answers import RankAnswers
from storage import queries
from storage.database import open_database, transaction
from storage.files import Home
from storage.tables import Artifact, Consumed, Run

NOW = queries.utc_now()


@pytest.fixture
def answers(add_artifact, home):
    id = add_artifact("responses", "answers")
    rows = [
        {"prompt_key": f"k{n}", "prompt": [{"role": "user", "content": f"question {n}"}], "artifact": 1, "source": model, "model": model,
         "answer": f"w{model} says {n}", "sample": 0, "extra": {}}
        for model in ("a", "b") for n in range(3)
    ]  # fmt: skip
    (home.artifact_folder(id) / "responses.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return id


@pytest.fixture
def project(run_stage, answers):
    return run_stage(RankAnswers(responses=[answers], care={"everyone": 0, "repeats": 0}))["rankings"]


def collect(database, home, project):
    return submit.submit(database, home, CollectPreferences(rankings=project)).runs[0]


def rank_all(database, project):
    shown = labelling.next_item(database, project, "ann", NOW)
    while shown["state"] == "item":
        ranked = {name: [[0], [1]] for name in shown["criteria"]}
        said = {"client_event_id": f"e{shown['item']}", "item": shown["item"], "guideline": 1, "tiers": ranked, "seen": [0, 1]}
        shown = labelling.submit(database, project, "ann", said, NOW)
    assert shown["state"] == "closed"


def test_a_run_waits_for_people_itself_and_through_the_run_before_it(database, home, project):
    run = collect(database, home, project)
    with transaction(database) as session:
        made = next(iter(queries.outputs_of(session, run).values()))
        after = Run(stage="finetune", queued_at=NOW)
        session.add(after)
        session.flush()
        session.add(Consumed(run=after.id or 0, artifact=made.id or 0, field="data"))
        later = after.id or 0
    with Session(database) as session:
        assert queries.people_awaited(session, run) == queries.people_awaited(session, later) == [project]
        assert people_wanted(session, [later], []) == {project: f"http://127.0.0.1:7860/label/?project={project}"}
    rank_all(database, project)
    with Session(database) as session:
        assert queries.people_awaited(session, run) == queries.people_awaited(session, later) == [], "they can go on"
        assert [one.id for one in queries.ready_to_start(session)] == [run]


def test_whatever_waits_for_something_else_too_is_not_left_to_people(database, home, project):
    run = collect(database, home, project)
    with transaction(database) as session:
        unmade = Artifact(kind="dataset", name="x", folder="", created_at=NOW, made_by=None)
        session.add(unmade)
        session.flush()
        session.add(Consumed(run=run, artifact=unmade.id or 0, field="other"))
    with Session(database) as session:
        assert queries.people_awaited(session, run) == []


def told(monkeypatch: Any, capsys: Any, *words: object) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["dianjing", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0), capsys.readouterr().out


def test_the_command_ends_where_people_begin(database, home, project, tmp_path, monkeypatch, capsys):
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"rankings": project}))
    status, out = told(monkeypatch, capsys, "run", "collect_preferences", settings, "--home", home.root, "--json")
    said = json.loads(out.splitlines()[-1])
    assert (status, said["status"]) == (0, "queued")
    assert said["waits_for_people"] == [{"project": project, "address": f"http://127.0.0.1:7860/label/?project={project}"}]
    status, out = told(monkeypatch, capsys, "run", "collect_preferences", settings, "--home", home.root)
    assert (status, f"http://127.0.0.1:7860/label/?project={project}" in out) == (0, True)


def test_deleting_a_project_that_runs_wait_for_names_them(database, home, project):
    run = collect(database, home, project)
    with pytest.raises(UserError) as refused:
        library.delete(database, home, project)
    assert f"run {run} (collect_preferences, queued)" in str(refused.value)
    with Session(database) as session:
        assert session.get_one(Artifact, project).deleted_at is None
    shown = labelling.next_item(database, project, "ann", NOW)
    assert shown["state"] == "item"


@pytest.mark.parametrize("artifacts", ["all", "none"])
def test_a_backup_keeps_an_open_project_usable(database, home, project, tmp_path, monkeypatch, artifacts):
    run = collect(database, home, project)
    manifest = back_up(database, home, tmp_path / "backup.tar", artifacts)
    assert project in manifest.artifacts
    there = Home(tmp_path / "there")
    there.root.mkdir()
    restore(tmp_path / "backup.tar", there)
    database = open_database(there)
    assert (there.artifact_folder(project) / "project.json").exists()
    with Session(database) as session:
        assert session.get_one(Run, run).status == "queued"
    rank_all(database, project)
    with Session(database) as session:
        assert [one.id for one in queries.ready_to_start(session)] == [run]
