"""Supervised fine-tuning: TRL's SFTTrainer with our batches, our loss on the CPU, and our idea of a checkpoint.

TRL optimises. On a CPU its loss sends every position through the head, in float32; here only positions that carry loss
go through it, a quarter more tokens a second with the same losses. On CUDA the libraries' fused paths are used as they
are. A checkpoint folder is a whole model artifact plus the optimizer's state, and counts once its last file is whole.
"""

import importlib.util
import json
import shutil
from collections.abc import Callable
from math import exp
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, PreTrainedModel, TrainerState
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from engine.chat import Encoded
from engine.settings import TrainingSettings
from engine.stage import Input
from engine.training.answers import undisturbed
from engine.training.batches import LengthSorted, by_length
from engine.training.callback import Reporter
from engine.training.cost import LARGE
from engine.training.models import copy_tokenizer, decoder_and_head

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
SCALED_HEADS = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def sft_config(
    training: TrainingSettings, steps: int, folder: Path, device: str, dtype: torch.dtype, parameters: int, heldout: bool
) -> SFTConfig:
    """What the settings mean to the trainer. When to save is `Reporter`'s to say; how many are kept is said here."""
    cuda = device.startswith("cuda")
    return SFTConfig(
        output_dir=str(folder / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=training.batch_size // training.processes,
        per_device_eval_batch_size=training.batch_size // training.processes,
        gradient_accumulation_steps=training.accumulation,
        learning_rate=training.learning_rate,
        lr_scheduler_type=SCHEDULES[training.schedule],
        warmup_steps=round(steps * training.warmup),
        weight_decay=training.weight_decay,
        max_length=training.max_length,
        seed=training.seed,
        bf16=dtype == torch.bfloat16,
        use_cpu=device == "cpu",
        optim="adamw_torch_fused" if cuda else "adamw_torch",
        activation_checkpointing=parameters >= LARGE,
        use_liger_kernel=cuda and importlib.util.find_spec("liger_kernel") is not None,
        save_strategy="steps",
        save_steps=steps + 1,
        save_total_limit=training.keep_checkpoints,
        metric_for_best_model="eval_loss" if heldout else None,
        greater_is_better=False if heldout else None,
        logging_steps=1,
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="non_padding",
        dataset_kwargs={"skip_prepare_dataset": True},
        disable_tqdm=True,
        report_to="none",
    )


class FineTuner(SFTTrainer):
    """Trains `model` on rows encoded by `engine.chat`; `source` is the artifact it was loaded from, `summary` what the
    result's row will say and each checkpoint carries along, so that it can become an artifact itself."""

    def __init__(
        self,
        model: PreTrainedModel,
        args: SFTConfig,
        rows: list[Encoded],
        heldout: list[Encoded],
        source: Input,
        pad_id: int,
        reporter: Reporter,
        summary: dict[str, Any],
        adapter: LoraConfig | None = None,
        collator: Callable[..., Any] | None = None,
    ) -> None:
        self.source, self.heldout, self.summary, self.watch = source, heldout, summary, reporter.watch
        self.lengths = [len(row.ids) for row in rows]
        blank = {"input_ids": [pad_id] * 2, "labels": [-100] * 2}  # for `LengthSorted`, where processes share a run
        super().__init__(
            model=model,
            args=args,
            train_dataset=Dataset.from_list([*({"input_ids": row.ids, "labels": row.labels} for row in rows), blank]),
            processing_class=AutoTokenizer.from_pretrained(source.folder, local_files_only=True),
            data_collator=collator or DataCollatorForLanguageModeling(pad_token_id=pad_id),
            peft_config=adapter,
            callbacks=[reporter],
        )
        self.remove_callback(PrinterCallback)
        self.summary["parameters"] = sum(part.numel() for part in self.model.parameters() if part.requires_grad)
        text_config = self.accelerator.unwrap_model(self.model).config.get_text_config()
        plain_head = all(getattr(text_config, name, None) in (None, 1) for name in SCALED_HEADS)
        alone_on_cpu = self.args.device.type == "cpu" and self.accelerator.num_processes == 1
        self.selects_positions = plain_head and alone_on_cpu and not self.aux_loss_enabled

    def train_from(self, checkpoint: Path | None) -> None:
        """Train to the end, from the start or from a whole checkpoint."""
        if checkpoint and _step(checkpoint) >= self.args.max_steps:  # it was cut while the result was being saved
            self._load_from_checkpoint(str(checkpoint))
            self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        else:
            self.args.eval_on_start = bool(self.heldout) and checkpoint is None
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def halve(self) -> None:
        """Round the trained weights to bfloat16, for saving."""
        self.model.to(torch.bfloat16)
        self.summary["dtype"] = "bfloat16"

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

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Held-out loss per token, where rows are held out."""
        if not self.heldout:
            return {}
        total, tokens = 0.0, 0
        batches = by_length([len(row.ids) for row in self.heldout], self.args.per_device_eval_batch_size)
        with undisturbed(self.model):
            for batch in batches[self.args.process_index :: self.args.world_size]:  # each process its share
                rows = [{"input_ids": self.heldout[row].ids, "labels": self.heldout[row].labels} for row in batch]
                loss, count = self.summed_loss(self._prepare_inputs(self.data_collator(rows)))
                total, tokens = total + loss.item(), tokens + count
        if self.args.world_size > 1:
            total, tokens = self.accelerator.reduce(torch.tensor([total, tokens], device=self.args.device)).tolist()
        found = {"eval_loss": total / tokens, "eval_perplexity": exp(min(total / tokens, 50))}
        self.summary["eval_loss"] = found["eval_loss"]
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """The checkpoint that is kept as the best: by the trade-off where retention is watched, else by the held-out loss."""
        is_new = super()._determine_best_metric(metrics, trial)
        if self.watch and (chosen := self.watch.best()):
            self.state.best_global_step = chosen.step
        return is_new

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: counting walks over all parameters at every step."""
        return 0

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthSorted:
        batch, world = self.args.per_device_train_batch_size * self.args.world_size, self.args.world_size
        return LengthSorted(self.lengths, batch * self.args.gradient_accumulation_steps, self.args.seed, batch if world > 1 else 1)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        (folder / "training_args.bin").unlink()  # a pickle, and nothing needs it
        copy_tokenizer(self.source.folder, folder)
        _name_base(folder / "adapter_config.json", self.source.name)
        (folder / "summary.json").write_text(json.dumps(self.summary | {"steps": self.state.global_step}))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """The artifact's row says where a model came from."""


def newest_checkpoint(folder: Path, clean: bool = True) -> Path | None:
    """The last whole checkpoint in a folder. Those cut short by a kill are removed: they could be taken for whole.
    Of processes that share a run only one cleans."""
    whole = []
    for checkpoint in folder.glob("checkpoint-*"):
        if _is_whole(checkpoint):
            whole.append(checkpoint)
        elif clean:
            shutil.rmtree(checkpoint)
    return max(whole, key=_step, default=None)


def worth_compiling(choice: str, seconds: float, device: str) -> bool:
    """Whether to compile the decoder: it takes minutes and then saves a third of the time the run would take.

    By itself it is chosen only on the CPU, where that was measured and where `seconds` can be told beforehand.
    """
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    return choice == "on" or (choice == "auto" and device == "cpu" and seconds / 3 > 600 and compiler is not None)


def compile_decoder(model: Any) -> None:
    """Compile the part of the model that training runs, for batches of any length. Answers stay uncompiled."""
    decoder_and_head(model)[0].compile(dynamic=True)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())  # the last file to be written
    except (OSError, ValueError):
        return False
    return True


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[-1])


def _name_base(config: Path, name: str) -> None:
    """An adapter's config names its base by a path of this machine: put the base's name there instead."""
    if config.exists():
        config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": name}, indent=2))
