"""Answers from elsewhere: every layout people have, joined by prompt, nothing silently dropped."""

import csv
import json

import pytest
from sqlmodel import Session, select

from engine import exchange, submit, worker
from engine.chat import prompt_key
from engine.errors import UserError
from engine.stages.data.import_responses import ImportResponses
from engine.stages.measure.compare_answers import CompareAnswers
from storage import answers
from storage.tables import Artifact, Response, Run

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
ROWS = [
    {"prompt": "What is the capital of France?", "answer": "Paris", "source": "gpt-x", "tags": ["fact"], "reference": ["Paris", "paris"]},
    {"prompt": FRANCE, "answer": "It is Paris.", "source": "human", "finish_reason": "stop"},
    {"prompt": "What is the capital of France?", "answer": "Lutetia", "source": "human"},
    {"prompt": "And of Italy?", "answer": "", "source": "gpt-x", "tokens": 1},
]


@pytest.fixture
def jsonl(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_rows_are_stored_by_source_and_join_by_prompt(database, run_stage, jsonl):
    made = run_stage(ImportResponses(file=str(jsonl)))["responses"]
    with Session(database) as session:
        row = session.get_one(Artifact, made)
        told = [row.summary[name] for name in ("sources", "models", "prompts", "answers")]
        assert told == [["gpt-x", "human"], [], 2, 4]
        one, other = answers.columns(row)
        line = answers.index(session, one)[prompt_key(FRANCE)]
        assert (line.tags, line.references, line.tokens) == (("fact",), ("Paris", "paris"), None)
        assert answers.index(session, one)[prompt_key([{"role": "user", "content": "And of Italy?"}])].tokens == 1
        assert answers.samples(session, other) == 2
        assert [text.answer for text in answers.texts(session, other, 1)] == ["Lutetia"]
        assert {one.prompt_key for one in session.exec(select(Response).where(Response.source == "human"))} == {prompt_key(FRANCE)}


def test_csv_with_other_names(database, run_stage, tmp_path):
    path = tmp_path / "mine.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["Frage", "Antwort", "x"], ["a?", "b", "1"], ["c?", "=d", "2"]])
    with pytest.raises(UserError, match="no column looks like the prompt; there are: Antwort, Frage, x"):
        ImportResponses(file=str(path)).check({})
    form = ImportResponses(file=str(path), prompt_column="Frage", answer_column="Antwort", source="me")
    made = run_stage(form)["responses"]
    with Session(database) as session:
        assert session.get_one(Artifact, made).summary["sources"] == ["me"]
    assert form.preview({}).rows[0].pieces == (("a?\n", False), ("b", True))


def test_llm_comparator_s_json_comes_and_goes(database, run_stage, tmp_path):
    sides = [exchange.Side("one", {}), exchange.Side("two", {})]
    told = [exchange.Answered(text, "", "stop", 3, {}) for text in ("A", "B")]
    path = tmp_path / "compared.json"
    path.write_text(json.dumps(exchange.llm_comparator(sides, [exchange.Compared("k", FRANCE, ["fact"], [], told)])))
    made = run_stage(ImportResponses(file=str(path)))["responses"]
    with Session(database) as session:
        row = session.get_one(Artifact, made)
        assert row.summary["sources"] == ["one", "two"]
        found = [next(answers.texts(session, column)) for column in answers.columns(row)]
    assert [(one.answer, one.prompt, one.extra["tags"]) for one in found] == [("A", FRANCE, ["fact"]), ("B", FRANCE, ["fact"])]


def test_bad_rows_are_named_and_too_many_refuse(database, home, tmp_path):
    path = tmp_path / "bad.jsonl"
    good = [json.dumps({"prompt": f"{n}?", "answer": "x"}) for n in range(40)]
    bad = ['{"prompt": "a?"}', "not json", '{"prompt": "a?", "answer": 5}']

    def imported(lines):
        path.write_text("\n".join(lines))
        run = submit.submit(database, home, ImportResponses(file=str(path))).runs[0]
        worker.work(database, home, run)
        with Session(database) as session:
            return session.get_one(Run, run), [a.summary for a in session.exec(select(Artifact).where(Artifact.made_by == run))]

    row, (told,) = imported([*good, bad[0]])
    assert row.status == "succeeded"
    assert told["answers"] == 40
    row, _ = imported([*good, *bad])
    assert row.status == "failed"
    assert "3 of 43 rows cannot be used (line 41: there is no answer)" in row.error


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.exe", "nothing"])
def test_archives_and_strangers_are_refused_and_never_unpacked(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="these are read"):
        ImportResponses(file=str(tmp_path / name)).check({})
    with pytest.raises(UserError, match="no file"):
        ImportResponses(file=str(tmp_path / "missing.jsonl")).check({})


def test_imported_answers_are_compared_with_others(database, run_stage, tmp_path, home):
    made = []
    for name, right in (("before", 0), ("after", 1)):
        path = tmp_path / f"{name}.jsonl"
        rows = [{"prompt": f"{n} + {n}?", "answer": str(2 * n) if right or n < 3 else "?", "expected": str(2 * n)} for n in range(30)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        made.append(run_stage(ImportResponses(file=str(path)))["responses"])
    report = run_stage(CompareAnswers(before=made[0], after=made[1]))["report"]
    told = json.loads((home.artifact_folder(report) / "report.json").read_text())
    assert [model["name"] for model in told["models"]] == ["before", "after"]
    assert "Learned exact answers (10% → 100%, n = 30)" in told["sentence"]
    assert "stopping" not in told["sentence"], "nobody said how these answers ended"
