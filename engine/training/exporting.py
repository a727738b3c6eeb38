"""A model on its way out: merged, rounded, written, and read back by plain transformers before anybody relies on it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from engine.chat import Chat
from engine.errors import UserError
from engine.stage import Input
from engine.stages.data._gguf import rounded, write_gguf
from engine.training import read_back
from engine.training.models import copy_tokenizer, load_model, round_weights

if TYPE_CHECKING:
    from engine.work import Work

# Largest difference of a logit, as a share of the largest one, between the model here and what a fresh process reads back.
# Both compute in float32 with the same weights; only GGUF's Gemma, whose norms are kept with one added, is not bit by bit the same.
TOLERANCE = 1e-4
TOKENS = 24  # asked of both
MESSAGES = [{"role": "user", "content": "Hello! What is 12 times 345, and why?"}]
TEXTS = (
    "The quick brown fox can't jump over 1234567890 lazy dogs; it's 3.14 a.m.",
    "  two spaces,\ttab\n\n\nnew lines \r\n and an end ",
    "def f(x):\n    return {'a': [x ** 2, \"b\"], '__c__': x != 0}",
    "Größe naïve Ελλάδα Москва 点睛之笔 日本語 한국어 שלום عربى ไทย 👩🏽‍💻🎉",
)


@dataclass(frozen=True)
class Written:
    """One exported form of a model and what whoever loads it must get."""

    what: str  # "safetensors in bfloat16"
    file: Path
    logits: torch.Tensor
    shift: float  # how far rounding moved a logit away from the float32 model's, at most

    @property
    def cost(self) -> str:
        """What this form lost, in words."""
        if not self.shift:
            return "no weight was rounded"
        return f"rounding moved logits by at most {self.shift:.2g}, where the largest is {float(self.logits.abs().max()):.3g}"


class Exporter:
    """Writes one model in several forms, each from the same float32 weights."""

    def __init__(self, work: "Work", source: Input, output: Path) -> None:
        self.work, self.source, self.output = work, source, output
        self.chat = Chat.open(source.folder)
        self.ids: list[int] = []
        self.exact = torch.empty(0)
        self.written: list[Written] = []

    def safetensors(self, precision: str) -> int:
        """The whole model with its tokenizer, as save_pretrained leaves it. Returns its number of parameters."""
        model = self._load()
        round_weights(model, getattr(torch, precision))
        self.work.say(f"writing the weights in {precision}")
        model.save_pretrained(self.output)
        copy_tokenizer(self.source.folder, self.output)
        round_weights(model, torch.float32)
        self._wrote(f"safetensors in {precision}", self.output / "model.safetensors", model)
        return model.num_parameters()

    def gguf(self, kind: str, name: str, title: str, licence: str) -> None:
        """The same as one GGUF file. Its folder holds nothing else: beside a tokenizer.json transformers forgets the file's
        chat template. Raises UserError for weights the number format cannot hold."""
        model = self._load()
        weights = {key: tensor.numpy() for key, tensor in _own_weights(model).items()}
        total = sum(weight.nbytes for weight in weights.values())
        self.work.say(f"writing {name}")
        done = 0
        (self.output / name).parent.mkdir()
        for key, size in zip(weights, write_gguf(self.output / name, self.output, weights, kind, title, licence), strict=True):
            weights[key][...] = rounded(weights[key], kind)  # the model's own memory: now it says what the file says
            done += size
            self.work.progress(40 + min(39, 40 * done // total), 100)
        if bad := next((key for key, weight in weights.items() if not _finite(weight)), None):
            message = "{key} holds numbers too large for {kind}: choose bf16 or f32"
            raise UserError(message, field="gguf", key=bad, kind=kind)
        self._wrote(f"GGUF in {kind}", self.output / name, model)

    def prove(self) -> None:
        """Let plain transformers read everything back in a fresh process. Raises UserError when it reads anything else."""
        models = [{"folder": str(f.parent), "gguf_file": f.name if f.suffix == ".gguf" else ""} for f in (one.file for one in self.written)]
        asked = {"models": models, "messages": MESSAGES, "texts": TEXTS, "ids": self.ids}
        wanted = [self.chat.prompt_ids(MESSAGES)]
        wanted += [self.chat.tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        with _read_back(self.work, asked) as answers, safe_open(answers, "pt") as told:
            for n, one in enumerate(self.written):
                for place, ids in enumerate(wanted):
                    if told.get_tensor(f"{n} tokens {place}").tolist() != ids:
                        given = ([MESSAGES[0]["content"], *TEXTS])[place]
                        raise _unlike(one.what, f"its tokenizer cuts {given!r} otherwise")
                difference = float((told.get_tensor(f"{n} logits") - one.logits).abs().max() / one.logits.abs().max())
                if not difference <= TOLERANCE:
                    raise _unlike(one.what, f"a logit differs by {difference:.2g} of the largest one; {TOLERANCE:g} is allowed")
                same = "the same logits, bit by bit" if not difference else f"logits differ by {difference:.1g} of the largest one at most"
                self.work.say(f"plain transformers reads {one.what} back: the same tokens, and {same}")

    def _load(self) -> PreTrainedModel:
        """The merged model in float32, and what it says: the yardstick of every form."""
        model = load_model(self.source, self.work.artifact, torch.float32, "cpu").requires_grad_(False)
        rows = model.get_input_embeddings().num_embeddings
        self.ids = [id for id in self.chat.prompt_ids(MESSAGES) if id < rows][-TOKENS:]
        self.exact = self._logits(model)
        return model

    def _logits(self, model: PreTrainedModel) -> torch.Tensor:
        with torch.inference_mode():
            return model(torch.tensor([self.ids])).logits[0]

    def _wrote(self, what: str, file: Path, model: PreTrainedModel) -> None:
        logits = self._logits(model)
        if not torch.isfinite(logits).all():
            message = "{what} does not hold this model's weights: its logits are no numbers; choose float32"
            raise UserError(message, field="precision", what=what)
        self.written.append(Written(what, file, logits, float((logits - self.exact).abs().max())))


def _own_weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights by name, those that are shared once."""
    seen: set[int] = set()
    kept = {}
    for key, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            kept[key] = tensor
    return kept


def _finite(weight: Any) -> bool:
    return bool(torch.isfinite(torch.from_numpy(weight)).all())


@contextmanager
def _read_back(work: "Work", asked: dict[str, Any]) -> Iterator[Path]:
    """The answers of a fresh, isolated process; it ends with this run."""
    questions, answers, log = (work.folder / f"read-back{end}" for end in (".json", ".safetensors", ".txt"))
    questions.write_text(json.dumps(asked), encoding="utf-8")
    command = [sys.executable, "-I", str(read_back.__file__), str(questions), str(answers)]
    with log.open("w") as told:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=told, stderr=told, cwd=work.folder, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
        try:
            while child.poll() is None:
                work.progress(80, 100)  # leaves when the person asks to stop
                try:
                    child.wait(timeout=0.5)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            child.kill()
            child.wait()
    if child.returncode:
        lines = log.read_text().strip().splitlines() or [f"status {child.returncode}"]
        raise _unlike("what was written", lines[-1][:300])
    try:
        yield answers
    finally:
        for path in (questions, answers, log):
            path.unlink()


def _unlike(what: str, reason: str) -> UserError:
    message = "plain transformers does not read {what} as the model it was made from: {reason}. Nothing was kept"
    return UserError(message, what=what, reason=reason)
