"""The generate stage: who answered what, refusals, and going on where it stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlmodel import Session

from engine.errors import UserError
from engine.stage import Stage
from engine.stages.generate.generate import Generate
from storage.files import Home
from storage.tables import Artifact
from tests.engine.teaching import Class, StopsEarly

SAMPLED = {"max_new_tokens": 8, "temperature": 1.0, "seed": 3}


@pytest.fixture
def school(database: Engine, home: Home, add_artifact: Callable[..., int], tmp_path: Path) -> Class:
    return Class(database, home, add_artifact, tmp_path)


def asking(school: Class, **settings: Any) -> Generate:
    chosen = {"models": [school.model], "prompts": school.data, "batch_size": 4, "sampling": {"max_new_tokens": 8}} | settings
    return Generate.model_validate(chosen)


def told(school: Class, id: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    with Session(school.database) as session:
        row = session.get_one(Artifact, id)
    lines = (school.home.root / row.folder / "responses.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], row.summary


def test_every_model_answers_every_prompt(school: Class, run_stage: Callable[[Stage], dict[str, int]]) -> None:
    taught = run_stage(school.lesson(training={"steps": 2}))["model"]
    rows, summary = told(school, run_stage(asking(school, models=[school.model, taught]))["responses"])
    assert len(rows) == 2 * 24
    assert {row["artifact"] for row in rows} == {school.model, taught}
    assert rows[0]["prompt"] == [{"role": "user", "content": "say 0"}]
    assert rows[0]["extra"] == {"answer": "yes 0"}
    assert rows[0]["model"] == "tiny"
    assert [turn["role"] for turn in rows[1]["prompt"]] == ["user", "assistant", "user"]
    assert {row["finish_reason"] for row in rows} <= {"stop", "length"}
    assert all(len(row["token_ids"]) == 8 for row in rows if row["finish_reason"] == "length")
    assert summary["models"] == [school.model, taught]
    assert (summary["prompts"], summary["answers"]) == (24, 48)
    assert set(summary["stop_rate"]) == set(summary["median_tokens"]) == {str(school.model), str(taught)}


def test_prompts_bring_their_references_and_a_limit(school: Class, run_stage: Callable[[Stage], dict[str, int]]) -> None:
    asked = [{"prompt": [{"role": "user", "content": f"say {n}"}], "answer": str(n), "tags": ["odd"], "note": "x"} for n in (1, 2, 2, 3)]
    prompts = school.rows("prompts", asked, layout="prompts")
    rows, _ = told(school, run_stage(asking(school, prompts=prompts))["responses"])
    assert [row["extra"] for row in rows] == [{"answer": str(n), "tags": ["odd"]} for n in (1, 2, 3)]
    rows, _ = told(school, run_stage(asking(school, prompts=prompts, limit=2))["responses"])
    assert len(rows) == 2


def test_several_samples_differ(school: Class, run_stage: Callable[[Stage], dict[str, int]]) -> None:
    rows, _ = told(school, run_stage(asking(school, samples=3, limit=2, sampling=SAMPLED))["responses"])
    assert [row["sample"] for row in rows] == [0, 1, 2, 0, 1, 2]
    assert len({row["answer"] for row in rows[:3]}) > 1


def test_a_stopped_run_goes_on_and_gives_the_same_answers(school: Class) -> None:
    stage = asking(school, samples=2, sampling=SAMPLED)
    work = school.start(stage)
    assert school.finish(work, stage)
    whole = [(row.prompt_key, row.sample, row.token_ids) for row in school.responses(work.run)]
    StopsEarly.at = 8
    stopped = school.start(stage, StopsEarly)
    assert not school.finish(stopped, stage)
    assert 0 < len(school.responses(stopped.run)) < len(whole)
    assert school.finish(school.start(stage, run=stopped.run), stage)
    assert [(row.prompt_key, row.sample, row.token_ids) for row in school.responses(stopped.run)] == whole


def test_greedy_samples_are_refused(school: Class) -> None:
    with pytest.raises(ValidationError, match=r"samples.*sampling\.temperature"):
        asking(school, samples=2)
    with pytest.raises(ValidationError, match="models names the same model twice"):
        asking(school, models=[school.model, school.model])


def test_prompts_longer_than_the_context_are_refused(school: Class) -> None:
    long = [{"prompt": [{"role": "user", "content": "yes " * school.context}]}, {"prompt": [{"role": "user", "content": "a"}]}]
    with pytest.raises(UserError, match=rf"1 of 2 prompts do not fit the {school.context} tokens that tiny reads") as refused:
        school.start(asking(school, prompts=school.rows("long", long, layout="prompts")))
    assert refused.value.field == "prompts"
    with pytest.raises(UserError, match="no prompts"):
        school.start(asking(school, prompts=school.rows("none", [], layout="prompts")))
