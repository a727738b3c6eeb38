"""What a training run forgets is measured without disturbing it, as often as it may cost, and never twice."""

import json
import math
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session, select

from engine import suites
from engine.chat import Chat
from engine.contamination import contaminated
from engine.errors import UserError
from engine.probe import Item, Part, Probe, ask
from engine.settings import RetentionSettings
from engine.stage import Input, Kind
from engine.tradeoff import best
from engine.training import retention
from engine.training.models import load_model
from engine.training.retention import Watch, middle, spread
from storage.tables import Event, Score
from tests.engine.teaching import Class, conversations, stops_at

ANY = "(?s).*"  # a regular expression that every answer fits
ON = {"suite": "watch", "probes": ["arithmetic"], "every": 2}


@pytest.fixture
def school(database, home, add_artifact, tmp_path):
    return Class(database, home, add_artifact, tmp_path / "school")


def learn(school, **settings):
    stage = school.lesson(**settings)
    work = school.start(stage)
    assert school.finish(work, stage)
    return work


@pytest.mark.parametrize("more", [{}, {"method": "full"}, {"lora": {"dropout": 0.5}}], ids=["lora", "full", "dropout"])
def test_watching_changes_no_loss(school, more):
    alone, watched = learn(school, **more), learn(school, retention=ON, **more)
    for name in ("loss", "eval_loss"):
        assert school.curve(alone.run, name) == school.curve(watched.run, name)
    assert set(school.curve(watched.run, "ability/arithmetic")) == {0, 2, 3, 4, 6}


def test_every_item_is_stored_at_every_point_with_the_model_before_at_step_0(school, database):
    work = learn(school, retention=ON)
    with Session(database) as session:
        rows = session.exec(select(Score).where(Score.run == work.run)).all()
    assert {row.artifact for row in rows} == {work.output_id("model")}
    for step in (0, 2, 3, 4, 6):
        assert sum(row.step == step and row.probe == "arithmetic" for row in rows) == 32
        assert sum(row.step == step and row.probe == "talk: loss" for row in rows) == 6
    assert not work.answers(), "the panel is empty: answers to probes are not the panel's"


def test_a_resumed_run_measures_each_point_once_and_keeps_its_points(school, database):
    stage = school.lesson(retention=ON)
    work = school.start(stage, stops_at(4))
    assert not school.finish(work, stage)
    assert school.finish(school.start(stage, run=work.run), stage)
    with Session(database) as session:
        rows = session.exec(select(Score.step, Score.probe, Score.item_key).where(Score.run == work.run)).all()
    assert len(rows) == len(set(rows))
    assert {step for step, _, _ in rows} == {0, 2, 3, 4, 6} - {4}, "it was stopping at step 4"


def test_without_a_number_of_steps_start_middle_and_end_are_measured(school):
    work = learn(school, retention=ON | {"every": None}, training={"steps": 8, "checkpoints": 4})
    measured = set(school.curve(work.run, "ability/arithmetic"))
    assert {0, 4, 8} <= measured <= {0, *range(1, 9)}
    assert set(json.loads((work.folder / "watched.json").read_text())["seen"]) == measured


def test_off_measures_nothing(school):
    work = learn(school)
    assert not school.curve(work.run, "retention_seconds")


def test_the_best_checkpoint_is_said_and_kept(school, home, database):
    work = learn(school, retention=ON, training={"checkpoints": 3, "keep_checkpoints": 2})
    chosen = work._made["model"]["best_by_tradeoff"]
    assert chosen["step"] in (2, 4, 6)
    assert (work.folder / "checkpoints" / f"checkpoint-{chosen['step']}").exists()
    with Session(database) as session:
        told = [event.message for event in session.exec(select(Event).where(Event.run == work.run))]
    assert any(line.startswith(f"Best by your trade-off: step {chosen['step']}") for line in told)


def test_items_among_the_training_rows_are_warned_of(school, database):
    item = suites.suite("watch", ["arithmetic"], 0)[0].items[0]
    rows = [*conversations(8), {"messages": [*item.prompt, {"role": "assistant", "content": "no"}]}]
    work = learn(school, retention=ON, data=school.rows("leaky", rows))
    with Session(database) as session:
        warned = [e.message for e in session.exec(select(Event).where(Event.run == work.run, Event.level == "warning"))]
    assert any("1 items of the probe Arithmetic stand in the training rows" in line for line in warned)


def part(*items):
    return Part(Probe("p", "P", "p", "chooses", "knowledge", lambda n, seed: items), tuple(items))


def test_contamination_is_word_for_word_and_short_questions_must_stand_alone():
    short, long = Item("short", ask("What is gold?")), Item("long", ask("Which metal is liquid at room temperature on Earth?"))
    text = Item("text", [], text="The river rose in the night and took the bridge with it")
    suite = [part(short, long, text)]
    assert contaminated(suite, [{"text": "I wonder what is gold? and more"}]) == {}
    assert contaminated(suite, [{"prompt": ask("what is GOLD")}]) == {"P": 1}
    assert contaminated(suite, [{"text": "Quiz: which metal is liquid at room temperature on earth, do you know"}]) == {"P": 1}
    assert contaminated(suite, [{"text": "which metal is liquid at room temperature on Mars?"}]) == {}
    assert contaminated(suite, [{"text": text.text}, {"text": text.text}, {"messages": long.prompt}]) == {"P": 2}
    assert contaminated(suite, []) == {}


