"""Models that answer live: several in memory, each a token at a time, so that whoever asks can go round among them.

A base is in memory once, with the adapters of its children laid over it unmerged: a base and three children take little
more than the base. An adapter on an adapter stands on the lower one merged, as everywhere. As many bases stay as fit;
the least recently used one goes first, and what does not fit is refused before it is loaded, since running out of
memory would take a training run down with it.
"""

import gc
import json
import logging
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engine.chat import CLOSE, OPEN, Chat, Messages, ThoughtStream
from engine.errors import UserError
from engine.inference import Said
from engine.settings import SamplingSettings
from engine.stage import Input
from engine.training.models import compute_dtype, load_model

log = logging.getLogger(__name__)

CHUNK = 512  # tokens of a prompt read at once: between two chunks other models speak, and a stop is seen
SPARE_MEMORY = 256 * 2**20  # what computing takes beside weights and cache
NO_ADAPTER = "none"
LIKELIEST = 10  # next tokens that are told with their probabilities


class NoRoom(UserError):
    """It does not fit beside the models that are answering now: try again when they are done."""


class Base:
    """A whole model in memory and the adapters over it."""

    def __init__(self, whole: Any) -> None:
        self.whole = whole
        self._over: PeftModel | None = None
        self._layers: list[Any] = []
        self._laid: set[str] = set()

    def lay(self, adapter: Input) -> str:
        """Lay an adapter over it, once; its name."""
        name = f"model{adapter.id}"
        if name in self._laid:
            return name
        options = {"adapter_name": name, "autocast_adapter_dtype": False, "torch_device": str(self.whole.device)}
        if self._over is None:
            self._over = PeftModel.from_pretrained(self.whole, str(adapter.folder), **options)
        else:
            self._over.load_adapter(str(adapter.folder), **options)
        self._over.eval()
        self._layers = [part for part in self.whole.modules() if isinstance(part, BaseTunerLayer)]
        self._laid.add(name)
        return name

    def read(self, adapter: str, ids: list[int], cache: Any) -> Any:
        """One forward pass as this child, or as the base itself with NO_ADAPTER: logits of the last token, and the cache."""
        for layer in self._layers:  # PEFT's set_adapter also walks every gradient: a fifth of a small model's token
            layer._active_adapter = adapter
        inputs = torch.tensor([ids], device=self.whole.device)
        with torch.inference_mode():
            return self.whole(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)


