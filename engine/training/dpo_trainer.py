"""Direct preference optimisation (Rafailov et al. 2023, 2305.18290): TRL's DPOTrainer with our idea of a checkpoint.

The reference's log-probabilities are taken once, before the first step, from the model as it is then: its adapter does
nothing yet, or its weights are not trained yet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import disable_dropout_in_model

from engine.chat import Encoded
from engine.probe import Suite
from engine.suites import of_rows
from engine.training.answers import undisturbed
from engine.training.batches import by_length
from engine.training.checkpoints import Checkpoints
from engine.training.lesson import Lesson, Prepared
from engine.training.preferences import Pair, by_prompt
from engine.training.reward_quality import accuracy_by_prompt
from engine.training.rows import read_rows
from engine.work import Work

SHOWN = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected")


class PreferenceTuner(Checkpoints, DPOTrainer):
    """Trains `model` to prefer the chosen answers. `between` is called between batches while the reference is read."""

    def __init__(self, *, args: DPOConfig, rows: list[Pair], between: Callable[[], None], **shared: Any) -> None:
        self.between, held = between, shared["heldout"]
        super().__init__(
            args=args,
            train_dataset=Dataset.from_list([as_row(pair) for pair in rows]),
            eval_dataset=Dataset.from_list([as_row(pair) for pair in held]) if held else None,
            **shared,
        )

    def held_out(self) -> dict[str, float]:
        """Means over held-out pairs; how often the chosen answer gained on the other, by prompt, goes into the summary."""
        totals, gained, outputs = dict.fromkeys(("loss", *SHOWN), 0.0), dict[int, float](), []
        for batch in by_length([pair.length for pair in self.heldout], self.args.per_device_eval_batch_size):
            inputs = self._prepare_inputs(self.data_collator([self.eval_dataset[n] for n in batch]))
            heard = self.model.register_forward_hook(lambda *told: outputs.append(told[-1]))  # TRL keeps no more of a batch than means
            with self.accelerator.autocast(), heard:
                told = {"loss": self._compute_loss(self.model, inputs, False).item()}
            likely = outputs.pop().log_probs[:, 1 - inputs["input_ids"].shape[1] :].sum(1)
            known = torch.cat((inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]))
            answers = [self.heldout[n].chosen for n in batch] + [self.heldout[n].rejected for n in batch]
            gained |= dict(zip(map(id, answers), (likely - known).tolist(), strict=True))
            told |= {name: self._metrics["eval"][name][-1] for name in SHOWN}
            for name, value in told.items():
                totals[name] += value * len(batch) / len(self.heldout)
        self._metrics["eval"].clear()
        prompts = by_prompt(self.heldout)
        accuracy = accuracy_by_prompt(prompts, [[gained[id(answer)] for answer in prompt.answers] for prompt in prompts])
        self.summary["heldout_pairs"] = {"accuracy": accuracy}
        return {f"eval_{name}": value for name, value in totals.items()}

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        """It is tokenised already."""
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """The reference's log-probability of every answer, read in batches of like length."""
        lengths = [len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in dataset]
        told = {side: [0.0] * len(lengths) for side in ("ref_chosen_logps", "ref_rejected_logps")}
        for batch in by_length(lengths, batch_size):
            self.between()
            with undisturbed(self.model):
                found = self.compute_ref_log_probs(self.model, self._prepare_inputs(self.data_collator([dataset[n] for n in batch])))
            for values, sums in zip(told.values(), found, strict=True):
                for n, value in zip(batch, sums.tolist(), strict=True):
                    values[n] = value
        for side, values in told.items():
            dataset = dataset.add_column(side, values)
        return dataset


def as_row(pair: Pair) -> dict[str, list[int]]:
    """A pair as TRL's collator takes it: the prompt both share, and the two answers up to their stop tokens."""
    chosen, rejected = pair.chosen.row.ids, pair.rejected.row.ids
    begin = min(pair.chosen.begin, pair.rejected.begin)  # where tokens merge over the border, an answer begins a little earlier
    while chosen[:begin] != rejected[:begin]:
        begin -= 1
    return {
        "prompt_ids": chosen[:begin],
        "chosen_ids": chosen[begin : pair.chosen.end],
        "rejected_ids": rejected[begin : pair.rejected.end],
    }


@dataclass(frozen=True)
class Preferring(Lesson):
    """Learning to prefer the answers that were chosen."""

    beta: float
    loss: str
    label_smoothing: float
    sft_weight: float

    def load(self, work: Work, dtype: Any) -> tuple[Any, Callable[[Any], Any]]:
        """Without dropout: policy and reference are compared."""
        model, language = super().load(work, dtype)
        disable_dropout_in_model(model)
        return model, language

    def make(self, prepared: Prepared) -> PreferenceTuner:
        """TRL's trainer for it, the reference read."""
        work = prepared.work
        work.say(f"reading the reference's log-probabilities of {len(self.rows) + len(self.heldout):,} pairs")
        args = prepared.arguments(
            DPOConfig,
            beta=self.beta,
            loss_type=[self.loss, "sft"] if self.sft_weight else [self.loss],
            loss_weights=[1.0, self.sft_weight] if self.sft_weight else None,
            label_smoothing=self.label_smoothing,
            precompute_ref_log_probs=True,
            disable_dropout=False,  # the adapter's is a setting
        )
        return PreferenceTuner(args=args, rows=self.rows, between=lambda: work.metrics(0), **prepared.shared)

    def lengths(self) -> list[int]:
        """The longer conversation of each pair."""
        return [max(len(pair.chosen.row.ids), len(pair.rejected.row.ids)) for pair in self.rows]

    def examples(self) -> tuple[list[Encoded], list[Encoded]]:
        """The chosen answers."""
        return [pair.chosen.row for pair in self.rows], [pair.chosen.row for pair in self.heldout]

    def task(self) -> Suite:
        """With a scorer, how often the model's own answers to held-out prompts are right."""
        if not (self.retention.scorer and self.heldout):
            return []
        rows = [{"messages": [*row["prompt"], *row["chosen"]]} for row in read_rows(self.data.folder, "heldout")]
        return of_rows(self.data.name, rows, self.retention.scorer, "watch")
