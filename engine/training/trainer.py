"""Supervised fine-tuning: TRL's SFTTrainer with our batches, our loss on the CPU, and our idea of a checkpoint.

TRL optimises. On a CPU its loss sends every position through the head, in float32; here only positions that carry loss
go through it, a quarter more tokens a second with the same losses. On CUDA the libraries' fused paths are used as they
are.
"""

import importlib.util
from collections.abc import Callable
from math import exp
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from engine.chat import Encoded
from engine.training.batches import by_length
from engine.training.checkpoints import Checkpoints
from engine.training.models import decoder_and_head

SCALED_HEADS = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def own_arguments(device: str) -> dict[str, Any]:
    """The arguments that only this trainer has."""
    liger = device.startswith("cuda") and importlib.util.find_spec("liger_kernel") is not None
    return {"use_liger_kernel": liger, "dataset_kwargs": {"skip_prepare_dataset": True}}


class FineTuner(Checkpoints, SFTTrainer):
    """Trains `model` on rows encoded by `engine.chat`."""

    def __init__(
        self, *, args: SFTConfig, rows: list[Encoded], pad_id: int, collator: Callable[..., Any] | None = None, **shared: Any
    ) -> None:
        blank = {"input_ids": [pad_id] * 2, "labels": [-100] * 2}  # for `LengthSorted`, where processes share a run
        super().__init__(
            args=args,
            train_dataset=Dataset.from_list([*({"input_ids": row.ids, "labels": row.labels} for row in rows), blank]),
            data_collator=collator or DataCollatorForLanguageModeling(pad_token_id=pad_id),
            **shared,
        )
        text_config = self.accelerator.unwrap_model(self.model).config.get_text_config()
        plain_head = all(getattr(text_config, name, None) in (None, 1) for name in SCALED_HEADS)
        alone_on_cpu = self.args.device.type == "cpu" and self.accelerator.num_processes == 1
        self.selects_positions = plain_head and alone_on_cpu and not self.aux_loss_enabled

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """The mean loss per token that carries loss, over the whole accumulated batch."""
        if return_outputs or not self.selects_positions:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        total, tokens = self.summed_loss(inputs)
        return total / (tokens if num_items_in_batch is None else num_items_in_batch)

    def summed_loss(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, int]:
        """Summed cross-entropy (nats, float32) over the positions that carry loss, and how many those are."""
        targets = inputs["labels"][:, 1:]
        learnt = targets != -100
        read = {name: inputs[name] for name in ("input_ids", "attention_mask", "position_ids") if name in inputs} | {"use_cache": False}
        with self.accelerator.autocast():
            if self.selects_positions:
                decoder, head = decoder_and_head(self.model)
                logits = head(decoder(**read).last_hidden_state[:, :-1][learnt])
            else:
                logits = self.model(**read).logits[:, :-1][learnt]
        return cross_entropy(logits.float(), targets[learnt], reduction="sum"), int(learnt.sum())

    def held_out(self) -> dict[str, float]:
        """Held-out loss per token."""
        total, tokens = 0.0, 0
        batches = by_length([len(row.ids) for row in self.heldout], self.args.per_device_eval_batch_size)
        for batch in batches[self.args.process_index :: self.args.world_size]:  # each process its share
            rows = [{"input_ids": self.heldout[row].ids, "labels": self.heldout[row].labels} for row in batch]
            loss, count = self.summed_loss(self._prepare_inputs(self.data_collator(rows)))
            total, tokens = total + loss.item(), tokens + count
        if self.args.world_size > 1:
            total, tokens = self.accelerator.reduce(torch.tensor([total, tokens], device=self.args.device)).tolist()
        return {"eval_loss": total / tokens, "eval_perplexity": exp(min(total / tokens, 50))}