class Models:
    """The models in memory on one device. `artifact` finds a model by its id; `free` says how many bytes are left."""

    def __init__(self, artifact: Callable[[int], Input], device: str, free: Callable[[str], int] | None = None) -> None:
        self.device, self.dtype = device, compute_dtype("auto", device)
        self.bases: dict[int, Base] = {}  # the least recently used first
        self._artifact, self._free = artifact, free or free_memory
        self._chats: dict[int, Chat] = {}

    @property
    def place(self) -> str:
        """Where it is computed, and how precisely."""
        return f"{self.device}, {str(self.dtype).removeprefix('torch.')}"

    def base_of(self, model: Input) -> int:
        """The id of the model that must be in memory for this one."""
        return int(model.summary["base"]) if model.summary.get("format") == "adapter" else model.id

    def answer(self, model: Input, messages: Messages, sampling: SamplingSettings, busy: Collection[int] = ()) -> Iterator[Said | None]:
        """Load what is needed, then answer token by token; None where there is nothing to say yet.

        Raises UserError if the prompt is too long or the model too large, NoRoom while the `busy` bases are in its way.
        """
        chat = self._chat(model)
        ids = chat.prompt_ids(messages, sampling.thinking)
        base, adapter, longest = self._ready(model, ids, sampling.max_new_tokens, busy)
        telling = Telling(chat, chat.opens_thought(messages, sampling.thinking))
        tokens = _tokens(base, adapter, ids, _chooser(base.whole.device, sampling))
        return self._tell(model.id, telling, tokens, longest - len(ids))

    def likeliest(self, model: Input, messages: Messages, text: str, busy: Collection[int] = ()) -> Iterator[Said | None]:
        """The `LIKELIEST` next tokens after a text, or after an answer to the messages that begins with it, in one last piece.

        Probabilities are those of the whole vocabulary, in float32. Raises as `answer` does, and UserError for nothing to read.
        """
        chat = self._chat(model)
        ids = [*chat.prompt_ids(messages), *chat.tokenizer.encode(text, add_special_tokens=False).ids] if messages else chat.text_ids(text)
        if not ids:
            raise UserError("there is no text to continue: type one")
        base, adapter, _ = self._ready(model, ids, 1, busy)
        return self._weigh(model.id, chat, base, adapter, ids)

    def _weigh(self, model: int, chat: Chat, base: Base, adapter: str, ids: list[int]) -> Iterator[Said | None]:
        began, cache, out = perf_counter(), None, None
        for start in range(0, len(ids), CHUNK):
            yield None
            out = base.read(adapter, ids[start : start + CHUNK], cache)
            cache = out.past_key_values
        assert out is not None
        with torch.inference_mode():
            likely = torch.softmax(out.logits[0, -1].float(), -1).topk(LIKELIEST)
        pairs = zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
        told = [[chat.decode([*ids, id], special=True)[len(chat.decode(ids, special=True)) :], share] for id, share in pairs]
        yield Said(model, "done", json.dumps(told), "next", len(ids), perf_counter() - began, self.place)

    def _chat(self, model: Input) -> Chat:
        if model.id not in self._chats:
            self._chats[model.id] = Chat.open(model.folder)
        return self._chats[model.id]

    def _ready(self, model: Input, ids: list[int], new: int, busy: Collection[int]) -> tuple[Base, str, int]:
        """The base in memory, the name of the adapter over it, and how many tokens there may be in all."""
        _refuse_too_long(model, ids, model.summary.get("context_length"))
        base = self._base(model, busy)
        context = getattr(base.whole.config.get_text_config(), "max_position_embeddings", None) or 2**31
        _refuse_too_long(model, ids, context)
        longest = min(len(ids) + new, context)
        adapter = NO_ADAPTER if self.base_of(model) == model.id else self._lay(base, model)
        self._make_room(model, _cache_size(base.whole, longest), {*busy, self.base_of(model)})
        return base, adapter, longest

    def _tell(self, model: int, telling: "Telling", tokens: Iterator[int | None], room: int) -> Iterator[Said | None]:
        began, reason = perf_counter(), None

        def said(kind: str, text: str, ids: list[int], why: str | None = None) -> Said:
            return Said(model, kind, text, why, len(telling.ids), perf_counter() - began, self.place, tuple(ids))

        for token in tokens:
            if token is None:
                yield None
                continue
            reason = "stop" if token in telling.chat.stop_ids else "length" if len(telling.ids) + 1 >= room else None
            new = [token]
            for kind, text in telling.hear(token, last=reason is not None) or [("text", "")]:
                yield said(kind, text, new)
                new = []
            if reason:
                yield said("done", telling.answer, telling.ids, reason)
                return

    def _base(self, model: Input, busy: Collection[int]) -> Base:
        id = self.base_of(model)
        if id not in self.bases:
            source = self._artifact(id)
            self._make_room(model, self._size(source), busy)
            self.bases[id] = Base(load_model(source, self._artifact, self.dtype, self.device).requires_grad_(False))
        self.bases[id] = self.bases.pop(id)
        return self.bases[id]

    def _lay(self, base: Base, adapter: Input) -> str:
        self._make_room(adapter, _stored(adapter.folder), self.bases)
        try:
            return base.lay(adapter)
        except Exception:
            del self.bases[self.base_of(adapter)]  # half an adapter may lie over it now
            raise

    def _size(self, base: Input) -> int:
        """Bytes it takes to load: an adapter is first merged in float32, then cast."""
        width, whole = self.dtype.itemsize, base
        while whole.summary.get("format") == "adapter":
            whole, width = self._artifact(whole.summary["base"]), self.dtype.itemsize + torch.float32.itemsize
        weights = whole.summary.get("parameters") or _stored(whole.folder) // torch.bfloat16.itemsize
        return int(weights * width)

    def _make_room(self, model: Input, needed: int, busy: Collection[int]) -> None:
        """Drop bases nobody waits for, the least recently used first, until that many bytes are free."""
        needed += SPARE_MEMORY
        for id in [id for id in self.bases if id not in busy]:
            if self._free(self.device) >= needed:
                return
            log.info("model %s leaves memory to make room for %s", id, model.name)
            del self.bases[id]
            gc.collect()
            if self.device.startswith("cuda"):
                torch.cuda.empty_cache()
        if (free := self._free(self.device)) < needed:
            others = [id for id in self.bases if id != self.base_of(model)]
            message = "{model} needs about {needed:.2f} GB of memory on {device} to answer and {free:.2f} GB are free: "
            advice = "wait for the other models" if others else "stop what else runs, shorten the conversation, or ask a smaller model"
            kind = NoRoom if others else UserError
            raise kind(message + advice, model=model.name, needed=needed / 1e9, device=self.device, free=free / 1e9)


