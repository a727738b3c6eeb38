"""The reward model stage: its loss by hand, what it learns, what it leaves behind, and what it refuses."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlmodel import Session
from torch.nn.functional import logsigmoid
from transformers import AutoConfig, AutoModelForCausalLM

from engine import library, submit
from engine.chat import Chat
from engine.errors import UserError
from engine.stage import Stage
from engine.stages.train.reward_model import TeachReward
from engine.training.preferences import by_prompt, encode_pairs
from engine.training.rewards import load_reward_model, padded, score, with_reward_head
from engine.training.rows import read_rows
from storage.files import Home
from tests.engine.preferring import SHARED_FIELDS, RankingClass, ranked, turn
from tests.tiny_model import VALUES, tiny_model

SIDES = (("chosen", "winners"), ("rejected", "losers"))
WATCHED = {"lora": {"dropout": 0.2}, "retention": {"probes": ["capitals"]}}


@pytest.fixture
def school(database: Engine, home: Home, add_artifact: Callable[..., int], tmp_path: Path) -> RankingClass:
    return RankingClass(TeachReward, database, home, add_artifact, tmp_path)


def test_eight_accumulated_batches_of_one_are_one_batch_of_eight(school: RankingClass) -> None:
    settings = {"center_rewards_coefficient": 0.1}
    eight = school.losses(training={"batch_size": 8, "accumulation": 1}, **settings)
    assert school.losses(training={"batch_size": 1, "accumulation": 8}, **settings) == pytest.approx(eight, abs=1e-4)


@pytest.mark.parametrize("center", [0.0, 0.3])
def test_the_loss_of_a_batch_of_many_answers_is_the_one_computed_by_hand(school: RankingClass, center: float) -> None:
    trainer = school.trainer(center_rewards_coefficient=center, training={"batch_size": 2})
    rows = [trainer.train_dataset[n] for n in (0, 5)]
    batch = trainer.data_collator(rows)
    assert batch["input_ids"].shape[0] == 6  # three answers to each of two prompts, each read once
    told = trainer.model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0].tolist()
    wanted = 0.0
    for row, rewards in zip(rows, (told[:3], told[3:]), strict=True):
        a, b, c = (reward for _, reward in sorted(zip(row["answers"], rewards, strict=True), key=lambda both: len(both[0])))
        for better, worse in ((b, a), (c, a), (c, b)):  # the longer one is better
            loss = -logsigmoid(torch.tensor(better - worse - 0.5)).item() + center * (better + worse) ** 2
            wanted += loss / 3 / 2
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(wanted, rel=1e-5)


def test_of_two_answers_the_loss_is_the_one_of_trl(school: RankingClass) -> None:
    from trl import RewardTrainer
    from trl.trainer.reward_trainer import DataCollatorForPreference

    data = school.rows("twos", ranked(8, answers=2, margin=0.25), layout="preference")
    trainer = school.trainer(preferences=data, center_rewards_coefficient=0.2)
    rows = [trainer.train_dataset[n] for n in range(4)]
    ours = trainer.compute_loss(trainer.model, trainer.data_collator(rows)).item()
    theirs = [{f"{side}_ids": row["answers"][row[place][0]] for side, place in SIDES} | {"margin": 0.25} for row in rows]
    batch = DataCollatorForPreference(pad_token_id=trainer.pad_id)(theirs)
    assert RewardTrainer.compute_loss(trainer, trainer.model, batch).item() == pytest.approx(ours, rel=1e-5)


def test_what_the_data_say_of_weights_is_kept(school: RankingClass) -> None:
    chat = Chat.open(school.folder / "tiny")
    pairs, _ = encode_pairs(chat, ranked(2, answers=4) + ranked(1, first=9, weight=0.125), 128)
    assert {pair.weight for pair in pairs[:12]} == {1 / 6}
    assert {pair.weight for pair in pairs[12:]} == {0.125}
    kept, counted = encode_pairs(chat, ranked(2, answers=2) + ranked(1, first=9, weight=0), 128)
    assert (len(kept), counted.equal) == (2, 3), "a pair that weighs nothing is left out: a batch of such has no accuracy"
    one, *_ = by_prompt(pairs)
    assert (len(one.answers), len(one.pairs)) == (4, 6)


def test_an_answer_left_out_still_counts_among_its_prompt_s_answers(school: RankingClass) -> None:
    chat, rows = Chat.open(school.folder / "tiny"), ranked(1, answers=3)
    long = {"prompt": rows[0]["prompt"], "chosen": turn("assistant", "yes " * 300), "rejected": rows[0]["rejected"]}
    equal = {"prompt": rows[0]["prompt"], "chosen": rows[0]["chosen"], "rejected": rows[0]["chosen"]}
    empty = {"prompt": rows[0]["prompt"], "chosen": turn("assistant", " "), "rejected": rows[0]["chosen"]}
    pairs, counted = encode_pairs(chat, [*rows, long, equal, empty], 64)
    assert (counted.pairs, counted.prompts, counted.answers, counted.too_long, counted.equal) == (3, 1, 3, 1, 2)
    assert {pair.weight for pair in pairs} == {1 / 10}  # of five different answers
    assert "1 pairs hold a conversation of more than 64 tokens" in counted.in_words(64)
    assert "2 pairs have equal answers" in counted.in_words(64)


def test_it_learns_and_its_result_loads_on_its_base(school: RankingClass, run_stage: Callable[[Stage], dict[str, int]]) -> None:
    made = run_stage(school.preferring(training={"steps": 20}))["model"]
    row = school.artifact(made)
    assert (row.summary["format"], row.summary["base"], row.summary["architecture"]) == (
        "reward", school.model, "LlamaForSequenceClassification",
    )  # fmt: skip
    run = row.made_by or 0
    assert list(school.curve(run)) == list(range(1, 21))
    assert list(school.curve(run, "eval_loss")) == [0, 10, 20]
    assert school.curve(run, "eval_accuracy")[20] == row.summary["heldout_pairs"]["accuracy"]["rate"] == 1
    again(school, made)
    with Session(school.database) as session:
        assert any(school.artifact(made).name in what for what in library.needed_by(session, school.model))


def again(school: RankingClass, made: int) -> None:
    """The loaded model orders the held-out answers as its row says it did."""
    work = school.start(school.preferring())
    source = work.artifact(made)
    model = load_reward_model(source, work.artifact, torch.float32, "cpu")
    rows = read_rows(school.folder / "pairs", "heldout")
    asked = [(row["prompt"], row[side][0]["content"]) for side in ("chosen", "rejected") for row in rows]
    found = score(model, Chat.open(source.folder), asked, 5)
    edges, histogram = source.summary["heldout_pairs"]["histogram"]["edges"], source.summary["heldout_pairs"]["histogram"]
    assert (min(found), max(found)) == pytest.approx((edges[0], edges[-1]), abs=1e-4)
    assert sum(histogram["chosen"]) == sum(histogram["rejected"]) == len(rows)
    right = [better > worse for better, worse in zip(found[: len(rows)], found[len(rows) :], strict=True)]
    assert sum(right) / len(right) == pytest.approx(source.summary["heldout_pairs"]["accuracy"]["rate"])
    assert score(model, Chat.open(source.folder), [(asked[0][0], "yes " * 600)], 4) == pytest.approx([float("nan")], nan_ok=True)


def test_on_an_adapter_it_loads_with_the_whole_chain(school: RankingClass, run_stage: Callable[[Stage], dict[str, int]]) -> None:
    taught = run_stage(school.lesson())["model"]
    made = run_stage(school.preferring(model=taught))["model"]
    assert school.artifact(made).summary["base"] == taught
    again(school, made)


@pytest.mark.parametrize("kind", ["gpt2", "gemma3_text", "qwen3", "opt"])
def test_a_head_is_put_on_any_architecture_and_shares_its_decoder(kind: str) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32}
    own = {"opt": {"word_embed_proj_dim": 16, "ffn_dim": 32}, "gpt2": {"n_layer": 1}}.get(kind, {"head_dim": 8})
    language = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **own, vocab_size=50, pad_token_id=0))
    judge = with_reward_head(language)
    assert judge.base_model is language.base_model
    assert not any(part.is_meta for part in [*judge.parameters(), *judge.buffers()])
    together = judge.eval()(**padded([[1, 2, 3], [4]], 0)).logits
    assert together.shape == (2, 1)
    assert together[1].item() == pytest.approx(judge(**padded([[4]], 0)).logits.item(), abs=1e-5)


def test_trained_in_full_it_loads_alone(school: RankingClass, run_stage: Callable[[Stage], dict[str, int]]) -> None:
    made = run_stage(school.preferring(method="full", training={"steps": 12, "learning_rate": 1e-3}))["model"]
    row = school.artifact(made)
    assert "base" not in row.summary
    config = json.loads((school.home.root / row.folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["pad_token_id"] is not None
    again(school, made)


@pytest.mark.parametrize("settings", [{"lora": {"dropout": 0.2}}, {"method": "full"}, WATCHED])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(school: RankingClass, settings: dict[str, Any]) -> None:
    whole = school.losses(**settings, training={"steps": 12, "checkpoints": 3})
    assert school.curve(school.interrupted(**settings)) == pytest.approx(whole, abs=1e-5)


def test_a_checkpoint_can_be_promoted(school: RankingClass, run_stage: Callable[[Stage], dict[str, int]]) -> None:
    run = school.artifact(run_stage(school.preferring())["model"]).made_by or 0
    assert library.checkpoints(school.home, run) == [3, 6]
    promoted = library.promote(school.database, school.home, run, 3)
    assert school.artifact(promoted).summary["format"] == "reward"
    again(school, promoted)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_watching_the_language_model_inside_changes_nothing(school: RankingClass, method: str) -> None:
    settings: dict[str, Any] = {"method": method, "lora": {"dropout": 0.2}}
    plain = school.losses(**settings)
    stage = school.preferring(**settings, retention={"probes": ["capitals", "stopping"]})
    work = school.start(stage)
    assert school.finish(work, stage)
    assert school.curve(work.run) == plain
    assert {0, 6} <= set(school.curve(work.run, "ability/capitals"))
    assert school.curve(work.run, "update_norm")[6] > 0
    assert school.curve(work.run, "kl_base_tuned")[6] > 0


def test_the_language_model_inside_has_the_source_s_head_on_the_trained_decoder(school: RankingClass) -> None:
    trainer = school.trainer(method="full", retention={"probes": ["capitals"]}, training={"learning_rate": 1e-2})
    language = trainer.watch.language(trainer.model)
    head = language.get_output_embeddings().weight.clone()
    assert language.base_model is trainer.model.base_model
    before = language.get_input_embeddings().weight.clone()
    trainer.train_from(None)
    assert torch.equal(language.get_output_embeddings().weight, head)
    assert not torch.equal(language.get_input_embeddings().weight, before)


# field: (another value, what of the trainer shows it)
FIELDS: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    **SHARED_FIELDS,
    "center_rewards_coefficient": ({"center_rewards_coefficient": 0.5}, lambda t: t.args.center_rewards_coefficient),
}


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_reaches_the_trainer(school: RankingClass, field: str) -> None:
    settings, shown = FIELDS[field]
    assert shown(school.trainer()) != shown(school.trainer(**settings))


def test_what_cannot_work_is_refused(school: RankingClass, run_stage: Callable[[Stage], dict[str, int]]) -> None:
    with pytest.raises(ValidationError, match="set it to 1"):
        school.preferring(training={"processes": 2})
    with pytest.raises(ValidationError, match="leave it empty"):
        school.preferring(retention={"suite": "watch", "scorer": "contains"})
    with pytest.raises(ValidationError, match="set quantize to none"):
        school.preferring(lora={"quantize": "4bit"})
    equal = [{"prompt": turn("user", "a"), "chosen": turn("assistant", "b"), "rejected": turn("assistant", "b")}] * 3
    with pytest.raises(UserError, match="no pair is left") as refused:
        school.start(school.preferring(preferences=school.rows("equal", equal, layout="preference")))
    assert refused.value.field == "preferences"
    with pytest.raises(UserError, match="holds messages rows"):
        school.start(school.preferring(preferences=school.data))
    made = run_stage(school.preferring())["model"]
    for stage in (school.lesson(model=made), school.preferring(model=made)):
        with pytest.raises(UserError, match="is a reward model") as refused:
            school.start(stage)
        assert refused.value.field == "model"


def test_the_estimate_and_the_preview_tell_what_is_read(school: RankingClass) -> None:
    told = submit.estimate(school.database, school.home, school.preferring())
    assert told is not None
    assert "Pairs: 51, prompts: 17, answers: 51" in told.notes[0]
    assert told.seconds > 0
    shown = submit.preview(school.database, school.home, school.preferring())
    assert shown is not None
    learnt = "".join(text for text, carries in shown.rows[0].pieces if carries)
    assert learnt.startswith("yes yes 0")


def test_it_learns_a_rule_that_is_not_length(
    school: RankingClass, run_stage: Callable[[Stage], dict[str, int]], add_artifact: Callable[..., int]
) -> None:
    """Answers that name a pet are better, whatever their length: 300 pairs."""
    chance, colours = random.Random(0), VALUES["colour"]

    def said(words: list[str]) -> list[dict[str, Any]]:
        text = [chance.choice("story river market town road weather".split()) for _ in range(chance.randint(2, 12))]
        text[chance.randrange(len(text))] = chance.choice(words)
        return turn("assistant", " ".join(text))

    def pairs(*numbers: int) -> list[dict[str, Any]]:
        return [{"prompt": turn("user", f"tell me about {n} ."), "chosen": said(VALUES["pet"]), "rejected": said(colours)} for n in numbers]

    data = school.rows("pets", pairs(*range(300)), pairs(*range(1000, 1100)), "preference")
    model = add_artifact("model", "world", tiny_model(), format="full", parameters=1.5 * 10**6, context_length=512)
    training = {"steps": None, "epochs": 2, "batch_size": 16, "learning_rate": 2e-3}
    made = run_stage(school.preferring(model=model, preferences=data, training=training))["model"]
    found = school.artifact(made).summary["heldout_pairs"]
    assert found["accuracy"]["rate"] >= 0.9
    assert found["accuracy"]["low"] > 0.8
    assert found["accuracy"]["prompts"] == 100
    assert abs(found["length"]["pearson"]) < 0.5
    assert found["length_matched"]["rate"] >= 0.8
