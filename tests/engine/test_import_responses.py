"""Answers from elsewhere: every layout people have, joined by prompt, nothing silently dropped."""

import csv
import json

import pytest
from sqlmodel import Session, select

from engine import exchange, submit, worker
from engine.chat import prompt_key
from engine.errors import UserError
from engine.stages.data.import_dataset import ImportDataset
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


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def stored(run_stage, database):
    """The set's row and its answers, as a run of this form stores them."""

    def run(form):
        made = run_stage(form)["responses"]
        with Session(database) as session:
            row = session.get_one(Artifact, made)
            return row.summary, session.exec(select(Response).where(Response.artifact == made).order_by(Response.id)).all()

    return run


@pytest.fixture
def jsonl(tmp_path):
    return written(tmp_path / "answers.jsonl", ROWS)


def test_rows_are_stored_by_source_and_join_by_prompt(database, run_stage, jsonl):
    made = run_stage(ImportResponses(file=jsonl))["responses"]
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


def test_an_empty_cell_is_an_empty_answer_and_a_nameless_column_is_nobody(stored, tmp_path):
    path = tmp_path / "by_pandas.csv"
    path.write_text(',prompt,answer,tags,finish_reason,tokens\n0,a?,,"x, y",end_turn,7\n1,b?,=B,,MAX_TOKENS,\n')
    told, rows = stored(ImportResponses(file=str(path)))
    assert (told["sources"], told["rejected"]) == (["by_pandas"], 0)
    assert [(row.answer, row.finish_reason, row.extra) for row in rows] == [
        ("", "stop", {"tags": ["x", "y"], "tokens": 7}),
        ("=B", "length", {}),
    ]


def test_parquet_and_json(stored, tmp_path):
    from pyarrow import Table
    from pyarrow.parquet import write_table

    write_table(Table.from_pylist([{"question": "a?", "response": "b", "model": "m", "target": ["c", "d"]}]), tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"question": "a?", "response": "b", "model": "m", "target": ["c", "d"]}]}))
    for name in ("a.parquet", "a.json"):
        told, (row,) = stored(ImportResponses(file=str(tmp_path / name)))
        assert (told["sources"], row.answer, row.extra) == (["m"], "b", {"accept": ["c", "d"]})


def test_a_prompt_is_what_the_same_row_of_a_dataset_would_ask(stored, tmp_path):
    alpaca = {"instruction": "Add.", "input": "1 2", "system": "Be brief."}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Add.\n\n1 2"}]
    shared = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Add.\n\n1 2"}]
    _, rows = stored(ImportResponses(file=written(tmp_path / "alpaca.jsonl", [alpaca | {"output": "3"}])))
    _, others = stored(ImportResponses(file=written(tmp_path / "others.jsonl", [{"prompt": p, "output": "3"} for p in (messages, shared)])))
    assert {row.prompt_key for row in (*rows, *others)} == {prompt_key(messages)}
    assert [row.sample for row in others] == [0, 1]


def test_reasoning_is_kept_apart(stored, tmp_path):
    path = written(tmp_path / "a.jsonl", [{"prompt": "a?", "answer": "<think>\nHm.\n</think>\n\nB."}])
    _, (row,) = stored(ImportResponses(file=path))
    assert (row.answer, row.extra) == ("B.", {"thought": "Hm."})


def test_who_is_said_in_the_form_answered_all(stored, tmp_path):
    path = written(
        tmp_path / "a.jsonl", [{"prompt": f"{n}?", "answer": "b", "source": f"https://{n}", "by": "" if n else "x"} for n in range(60)]
    )
    assert stored(ImportResponses(file=path, source="me"))[0]["sources"] == ["me"]
    assert stored(ImportResponses(file=path, source="me", source_column="by"))[0]["sources"] == ["x", "me"]


def test_a_column_that_names_nobody_is_refused(database, home, tmp_path):
    path = written(tmp_path / "a.jsonl", [{"prompt": f"{n}?", "answer": "b", "source": f"https://{n}"} for n in range(60)])
    run = submit.submit(database, home, ImportResponses(file=path)).runs[0]
    worker.work(database, home, run)
    with Session(database) as session:
        assert "the column source names 60 who answered, such as https://0, https://1" in session.get_one(Run, run).error


def test_half_a_character_is_a_bad_row_or_left_out(stored, tmp_path):
    rows = [{"prompt": "a?", "answer": "b", "source": "m\ud800", "tags": ["\udfff"], "finish_reason": "\ud800", "tokens": "9" * 5000}]
    rows += [{"prompt": "a?", "answer": "\ud800"}, {"prompt": "\ud800", "answer": "b"}]
    told, (row,) = stored(ImportResponses(file=written(tmp_path / "a.jsonl", rows), max_rejected=0.9))
    assert (told["rejected"], row.source, row.extra) == (2, "m?", {"tags": ["?"]})


