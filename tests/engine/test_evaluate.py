"""A suite put to a model: the same scores as item by item, kept as they come, never measured twice, and never a guess."""

import json
import math

import pytest
import torch
from sqlmodel import Session, select

from engine import suites
from engine.chat import Chat
from engine.errors import UserError
from engine.probe import Item, Part, Probe, Reply, ask
from engine.settings import SuiteSettings
from engine.stage import Input, Kind
from engine.stages.measure.evaluate import Evaluate
from engine.stages.measure.receipt import Receipt, judged, parts_of
from engine.training.measuring import log_probabilities, measure
from engine.training.models import load_model
from engine.work import Work
from storage.tables import Artifact, Event, Response, Score
from tests.engine.teaching import Class, conversations
from tests.serving import serving
from tests.tiny_model import untrained_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = untrained_model(tmp_path_factory.mktemp("tiny"))
    return load_model(Input(1, Kind.MODEL, "tiny", folder, {"format": "full"}), None, torch.float32, "cpu"), Chat.open(folder)


@pytest.fixture
def school(database, home, add_artifact, tmp_path):
    return Class(database, home, add_artifact, tmp_path / "school")


def probe(how, items, score=None, limit=8):
    return Part(Probe(how, how, how, how, "knowledge", lambda n, seed: items, score, None, limit), tuple(items))


CHOICES = [
    Item(f"c{n}", ask("what is the city of " + "mira " * (1 + n % 3) + "?"), ("dorin",), ("dorin", "halvek ostra", "blue dog cat"))
    for n in range(9)
]
TEXTS = [Item(f"t{n}", [], text="everyone knows " * (n + 1)) for n in range(5)]
QUESTIONS = [Item(f"q{n}", ask("tell me " * (n + 1))) for n in range(5)]


def found(tiny, parts, batch_size, **options):
    return {(m.part.probe.name, m.item.key): m for batch in measure(*tiny, parts, batch_size, **options) for m in batch}


def test_choices_share_their_prompt_and_are_worth_what_a_whole_pass_says(tiny):
    model, chat = tiny
    prompts = [chat.prompt_ids(item.prompt) for item in CHOICES[:3]]
    choices = [[chat.tokenizer.encode(text).ids for text in item.choices] for item in CHOICES[:3]]
    told = log_probabilities(model, chat.pad_id, prompts, choices)
    for prompt, some, sums in zip(prompts, choices, told, strict=True):
        for choice, total in zip(some, sums, strict=True):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + choice])).logits[0].log_softmax(-1)
            alone = sum(logits[len(prompt) + place - 1, token].item() for place, token in enumerate(choice))
            assert total == pytest.approx(alone, abs=1e-4)


def test_batches_change_no_score(tiny):
    parts = [probe("chooses", CHOICES), probe("loss", TEXTS), probe("answers", QUESTIONS, lambda item, reply: float(len(reply.text) % 2))]
    together, alone = found(tiny, parts, 8), found(tiny, parts, 1)
    assert together.keys() == alone.keys()
    assert len(together) == 19
    for key, one in together.items():
        assert one.value == pytest.approx(alone[key].value, abs=1e-4)
        assert one.chosen == alone[key].chosen
        assert (one.reply and one.reply.ids) == (alone[key].reply and alone[key].reply.ids)


def test_the_loss_is_the_mean_over_the_tokens_of_the_text(tiny):
    model, chat = tiny
    ids = torch.tensor([chat.encode_text(TEXTS[2].text).ids])
    with torch.no_grad():
        expected = model(input_ids=ids, labels=ids).loss.item()
    assert found(tiny, [probe("loss", TEXTS)], 5)["loss", "t2"].value == pytest.approx(expected, abs=1e-4)


def test_two_probes_that_ask_the_same_share_one_answer(tiny):
    heard = []

    def score(item, reply):
        heard.append(reply)
        return math.nan

    one, other = probe("answers", QUESTIONS, score), probe("answers", QUESTIONS, lambda item, reply: float(reply.stopped))
    told = [m for batch in measure(*tiny, [one, Part(other.probe, other.items)], 8) for m in batch]
    assert len(told) == 10
    assert len({id(m.reply) for m in told}) == 5
    assert all(m.value is None for m in told if m.part is one), "what cannot be read is no number"
    assert all(isinstance(reply, Reply) for reply in heard)


def test_what_does_not_fit_the_context_is_left_out(tiny):
    long = Item("long", ask("mira " * 600), ("dorin",), ("dorin", "halvek"))
    assert set(found(tiny, [probe("chooses", [*CHOICES, long])], 8)) == {("chooses", item.key) for item in CHOICES}


def test_known_items_are_not_measured_and_a_stop_ends_it(tiny):
    parts = [probe("chooses", CHOICES)]
    assert set(found(tiny, parts, 2, known=lambda part: {"c0", "c1"})) == {("chooses", item.key) for item in CHOICES[2:]}
    assert not found(tiny, parts, 2, interrupted=lambda: True)


def test_a_suite_is_the_same_for_the_same_seed_and_its_hash_tells_it_from_others():
    one, same, other = (suites.suite("watch", ["arithmetic"], seed)[0] for seed in (0, 0, 1))
    assert one.hash == same.hash != other.hash
    assert len(one.items) == 32
    assert suites.suite("full", ["arithmetic"], 0)[0].hash != one.hash
    louder = Part(Probe(**{**vars(one.probe), "version": "another judge"}), one.items)
    assert louder.hash != one.hash


def test_an_unknown_probe_and_scorer_are_named(database, home, school):
    for settings, word in (({"suite": {"probes": ["arithmetik"]}}, "did you mean arithmetic"), ({"scorer": "exact_match"}, "choose data")):
        with pytest.raises(UserError, match=word):
            Evaluate(models=[school.model], **settings).check({})


