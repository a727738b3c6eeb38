"""Learning a reward from preferences: TRL's RewardTrainer, with one row for each prompt.

InstructGPT's loss (Ouyang et al. 2022, 2203.02155): a prompt's K answers are read once each, and its pairs' losses
-log sigmoid(r_w - r_l - margin) are weighted, by 1/C(K,2) unless the data say otherwise, so that a prompt counts once
however many answers it has. TRL would read two answers for each pair: 72 in place of 9.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid
from trl import RewardConfig, RewardTrainer
from trl.trainer.utils import disable_dropout_in_model

from engine.chat import Encoded
from engine.errors import UserError
from engine.probe import Suite
from engine.training.checkpoints import Checkpoints
from engine.training.lesson import Lesson, Prepared
from engine.training.models import load_model
from engine.training.preferences import Ranked
from engine.training.reward_quality import quality
from engine.training.rewards import keep_head, padded, score_ids, with_reward_head
from engine.work import Work


@dataclass(frozen=True)
class RankedBatch:
    """Makes a batch of prompts: the answers of all of them, and the pairs among these by place."""

    pad_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """input_ids and attention_mask (answers, tokens); winners, losers, weights and margins (pairs); prompts, their number."""
        answers: list[list[int]] = []
        told: dict[str, list[Any]] = {"winners": [], "losers": [], "weights": [], "margins": []}
        for row in rows:
            told["winners"] += [len(answers) + place for place in row["winners"]]
            told["losers"] += [len(answers) + place for place in row["losers"]]
            told["weights"] += row["weights"]
            told["margins"] += row["margins"]
            answers += row["answers"]
        return padded(answers, self.pad_id) | {name: torch.tensor(some) for name, some in told.items()} | {"prompts": len(rows)}


class RewardTeacher(Checkpoints, RewardTrainer):
    """Trains `model` to give the better answers the higher rewards."""

    def __init__(self, *, args: RewardConfig, rows: list[Ranked], pad_id: int, **shared: Any) -> None:
        self.pad_id = pad_id
        super().__init__(
            args=args,
            train_dataset=Dataset.from_list([as_row(row) for row in rows]),
            data_collator=RankedBatch(pad_id),
            **shared,
        )
        self.summary["architecture"] = type(shared["model"]).__name__

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """The loss of a batch: each prompt's weighted pair losses, averaged over its prompts."""
        rewards = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False).logits[:, 0].float()
        loss, told = self.ranking_loss(rewards, inputs)
        for name, value in told.items():
            self._metrics["train"][name].append(value)
        return (loss, {"rewards": rewards}) if return_outputs else loss

    def ranking_loss(self, rewards: torch.Tensor, inputs: dict[str, Any]) -> tuple[torch.Tensor, dict[str, float]]:
        """The same from the rewards of a batch's answers, and what is logged beside it.

        Centring adds c (r_w + r_l)^2 to each pair's loss, as TRL does (Eisenstein et al. 2023, 2312.09244)."""
        better, worse = rewards[inputs["winners"]], rewards[inputs["losers"]]
        losses = -logsigmoid(better - worse - inputs["margins"])
        if self.args.center_rewards_coefficient:
            losses = losses + self.args.center_rewards_coefficient * (better + worse) ** 2
        weights = inputs["weights"] / inputs["prompts"]
        right = (inputs["weights"] * (better > worse)).sum() / inputs["weights"].sum()
        margin, mean = (better - worse).mean(), rewards.mean()
        return (weights * losses).sum(), {"accuracy": right.item(), "margin": margin.item(), "mean_reward": mean.item()}

    def held_out(self) -> dict[str, float]:
        """Loss and accuracy on held-out prompts; what is known of the rewards there goes into the summary."""
        answers = [answer.row.ids for prompt in self.heldout for answer in prompt.answers]
        with self.accelerator.autocast():
            flat = iter(score_ids(self.model, self.pad_id, answers, 2 * self.args.per_device_eval_batch_size))
        rewards = [[next(flat) for _ in prompt.answers] for prompt in self.heldout]
        losses = []
        for prompt, told in zip(self.heldout, rewards, strict=True):
            batch = self._prepare_inputs(self.data_collator([as_row(prompt)]))
            losses.append(self.ranking_loss(torch.tensor(told, device=self.args.device), batch)[0].item())
        found = quality(self.heldout, rewards)
        self.summary["heldout_pairs"] = found
        named = {"eval_loss": sum(losses) / len(losses), "eval_accuracy": found["accuracy"]["rate"]}
        if "rate" in found["length_matched"]:
            named["eval_accuracy_length_matched"] = found["length_matched"]["rate"]
        if "pearson" in found["length"]:
            named["eval_reward_length_correlation"] = found["length"]["pearson"]
        return named | {"eval_margin": _mean_margin(self.heldout, rewards)}

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        """It is tokenised already."""
        return dataset


def as_row(prompt: Ranked) -> dict[str, Any]:
    """A prompt as a row of the trainer's dataset."""
    return {
        "answers": [answer.row.ids for answer in prompt.answers],
        "winners": [pair.winner for pair in prompt.pairs],
        "losers": [pair.loser for pair in prompt.pairs],
        "weights": [pair.weight for pair in prompt.pairs],
        "margins": [pair.margin for pair in prompt.pairs],
    }


@dataclass(frozen=True)
class Judging(Lesson):
    """Learning a reward: which answers people, or whoever ranked them, found better."""

    center: float

    def load(self, work: Work, dtype: torch.dtype) -> tuple[Any, Callable[[Any], Any]]:
        """A reward model on the source's decoder; its language model is the source's head on the same decoder."""
        language = load_model(self.source, work.artifact, dtype, work.device)
        torch.manual_seed(self.training.seed)
        try:
            model = with_reward_head(language)
        except ValueError:
            message = "{name} is a {kind}, which has no form that scores: choose another model"
            raise UserError(message, field="model", name=self.source.name, kind=type(language).__name__) from None
        if self.method == "full":
            keep_head(language)
        disable_dropout_in_model(model)
        return model, lambda _: language

    def make(self, prepared: Prepared) -> RewardTeacher:
        """TRL's trainer for it."""
        args = prepared.arguments(
            RewardConfig, center_rewards_coefficient=self.center, disable_dropout=False, remove_unused_columns=False
        )  # fmt: skip
        return RewardTeacher(args=args, rows=self.rows, pad_id=prepared.chat.pad_id, **prepared.shared)

    def lengths(self) -> list[int]:
        """The longest conversation of each prompt."""
        return [max(len(answer.row.ids) for answer in prompt.answers) for prompt in self.rows]

    def examples(self) -> tuple[list[Encoded], list[Encoded]]:
        """The better answers."""
        return tuple([prompt.answers[prompt.pairs[0].winner].row for prompt in some] for some in (self.rows, self.heldout))

    def task(self) -> Suite:
        """The held-out loss says how well it is learned."""
        return []

    def result(self) -> dict[str, Any]:
        """A reward model, whole or as an adapter on its base."""
        return {"format": "reward"} | ({"base": self.source.id} if self.method == "lora" else {})


def _mean_margin(prompts: Sequence[Ranked], rewards: Sequence[Sequence[float]]) -> float:
    gaps = [told[pair.winner] - told[pair.loser] for prompt, told in zip(prompts, rewards, strict=True) for pair in prompt.pairs]
    return sum(gaps) / len(gaps)
