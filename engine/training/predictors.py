"""Numbers that are said to predict forgetting, taken from the run itself and shown beside what was really lost.

- `kl_base_tuned`: KL(base || tuned) in nats per token on answers to the new task's held-out prompts (Shenfeld et al.
  2025, "RL's Razor", 2509.04259);
- `target_perplexity`: how unlikely the training targets were to the model before (low-perplexity token learning,
  2501.14315);
- `update_norm`: the Frobenius norm of all that was added to the weights;
- `trained_tokens`: how many it read, counted by the trainer.

What the model said before its first step is kept in the run's folder, so that a resumed run compares with it too.
"""

from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.functional import log_softmax

from engine.chat import Encoded
from engine.training.answers import undisturbed
from engine.training.packing import positions

NUMBERS = 2**25  # log-probabilities kept of the model before: 64 MB
ROWS = 64  # training rows whose perplexity is taken


class Predictors:
    """Looks at a model before its first step, and says what became of it."""

    def __init__(
        self, folder: Path, rows: Sequence[Encoded], heldout: Sequence[Encoded], source: Path | None, dtype: torch.dtype, packed: bool
    ) -> None:
        self.file, self.heldout, self.source, self.dtype = folder / "before.safetensors", list(heldout), source, dtype
        self.packed = packed
        ordered, count = sorted(rows, key=lambda row: len(row.ids)), min(ROWS, len(rows))
        self.rows = [ordered[place * len(ordered) // count] for place in range(count)]  # of all lengths

    def begin(self, model: Any) -> dict[str, float]:
        """Before the first step: the perplexity of the targets; what the model says of the held-out answers is noted."""
        positions = max(1, NUMBERS // model.config.get_text_config().vocab_size)
        losses, tokens = 0.0, 0
        for row in self.rows:
            told, targets = said(model, row, self.dtype, self.packed)
            losses, tokens = losses - told.gather(1, targets[:, None]).sum().item(), tokens + len(targets)
        before: dict[str, torch.Tensor] = {}
        for place, row in enumerate(self.heldout):
            count = sum(label != -100 for label in row.labels[1:])
            if count <= positions:
                before[str(place)] = said(model, row, self.dtype, self.packed)[0].half().contiguous().cpu()
                positions -= count
        save_file(before, self.file)
        return {"target_perplexity": exp(min(losses / max(tokens, 1), 50))}

    def end(self, model: Any) -> dict[str, float]:
        """After the last step."""
        found = {"update_norm": norm} if (norm := update_norm(model, self.source)) is not None else {}
        if not self.file.exists():
            return found
        total, tokens = 0.0, 0
        for name, base in load_file(self.file).items():
            now, _ = said(model, self.heldout[int(name)], self.dtype, self.packed)
            base = base.float().to(now.device)
            total, tokens = total + (base.exp() * (base - now)).sum().item(), tokens + len(base)
        return found | ({"kl_base_tuned": max(0.0, total / tokens)} if tokens else {})


@torch.no_grad()
def said(model: Any, row: Encoded, dtype: torch.dtype, packed: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (positions, vocabulary) where the row carries loss, and its tokens there.

    Documents `packed` in one row see nothing of each other."""
    ids, labels = torch.tensor([row.ids], device=model.device), torch.tensor(row.labels[1:], device=model.device)
    learned = labels != -100
    places = {"position_ids": torch.tensor([positions(row.labels)], device=model.device)} if packed else {}
    with undisturbed(model), torch.autocast(model.device.type, dtype, enabled=dtype == torch.bfloat16):
        logits = model(input_ids=ids, use_cache=False, **places).logits[0, :-1][learned]
    return log_softmax(logits.float(), -1), labels[learned]


def divergence(base: Any, tuned: Any, row: Encoded, dtype: torch.dtype) -> float | None:
    """KL(base || tuned) in nats per token over the positions of a row that carry loss; None where none does."""
    before, targets = said(base, row, dtype)
    return float((before.exp() * (before - said(tuned, row, dtype)[0])).sum() / len(targets)) if len(targets) else None


@torch.no_grad()
def update_norm(model: Any, source: Path | None) -> float | None:
    """The Frobenius norm of what was added: of an adapter its product, else the difference to the weights in `source`;
    None where neither is there."""
    if layers := [part for part in model.modules() if isinstance(part, LoraLayer)]:
        return sum(part.get_delta_weight(name).float().norm().item() ** 2 for part in layers for name in part.active_adapters) ** 0.5
    if source is None:
        return None
    now, total = dict(model.named_parameters()), 0.0
    for file in source.glob("*.safetensors"):
        with safe_open(file, "pt") as before:
            for name in before.keys():  # noqa: SIM118  (it is no mapping)
                if name in now:
                    total += (now[name].detach().float().cpu() - before.get_tensor(name).float()).norm().item() ** 2
    return total**0.5