def test_scores_and_answers_are_stored_and_measured_once(school, database):
    school.rows("task", [], [{"prompt": ask(f"say {n}"), "answer": "yes"} for n in range(3)], layout="prompts")
    data = school.rows("talk2", conversations(2), conversations(3, first=70))
    stage = Evaluate(models=[school.model], suite=SuiteSettings(size="watch", probes=["arithmetic"]), data=data, scorer="exact_match")
    work = school.start(stage)
    assert school.finish(work, stage)
    with Session(database) as session:
        rows = session.exec(select(Score)).all()
        assert {row.probe for row in rows} == {"arithmetic", "talk2: loss", "talk2: exact_match"}
        assert all(row.artifact == school.model and row.step == 0 for row in rows)
        answers = {row.id: row for row in session.exec(select(Response)).all()}
        for row in rows:
            if row.probe == "arithmetic":
                assert answers[row.response].finish_reason == "chosen"
            elif row.probe == "talk2: exact_match":
                assert answers[row.response].finish_reason in ("stop", "length")
            else:
                assert row.response is None
    lines = [json.loads(line) for line in (work.output("scores") / "scores.jsonl").read_text().splitlines()]
    assert len(lines) == len(rows) == 32 + 3 + 3
    assert not work.answers(), "answers to probes are read with their scores"

    again = school.start(stage)
    assert school.finish(again, stage)
    with Session(database) as session:
        assert len(session.exec(select(Score)).all()) == len(rows)
    assert (again.output("scores") / "scores.jsonl").read_text() == (work.output("scores") / "scores.jsonl").read_text()


class StopsAfterOneBatch(Work):
    def measured(self, rows):
        super().measured(rows)
        self.stopping = True


def test_a_stopped_run_goes_on_with_what_is_missing(school, database):
    stage = Evaluate(models=[school.model], suite=SuiteSettings(size="watch", probes=["arithmetic"]), batch_size=4)
    work = school.start(stage, StopsAfterOneBatch)
    assert not school.finish(work, stage)
    with Session(database) as session:
        first = len(session.exec(select(Score)).all())
    assert 0 < first < 32
    assert school.finish(school.start(stage, run=work.run), stage)
    with Session(database) as session:
        rows = session.exec(select(Score)).all()
        assert len(rows) == len({row.item_key for row in rows}) == 32
        assert session.get(Artifact, school.model)


@pytest.fixture
def endpoint(school, tmp_path):
    with serving() as server:
        (tmp_path / "endpoint").mkdir()
        told = {"format": "endpoint", "address": server.address, "model": "served", "retries": 0}
        yield server, school.add("model", "served", tmp_path / "endpoint", **told)


def test_an_endpoint_is_asked_what_it_can_answer_and_told_what_it_cannot(school, endpoint, database):
    _, model = endpoint
    stage = Evaluate(models=[model], suite=SuiteSettings(size="watch", probes=["arithmetic", "stopping"]))
    work = school.start(stage)
    assert school.finish(work, stage)
    with Session(database) as session:
        rows = session.exec(select(Score).where(Score.artifact == model)).all()
        warned = [event.message for event in session.exec(select(Event).where(Event.level == "warning"))]
    assert {row.probe for row in rows} == {"stopping"}
    assert len(rows) == 32
    assert any("no log-probabilities: not measured are Arithmetic" in line for line in warned)


def test_an_endpoint_that_dies_half_way_keeps_what_it_said_and_goes_on(school, endpoint, database):
    server, model = endpoint
    server.behaviour = lambda asked: asked.answer("yes") if asked.number < 10 else asked.send(500, "gone")
    stage = Evaluate(models=[model], suite=SuiteSettings(size="watch", probes=["stopping"]))
    work = school.start(stage)
    with pytest.raises(UserError, match="What was measured is kept"):
        stage.run(work)
    with Session(database) as session:
        first = len(session.exec(select(Score)).all())
    assert 0 < first < 32
    server.behaviour = lambda asked: asked.answer("yes")
    assert school.finish(school.start(stage, run=work.run), stage)
    with Session(database) as session:
        rows = session.exec(select(Score)).all()
    assert len(rows) == len({row.item_key for row in rows}) == 32


def test_an_endpoint_is_judged_by_the_answers_of_the_run_that_made_the_scores(school, endpoint, tmp_path):
    server, model = endpoint
    stage, made = Evaluate(models=[model], suite=SuiteSettings(size="watch", probes=["stopping"])), []
    for reason in ("stop", "length"):
        server.behaviour = lambda asked, why=reason: asked.answer("yes", why)
        work = school.start(stage)
        assert school.finish(work, stage)
        made.append(school.add("scores", reason, tmp_path / "endpoint", **work._made["scores"]))
    judge = Receipt(base=model, tuned=model, scores=made[:1])
    work = school.start(judge)
    (part,) = parts_of(work.inputs("scores"), [model])
    assert {value for value, _ in judged(work, work.input("base"), part["stopping"]).values()} == {1.0}


def test_data_that_holds_nothing_out_is_said_to_be_measured_as_seen(school, database):
    data = school.rows("seen", conversations(2), [])
    stage = Evaluate(models=[school.model], suite=SuiteSettings(size="watch", probes=["arithmetic"]), data=data)
    work = school.start(stage)
    assert "holds no rows out" in stage.estimate({school.model: work.inputs("models")[0], data: work.input("data")}, None).warnings[0]
    assert school.finish(work, stage)
    assert "seen holds no rows out" in work._made["scores"]["note"]
