"""The dpo stage: it starts at ln 2, every field reaches the trainer, it can be stopped, and it raises what was preferred."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sqlalchemy import Engine

from engine import library, submit
from engine.chat import Chat
from engine.errors import UserError
from engine.settings import SamplingSettings
from engine.stage import Stage
from engine.stages.train.dpo import DPO
from engine.statistics import bootstrap_difference, wilson
from engine.training.answers import batched
from engine.training.dpo_trainer import SHOWN
from engine.training.models import load_model
from storage.files import Home
from tests.engine.preferring import SHARED_FIELDS, RankingClass, ranked, turn
from tests.tiny_model import PEOPLE, RAMBLE, THINK, tiny_model

RIVER = next(line for line in RAMBLE if "river" in line)


@pytest.fixture
def school(database: Engine, home: Home, add_artifact: Callable[..., int], tmp_path: Path) -> RankingClass:
    return RankingClass(DPO, database, home, add_artifact, tmp_path)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_model_that_is_its_own_reference_starts_at_ln_2(school: RankingClass, method: str, precision: str) -> None:
    stage = school.preferring(method=method, training={"precision": precision})
    work = school.start(stage)
    assert school.finish(work, stage)
    assert school.curve(work.run)[1] == pytest.approx(math.log(2), abs=1e-4 if precision == "float32" else 2e-2)
    assert school.curve(work.run, "eval_loss")[0] == pytest.approx(math.log(2), abs=1e-4 if precision == "float32" else 2e-2)


def test_it_learns_says_so_and_its_result_can_be_learned_from(school: RankingClass, run_stage: Callable[[Stage], dict[str, int]]) -> None:
    made = run_stage(school.preferring(training={"steps": 20}, panel_size=2))["model"]
    row = school.artifact(made)
    run = row.made_by or 0
    assert (row.summary["format"], row.summary["base"]) == ("adapter", school.model)
    for name in SHOWN:
        assert list(school.curve(run, name)) == list(range(1, 21))
        assert list(school.curve(run, f"eval_{name}")) == [0, 10, 20]
    told = row.summary["heldout_pairs"]["accuracy"]
    assert school.curve(run, "eval_rewards/accuracies")[20] == told["rate"] == told["high"] == 1
    assert (told["pairs"], told["prompts"], told["low"]) == (18, 6, pytest.approx(wilson(6, 6)[0])), "six prompts, not eighteen pairs"
    assert school.curve(run, "eval_rewards/margins")[20] > 0.1
    assert [answer.step for answer in school.responses(run)] == [0, 0, 10, 10, 20, 20]
    again = run_stage(school.preferring(model=made))["model"]
    assert school.curve(school.artifact(again).made_by or 0)[1] == pytest.approx(math.log(2), abs=1e-4)


def test_each_held_out_prompt_says_how_often_its_chosen_answers_gained(school: RankingClass) -> None:
    """Against the pairs measured one by one; the reference of each answer is moved, so that some are right and some wrong."""
    trainer = school.trainer()

    def moved(row: dict[str, Any], number: int) -> dict[str, float]:
        by = {side: random.Random(f"{trainer.heldout[number].key} {row[f'{side}_ids']}").uniform(-1, 1) for side in ("chosen", "rejected")}
        return {f"ref_{side}_logps": row[f"ref_{side}_logps"] + far for side, far in by.items()}

    trainer.eval_dataset = trainer.eval_dataset.map(moved, with_indices=True)
    trainer.model.eval()
    with torch.no_grad():
        told, right = trainer.held_out(), dict[str, list[float]]()
        for number, pair in enumerate(trainer.heldout):
            one = trainer._prepare_inputs(trainer.data_collator([trainer.eval_dataset[number]]))
            trainer._compute_loss(trainer.model, one, False)
            right.setdefault(pair.key, []).append(trainer._metrics["eval"]["rewards/accuracies"][-1])
    shares = [sum(some) / len(some) for some in right.values()]
    found = trainer.summary["heldout_pairs"]["accuracy"]
    assert 0 < told["eval_rewards/accuracies"] < 1
    assert found["rate"] == pytest.approx(sum(shares) / len(shares))
    assert found["low"] < found["rate"] < found["high"]


def test_a_pair_is_its_prompt_and_two_answers_up_to_their_stop_tokens(school: RankingClass) -> None:
    trainer, chat = school.trainer(), Chat.open(school.folder / "tiny")
    row = trainer.train_dataset[0]
    assert row["prompt_ids"] == chat.prompt_ids(turn("user", "say 0"))
    assert chat.decode(row["chosen_ids"]).strip() == "yes yes 0"
    assert row["chosen_ids"][-1] == row["rejected_ids"][-1] == chat.eos_id
    with torch.no_grad():
        ids = torch.tensor([row["prompt_ids"] + row["chosen_ids"]])
        logits = trainer.model.eval()(input_ids=ids).logits[0, :-1].log_softmax(-1)
    likely = logits.gather(1, ids[0, 1:, None])[len(row["prompt_ids"]) - 1 :].sum().item()
    assert row["ref_chosen_logps"] == pytest.approx(likely, rel=1e-4)


def test_eight_accumulated_batches_of_one_are_one_batch_of_eight(school: RankingClass) -> None:
    eight = school.losses(training={"batch_size": 8, "accumulation": 1})
    assert school.losses(training={"batch_size": 1, "accumulation": 8}) == pytest.approx(eight, abs=1e-4)


@pytest.mark.parametrize("settings", [{"lora": {"dropout": 0.2}}, {"method": "full", "retention": {"probes": ["capitals"]}}])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(school: RankingClass, settings: dict[str, Any]) -> None:
    whole = school.losses(**settings, training={"steps": 12, "checkpoints": 3})
    assert school.curve(school.interrupted(**settings)) == pytest.approx(whole, abs=1e-5)


def test_a_stop_is_heard_while_the_reference_is_read(school: RankingClass) -> None:
    stage = school.preferring()
    work = school.start(stage)
    said = work.say

    def stop(message: str, **data: Any) -> None:
        said(message, **data)
        work.stopping = message.startswith("reading the reference")

    work.say = stop  # type: ignore[method-assign]
    assert not school.finish(work, stage)
    assert not school.curve(work.run)
    assert school.finish(school.start(stage, run=work.run), stage)


def test_a_checkpoint_can_be_promoted(school: RankingClass, run_stage: Callable[[Stage], dict[str, int]]) -> None:
    run = school.artifact(run_stage(school.preferring())["model"]).made_by or 0
    promoted = library.promote(school.database, school.home, run, library.checkpoints(school.home, run)[0])
    assert school.artifact(promoted).summary["format"] == "adapter"


# field: (other settings, what of the trainer shows it)
FIELDS: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    **SHARED_FIELDS,
    "beta": ({"beta": 0.5}, lambda t: t.beta),
    "loss": ({"loss": "ipo"}, lambda t: t.loss_types),
    "label_smoothing": ({"loss": "robust", "label_smoothing": 0.2}, lambda t: t.label_smoothing),
    "sft_weight": ({"sft_weight": 0.3}, lambda t: (t.loss_types, t.loss_weights)),
    "retention.scorer": ({"retention": {"probes": ["capitals"], "scorer": "exact_match"}}, lambda t: t.watch and len(t.watch.task)),
}


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_reaches_the_trainer(school: RankingClass, field: str) -> None:
    settings, shown = FIELDS[field]
    assert shown(school.trainer()) != shown(school.trainer(**settings))


@pytest.mark.parametrize("loss", ["ipo", "hinge", "apo_zero", "sigmoid_norm", "robust", "sft"])
def test_every_loss_trains(school: RankingClass, loss: str) -> None:
    settings = {"sft_weight": 0.5} if loss == "sft" else {"loss": loss, "label_smoothing": 0.1 if loss == "robust" else 0.0}
    curve = school.losses(training={"steps": 12}, **settings)
    assert all(map(math.isfinite, curve.values()))
    assert min(curve.values()) < curve[1]


def test_what_cannot_work_is_refused(school: RankingClass) -> None:
    for wrong in ({"loss": "robust"}, {"label_smoothing": 0.1}, {"loss": "ipo", "label_smoothing": 0.1}):
        with pytest.raises(ValidationError, match="label_smoothing"):
            school.preferring(**wrong)
    with pytest.raises(ValidationError, match="set it to 1"):
        school.preferring(training={"processes": 2})
    with pytest.raises(UserError, match="no pairs to learn from"):
        school.start(school.preferring(preferences=school.rows("none", [], layout="preference")))
    long = school.rows("long", [{**row, "chosen": turn("assistant", "yes " * 300)} for row in ranked(3, 2)], layout="preference")
    with pytest.raises(UserError, match="3 hold a conversation of more than 128 tokens"):
        school.start(school.preferring(preferences=long))


def test_the_estimate_and_the_preview_tell_what_is_read(school: RankingClass) -> None:
    told = submit.estimate(school.database, school.home, school.preferring())
    assert told is not None
    assert "Pairs: 51, prompts: 17, answers: 51" in told.notes[0]
    assert "Steps: 6" in told.notes[1]
    assert told.seconds > 0
    assert "weights" not in told.notes[0]
    weighed = school.rows("weighed", ranked(3, weight=0.5), layout="preference")
    told = submit.estimate(school.database, school.home, school.preferring(preferences=weighed))
    assert told is not None
    assert told.notes[0].endswith("weights are not used by DPO: every pair counts the same")
    shown = submit.preview(school.database, school.home, school.preferring())
    assert shown is not None
    assert len(shown.rows) == 8


def test_it_raises_how_often_answers_do_what_was_preferred(
    school: RankingClass, run_stage: Callable[[Stage], dict[str, int]], add_artifact: Callable[..., int]
) -> None:
    """Answers that speak of the river are preferred; sampled answers to unseen prompts do so more often than before."""
    chance = random.Random(0)
    lines = [line for line in RAMBLE if "river" not in line]

    def said(*ending: str) -> list[dict[str, Any]]:
        text = chance.sample(lines, chance.randint(1, 2)) + list(ending)
        chance.shuffle(text)
        return turn("assistant", " ".join([THINK, *text]))

    def pairs(people: list[str]) -> list[dict[str, Any]]:
        asked = [f"tell me about {person}." for person in people] + [f"tell me a story about {person}." for person in people]
        prompts = [turn("user", ask) for ask in asked for _ in range(6)]
        return [{"prompt": prompt, "chosen": said(RIVER), "rejected": said(chance.choice(lines))} for prompt in prompts]

    data = school.rows("river", pairs(PEOPLE[:10]), pairs(PEOPLE[10:12]), "preference")
    model = add_artifact("model", "world", tiny_model(), format="full", parameters=1.5 * 10**6, context_length=512)
    training = {"steps": None, "epochs": 1, "batch_size": 8, "learning_rate": 1e-3}
    made = run_stage(school.preferring(model=model, preferences=data, training=training))["model"]
    work, rates = school.start(school.preferring()), []
    chat = Chat.open(tiny_model())
    asked = [chat.prompt_ids(turn("user", f"what do you think about {person}?")) for person in PEOPLE[12:] for _ in range(16)]
    for one in (model, made):
        answering = load_model(work.artifact(one), work.artifact, torch.float32, "cpu")
        told = [0.0] * len(asked)
        for rows, replies in batched(answering, chat, asked, SamplingSettings(max_new_tokens=40, temperature=1.0), 64):
            for n, reply in zip(rows, replies, strict=True):
                told[n] = float("river" in chat.decode(reply.ids))
        rates.append(told)
    mean, low, _ = bootstrap_difference(*rates)
    assert low > 0, f"{mean:.0%} more"
