"""The receipt: pairs, verdicts, both files, and texts that try to be more than text."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from engine import submit
from engine.errors import UserError
from engine.stage import Stage
from engine.stages.measure.compare_answers import CompareAnswers
from storage.files import Home
from storage.tables import Artifact, Score

HOSTILE = "<script>alert(1)</script> ${1+1} {{x}} \\frac"


def answers(folder: Path, model: int, texts: list[str], stop: bool) -> Path:
    """A responses folder: each text answers the question "what is N?", whose right answer is N."""
    folder.mkdir()
    rows = [
        {
            "prompt_key": f"key{n}", "prompt": [{"role": "user", "content": f"what is {n}? {HOSTILE}"}], "artifact": model,
            "answer": text, "token_ids": list(range(5 if stop else 50)), "finish_reason": "stop" if stop else "length",
            "step": 0, "sample": 0, "extra": {"answer": str(n), "accept": [str(n)], "tags": ["fact"]},
        }
        for n, text in enumerate(texts)
    ]  # fmt: skip
    (folder / "responses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def compared(
    tmp_path: Path, add_artifact: Callable[..., int], run_stage: Callable[[Stage], dict[str, int]], database: Engine, home: Home
) -> tuple[dict, str]:
    """A model that knew everything but never stopped, and one that stops and forgot half."""
    base, tuned = add_artifact("model", "base", note="4-bit weights"), add_artifact("model", "<b>tuned</b>")
    before = answers(tmp_path / "before", base, [str(n) for n in range(40)], stop=False)
    after = answers(tmp_path / "after", tuned, [str(n) if n % 2 else HOSTILE for n in range(40)], stop=True)
    stage = CompareAnswers(
        before=add_artifact("responses", "before", before, models=[base]), after=add_artifact("responses", "after", after, models=[tuned])
    )
    report = run_stage(stage)["report"]
    with Session(database) as session:
        folder = home.root / session.get_one(Artifact, report).folder
    return json.loads((folder / "report.json").read_text()), (folder / "report.html").read_text()


def test_the_report_says_what_was_learned_and_lost(compared: tuple[dict, str]) -> None:
    report, _ = compared
    told = {verdict["ability"]: verdict for verdict in report["verdicts"]}
    assert told["stopping by itself"]["verdict"] == "learned"
    assert told["exact answers"]["verdict"] == "forgot"
    assert (told["exact answers"]["lost"], told["exact answers"]["gained"]) == (20, 0)
    assert report["sentence"].startswith("Learned stopping by itself (0% → 100%, n = 40). Forgot exact answers (100% → 50%, n = 40)")
    assert report["facts"][0] == ["Median length", "50 tokens", "5 tokens"]
    assert "4-bit weights" in report["notes"]
    assert [side["correct"] for side in report["answers"][0]["answers"]] == [True, False]


def test_the_page_stands_alone_and_runs_nothing(compared: tuple[dict, str]) -> None:
    _, page = compared
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;b&gt;tuned&lt;/b&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_scores_are_kept_item_by_item(compared: tuple[dict, str], database: Engine) -> None:
    with Session(database) as session:
        rows = session.exec(select(Score).where(Score.probe == "exact")).all()
    assert len(rows) == 80
    assert len({row.suite_hash for row in rows}) == 1


def test_two_models_in_one_set_are_refused(add_artifact: Callable[..., int], database: Engine, home: Home) -> None:
    both = add_artifact("responses", "both", models=[1, 2])
    with pytest.raises(UserError, match="holds answers of 2 models"):
        submit.submit(database, home, CompareAnswers(before=both, after=both))