@given(st.integers(1, 400), st.integers(1, 12), st.integers(-3, 60))
def test_points_are_steps_of_the_run_and_no_more_than_the_time_allows(total, checkpoints, count):
    from engine.training.callback import checkpoint_steps

    steps = checkpoint_steps(total, checkpoints)
    points = spread(steps, total, count)
    assert all(1 <= step <= total for step in points)
    assert len(points) <= max(count, 2)
    assert {middle(steps, total), total} <= points, "the middle and the end always"
    assert points <= steps or steps <= points


def items(right, n=32):
    return {str(key): float(key < right) for key in range(n)}


def test_the_best_learned_most_without_a_loss():
    start = {"json": items(30), "facts": items(20)}
    points = {
        10: {"json": items(30), "facts": items(20)},
        20: {"json": items(30), "facts": items(19)},
        30: {"json": items(5), "facts": items(20)},
    }
    found = best(start, points, {10: 0.4, 20: 0.7, 30: 0.99}, 0.05)
    assert (found.step, found.lossless) == (20, True)
    assert found.fall == pytest.approx(1 / 32)


def test_where_none_is_without_loss_it_lost_least_and_says_so():
    start = {"json": items(30)}
    found = best(start, {10: {"json": items(20)}, 20: {"json": items(3)}}, {10: 0.4, 20: 0.9}, 0.05)
    assert (found.step, found.lossless, found.ability) == (10, False, "json")


def test_an_ability_that_rose_does_not_stand_in_the_way_and_no_task_is_no_best():
    start = {"json": items(3)}
    assert best(start, {10: {"json": items(30)}}, {10: 0.4}, 0.05).lossless
    assert best(start, {10: {"json": items(30)}}, {}, 0.05) is None


def test_auto_points_cost_less_than_a_tenth(school, monkeypatch):
    """With a pass of 1 second and steps of 0.5 seconds, 100 steps allow 5 passes: the start and four more."""
    stage = school.lesson(retention=ON)
    work = school.start(stage)
    watch = Watch(work, None, 1, [], [], RetentionSettings(probes=["arithmetic"]), torch.float32)
    monkeypatch.setattr(watch, "look", lambda model, step: watch.seen.add(step))
    watch.begin(None, 0, 100, {25, 50, 75, 100})
    watch.cost = 1.0
    for step in range(1, 101):
        watch.after_step(None, step, 9.0 if step == 1 else 0.5)
    assert watch.seen == {0, 25, 50, 75, 100}


def test_a_first_pass_before_the_start_is_timed_and_not_repeated(school, monkeypatch):
    """`enough` asks for it before training; finding it all measured then would seem to cost nothing."""
    stage = school.lesson(retention=ON)
    watch = Watch(school.start(stage), None, 1, [], [], RetentionSettings(probes=["arithmetic"]), torch.float32)
    passes = []

    def slow(*_, **__):
        passes.append(1)
        time.sleep(0.2 if len(passes) == 1 else 0)
        return []

    monkeypatch.setattr(retention, "measure", slow)
    monkeypatch.setattr(retention, "as_finished", lambda *_: nullcontext())
    model = SimpleNamespace(device=torch.device("cpu"))
    watch.look(model, 0)
    watch.begin(model, 0, 100, {50, 100})
    assert len(passes) == 1
    assert watch.cost >= 0.2


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_is_said_to_predict_forgetting_is_measured(school, method):
    work = learn(school, retention=ON, method=method, training={"learning_rate": 1e-3})
    told = {name: school.curve(work.run, name) for name in ("kl_base_tuned", "target_perplexity", "update_norm")}
    assert list(told["target_perplexity"]) == [0]
    assert list(told["kl_base_tuned"]) == list(told["update_norm"]) == [6]
    assert told["kl_base_tuned"][6] > 0
    assert school.curve(work.run, "trained_tokens")[6] > 0
    assert told["target_perplexity"][0] == pytest.approx(math.exp(_loss_before(school)), rel=0.05)
    louder = learn(school, retention=ON, method=method, training={"learning_rate": 1e-2})
    for name in ("kl_base_tuned", "update_norm"):
        assert school.curve(louder.run, name)[6] > told[name][6], f"{name} grows with the learning rate"


def _loss_before(school):
    model = load_model(Input(1, Kind.MODEL, "m", school.folder / "tiny", {"format": "full"}), None, torch.float32, "cpu")
    chat, total, tokens = Chat.open(school.folder / "tiny"), 0.0, 0
    for row in conversations(18):
        encoded = chat.encode(row["messages"])
        labels = torch.tensor([encoded.labels])
        count = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            total, tokens = total + model(input_ids=torch.tensor([encoded.ids]), labels=labels).loss.item() * count, tokens + count
    return total / tokens


def test_what_is_known_already_is_not_taught(school):
    heldout = [{"messages": [*ask("say 1"), {"role": "assistant", "content": "yes"}], "accept": [ANY]}]
    known = school.rows("known", conversations(6), heldout)
    settings = {"data": known, "retention": ON | {"scorer": "regex"}}
    work = learn(school, enough=0.7, **settings)
    assert not school.curve(work.run, "loss")
    assert work._made["model"]["steps"] == 0
    assert (work.output("model") / "adapter_model.safetensors").exists()
    work = learn(school, enough=0.7, **settings | {"retention": ON | {"scorer": "exact_match"}})
    assert len(school.curve(work.run, "loss")) == 6


def test_enough_without_a_scorer_is_refused(school):
    with pytest.raises(ValueError, match=r"retention\.scorer"):
        school.lesson(enough=0.7)


def test_enough_is_refused_before_anything_is_loaded_where_nothing_is_held_out(school):
    data = school.rows("all", conversations(4))
    with pytest.raises(UserError, match="all holds none out"):
        school.start(school.lesson(data=data, enough=0.7, retention=ON | {"scorer": "exact_match"}))