class Telling:
    """Makes tokens into text that can be shown at once: never half a character, the reasoning apart from the answer."""

    def __init__(self, chat: Chat, opened: bool = False) -> None:
        self.chat, self.ids = chat, list[int]()
        self._opened, self._thought = opened, ThoughtStream(opened)
        self._tags = {chat.tokenizer.token_to_id(tag): tag for tag in (OPEN, CLOSE)}
        self._from, self._told = 0, 0  # decoding starts a few tokens back, since a tokenizer may join what it decodes

    @property
    def answer(self) -> str:
        """The answer so far, as it would be stored."""
        return self.chat.split_thought(self.ids, self._opened)[1]

    def hear(self, token: int, last: bool = False) -> list[tuple[str, str]]:
        """What this token adds, as ("thought" or "text", text)."""
        self.ids.append(token)
        return self._thought.hear(self._tags[token] if token in self._tags else self._new(last), last)

    def _new(self, last: bool) -> str:
        known, text = self.chat.decode(self.ids[self._from : self._told]), self.chat.decode(self.ids[self._from :])
        if text.endswith("\ufffd") and not last:  # the bytes of one character are spread over several tokens
            return ""
        self._from, self._told = self._told, len(self.ids)
        return text[len(known) :]


def free_memory(device: str, container: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that can be taken without anybody running out of memory, of a container's own limit too."""
    if device.startswith("cuda"):
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    available = int(psutil.virtual_memory().available)
    try:
        limit, used = ((container / name).read_text().strip() for name in ("memory.max", "memory.current"))
        usage = dict(line.split() for line in (container / "memory.stat").read_text().splitlines())
    except OSError:  # no container
        return available
    cached = int(usage["inactive_file"]) + int(usage["active_file"])
    return available if limit == "max" else min(available, int(limit) - int(used) + cached)


def _tokens(base: Base, adapter: str, prompt: list[int], choose: Callable[[torch.Tensor, list[int]], int]) -> Iterator[int | None]:
    """Token after token, for as long as somebody asks; None while the prompt is still being read."""
    written: list[int] = []
    out = base.read(adapter, prompt[:CHUNK], None)
    for start in range(CHUNK, len(prompt), CHUNK):
        yield None
        out = base.read(adapter, prompt[start : start + CHUNK], out.past_key_values)
    while True:
        written.append(choose(out.logits[:, -1], written))
        yield written[-1]
        out = base.read(adapter, written[-1:], out.past_key_values)


def _chooser(device: torch.device, sampling: SamplingSettings) -> Callable[[torch.Tensor, list[int]], int]:
    """Picks the next token, in the order of transformers' own generate: penalty, temperature, top k, top p."""
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature > 0:
        processors.append(TemperatureLogitsWarper(sampling.temperature))
        processors.extend([TopKLogitsWarper(sampling.top_k)] if sampling.top_k else [])
        processors.extend([TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else [])
    dice = torch.Generator(device).manual_seed(sampling.seed)

    def choose(logits: torch.Tensor, written: list[int]) -> int:
        with torch.inference_mode():
            scores = processors(torch.tensor([written], device=device, dtype=torch.long), logits.float())
            if sampling.temperature == 0:
                return int(scores.argmax(-1))
            return int(torch.multinomial(torch.softmax(scores, dim=-1), 1, generator=dice))

    return choose


def _stored(folder: Path) -> int:
    """Bytes of the weights in a folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _refuse_too_long(model: Input, ids: list[int], context: int | None) -> None:
    if context and len(ids) >= context:
        message = "the conversation has {tokens} tokens and {model} reads at most {context}: shorten it, or start a new one"
        raise UserError(message, tokens=len(ids), model=model.name, context=context)


def _cache_size(whole: Any, tokens: int) -> int:
    """Bytes of keys and values for this many tokens."""
    config = whole.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * tokens * whole.dtype.itemsize)
