"""The generate stage: who answered what, refusals, and going on where it stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlmodel import Session, select

from engine import submit
from engine.errors import UserError
from engine.stage import Stage
from engine.stages.generate.generate import Generate
from storage.files import Home
from storage.tables import Artifact, Event
from tests.engine.teaching import Class, stops_at
from tests.tiny_model import untrained_model

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
    stopped = school.start(stage, stops_at(8))
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


@pytest.fixture
def thinker(school: Class, add_artifact: Callable[..., int], tmp_path: Path) -> int:
    """The tiny model under a template that opens a block of reasoning unless told not to."""
    folder = untrained_model(tmp_path / "thinker")
    template = (folder / "chat_template.jinja").read_text()
    opens = "{% if add_generation_prompt and enable_thinking | default(true) %}<think>{% endif %}"
    (folder / "chat_template.jinja").write_text(template.rstrip() + opens)
    return add_artifact("model", "thinker", folder, format="full", parameters=10**6, context_length=school.context)


def test_reasoning_is_kept_apart_and_a_cut_block_is_no_answer(
    school: Class, thinker: int, run_stage: Callable[[Stage], dict[str, int]]
) -> None:
    def answers(thinking: str) -> list[dict[str, Any]]:
        stage = asking(school, models=[thinker], limit=3, sampling={"max_new_tokens": 8, "thinking": thinking})
        return told(school, run_stage(stage)["responses"])[0]

    for row in answers("default"):
        assert (row["answer"], row["finish_reason"], len(row["token_ids"])) == ("", "length", 8)
        assert row["extra"]["thought"]
        assert row["extra"]["answer"].startswith("yes")
    assert [row["extra"]["thought"] for row in answers("on")] == [row["extra"]["thought"] for row in answers("default")]
    plain = answers("off")
    assert all(row["answer"] and "thought" not in row["extra"] for row in plain)
    rows, _ = told(school, run_stage(asking(school, limit=3))["responses"])
    assert [row["answer"] for row in plain] == [row["answer"] for row in rows], "the same prompt as without the switch"


def test_a_switch_that_reaches_nothing_is_said(school: Class, thinker: int) -> None:
    with pytest.raises(UserError, match=r"no chat template of tiny can switch reasoning \(enable_thinking\)") as refused:
        school.start(asking(school, sampling={"thinking": "off"}))
    assert refused.value.field == "sampling.thinking"
    both = asking(school, models=[school.model, thinker], limit=2, sampling={"max_new_tokens": 2, "thinking": "off"})
    work = school.start(both)
    assert school.finish(work, both)
    with Session(school.database) as session:
        said = [(event.level, event.message) for event in session.exec(select(Event).where(Event.run == work.run)).all()]
    assert said == [("warning", "sampling.thinking off reaches nothing in tiny")]
    estimate = submit.estimate(school.database, school.home, both)
    assert estimate
    assert estimate.warnings == ("sampling.thinking off reaches nothing in tiny",)