def test_llm_comparator_s_json_comes_and_goes(stored, tmp_path):
    sides = [exchange.Side("one", {}), exchange.Side("two", {})]
    told = [exchange.Answered("A", "", "stop", 3, {"Exact match": 1.0}), exchange.Answered("B", "", "", None, {})]
    compared = exchange.llm_comparator(sides, [exchange.Compared("k", FRANCE, ["fact"], ["Paris", "paris"], told)])
    path = tmp_path / "compared.json"
    path.write_text(json.dumps(compared))
    summary, (one, two) = stored(ImportResponses(file=str(path)))
    assert summary["sources"] == ["one", "two"]
    shared = {"tags": ["fact"], "accept": ["Paris", "paris"]}
    assert (one.answer, one.prompt, one.prompt_key, one.finish_reason) == ("A", FRANCE, prompt_key(FRANCE), "stop")
    assert (one.extra, two.answer, two.finish_reason, two.extra) == (shared | {"tokens": 3}, "B", "", shared)


def test_what_is_broken_in_llm_comparator_s_json_is_a_bad_row(stored, tmp_path):
    good = {"input_text": "a?", "output_text_a": "b", "output_text_b": "c", "custom_fields": [1]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"examples": [good, 1, good | {"input_text": 5}], "models": [{"name": None}, "x"]}))
    told, rows = stored(ImportResponses(file=str(path), max_rejected=0.7))
    assert (told["sources"], told["rejected"], [row.answer for row in rows]) == (["A", "B"], 4, ["b", "c"])


@pytest.mark.parametrize("examples, models", [([], [{"name": "a"}]), ([1], [{"name": "a"}]), ([{"input_text": "a?"}], [1]), ([], [])])
def test_something_like_llm_comparator_s_json_is_refused(tmp_path, examples, models):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"examples": examples, "models": models}))
    with pytest.raises(UserError, match=r"no column looks like the|has no rows"):
        ImportResponses(file=str(path)).check({})


def test_llm_comparator_s_own_example(stored, tmp_path):
    """The smallest file that its documentation shows."""
    example = {"input_text": "Hi?", "tags": [], "output_text_a": "Good.", "output_text_b": "Hi!", "score": 0.0}
    told = {"metadata": {"source_path": "n/a", "custom_fields_schema": []}, "models": [{"name": "ABC 1.1"}, {"name": "ABC 1.0"}]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(told | {"examples": [example | {"individual_rater_scores": [], "custom_fields": {}}]}))
    summary, rows = stored(ImportResponses(file=str(path)))
    assert summary["sources"] == ["ABC 1.1", "ABC 1.0"]
    assert [(row.source, row.answer, row.extra) for row in rows] == [("ABC 1.1", "Good.", {}), ("ABC 1.0", "Hi!", {})]


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


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("a.jsonl", "PK\x03\x04\nnot JSON", "no row of .* can be read .line 1: not JSON"),
        ("a.jsonl", '{"frage": "a?"}', "no column looks like the prompt; there are: frage"),
        ("a.jsonl", "\n\n", "has no rows"),
        ("a.json", "[1, 2", "a.json is not JSON after its row"),
        ("a.csv", "a,a\n1,2", "a stands in it twice"),
        ("a.parquet", "PK", "cannot be read as Parquet"),
    ],
)
def test_a_hopeless_file_is_refused_with_what_was_found(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said) as refused:
        ImportResponses(file=str(tmp_path / name)).check({})
    assert refused.value.field in ("file", "prompt_column")
    assert ImportResponses(file=str(tmp_path / name)).preview({}) is None


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.exe", "nothing"])
def test_archives_and_strangers_are_refused_and_never_unpacked(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    for form, field in ((ImportResponses(file=str(tmp_path / name)), "file"), (ImportDataset(source=str(tmp_path / name)), "source")):
        with pytest.raises(UserError, match="these are read") as refused:
            form.check({})
        assert refused.value.field == field
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "file, said",
    [
        ("", "no file yet"),
        ("~nobody-at-all/a.jsonl", "no file"),
        ("/a\0b.jsonl", "no file"),
        ("missing.jsonl", "no file"),
        ("/", "is a folder"),
    ],
)
def test_a_path_that_leads_nowhere_is_said(file, said):
    with pytest.raises(UserError, match=said):
        ImportResponses(file=file).check({})
    assert ImportResponses(file=file).preview({}) is None


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
