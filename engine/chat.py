"""How a conversation becomes tokens, and which of them carry loss.

One piece of code, without torch, serves the preview in the browser, the training run, generation and the tests, so
that what a person sees is what the model reads. Rendering follows transformers' apply_chat_template (the same
sandboxed jinja2 environment); tokens come from the same tokenizer.json.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from engine.errors import UserError

Messages = list[dict[str, Any]]
Thinking = Literal["default", "on", "off"]  # reasoning before the answer, where a chat template can switch it
NO_LOSS = -100
OPEN, CLOSE = "<think>", "</think>"  # around reasoning
TEMPLATES = {
    path.stem: path.read_text(encoding="utf-8").rstrip("\n") for path in sorted((Path(__file__).parent / "templates").glob("*.jinja"))
}


@dataclass(frozen=True)
class Encoded:
    """Token ids with their labels, NO_LOSS where a token is not learned from. `cut`: the max length took tokens away."""

    ids: list[int]
    labels: list[int]
    cut: bool
    texts: list[str]  # what each token adds to the rendered text

    def pieces(self) -> tuple[tuple[str, bool], ...]:
        """The text in stretches that carry loss or do not."""
        marked = zip(self.texts, (label != NO_LOSS for label in self.labels), strict=True)
        return tuple(("".join(text for text, _ in group), loss) for loss, group in groupby(marked, key=lambda piece: piece[1]))


@dataclass(frozen=True)
class Chat:
    """A model's tokenizer and chat template."""

    tokenizer: Tokenizer
    template: str
    tokens: dict[str, str]  # bos_token, eos_token, ... as the template names them
    stop_ids: frozenset[int]

    @classmethod
    def open(cls, folder: Path) -> "Chat":
        """Read a model folder. Raises UserError if it lacks a tokenizer.json, a chat template or a stop token."""
        for name in ("tokenizer.json", "chat_template.jinja"):
            if not (folder / name).exists():
                raise UserError("{folder} has no {name}: import the model again, with a chat template", folder=folder.name, name=name)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        settings = _json(folder / "tokenizer_config.json")
        named = {name: value for name, value in settings.items() if name.endswith("_token") and isinstance(value, str | dict)}
        tokens = {name: value if isinstance(value, str) else value["content"] for name, value in named.items()}
        generation = _json(folder / "generation_config.json").get("eos_token_id") or []
        stops = set(generation if isinstance(generation, list) else [generation])
        stops |= {tokenizer.token_to_id(tokens.get("eos_token", ""))} - {None}
        if not stops:
            raise UserError("{folder} names no eos_token in tokenizer_config.json: its answers could never stop", folder=folder.name)
        return cls(tokenizer, (folder / "chat_template.jinja").read_text(encoding="utf-8"), tokens, frozenset(stops))

    @cached_property
    def eos_id(self) -> int:
        """The token that ends a text."""
        found = self.tokenizer.token_to_id(self.tokens.get("eos_token", ""))
        return min(self.stop_ids) if found is None else found

    @cached_property
    def pad_id(self) -> int:
        """The token that fills batches; it is masked wherever it stands."""
        found = self.tokenizer.token_to_id(self.tokens.get("pad_token", ""))
        return self.eos_id if found is None else found

    @property
    def knows_thinking(self) -> bool:
        """Whether the template can switch reasoning on or off."""
        return "enable_thinking" in self.template

    def render(self, messages: Messages, *, ask: bool = False, thinking: Thinking = "default") -> str:
        """The text of a conversation; `ask` adds the start of the assistant's turn. Raises UserError from the template."""
        given: dict[str, Any] = {"messages": messages, "add_generation_prompt": ask, "tools": None, "documents": None, **self.tokens}
        if thinking != "default":
            given["enable_thinking"] = thinking == "on"
        try:
            return str(self._compiled.render(given))
        except (TemplateError, TypeError, ValueError) as error:  # a template is a program: it may also just fail
            raise UserError("the chat template refuses this conversation: {why}", why=str(error) or type(error).__name__) from None

    def prompt_ids(self, messages: Messages, thinking: Thinking = "default") -> list[int]:
        """The tokens a model continues to answer."""
        return list(self.tokenizer.encode(self.render(messages, ask=True, thinking=thinking), add_special_tokens=False).ids)

    def opens_thought(self, messages: Messages, thinking: Thinking = "default") -> bool:
        """Whether the prompt ends inside a block of reasoning, so that what the model writes begins there."""
        return OPEN in self.template and self.render(messages, ask=True, thinking=thinking).rstrip().endswith(OPEN)

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """The text of tokens, without special ones unless asked for."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=not special))

    def split_thought(self, ids: Iterable[int], opened: bool) -> tuple[str, str]:
        """The reasoning and the answer in what a model wrote, also where this tokenizer's tags are special tokens."""
        tags = {self.tokenizer.token_to_id(tag): tag for tag in (OPEN, CLOSE)}
        parts = (tags[tag] if tag is not None else self.decode(group) for tag, group in groupby(ids, lambda id: id if id in tags else None))
        return split_thought("".join(parts), opened)

    def encode(self, messages: Messages, *, loss: Literal["response", "everything"] = "response", max_length: int | None = None) -> Encoded:
        """A conversation to learn from: every assistant turn, up to and including its stop token, or everything.

        Raises UserError if the template rewrites earlier turns, since then the turns cannot be told apart.
        """
        text = self.render(messages)
        return self._encode(text, [(0, len(text))] if loss == "everything" else self._answers(messages, text), max_length)

    def encode_text(self, text: str, *, max_length: int | None = None) -> Encoded:
        """Plain text and its end, everything learned from. It begins as this tokenizer begins a text."""
        whole = self._begin + text + self.tokens.get("eos_token", "")
        return self._encode(whole, [(0, len(whole))], max_length)

    def text_ids(self, text: str) -> list[int]:
        """The tokens of a plain text that goes on. It begins as this tokenizer begins a text."""
        return list(self.tokenizer.encode(self._begin + text, add_special_tokens=False).ids)

    @cached_property
    def _begin(self) -> str:
        """What this tokenizer puts before a text."""
        begin = self.tokens.get("bos_token", "")
        return begin if begin and self.tokenizer.token_to_id(begin) in self.tokenizer.encode("").ids else ""

    def _answers(self, messages: Messages, text: str) -> list[tuple[int, int]]:
        """Where the assistant's turns stand in the text, each with its stop token."""
        spans = []
        for turn, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            asked, told = self.render(messages[:turn], ask=True), self.render(messages[: turn + 1])
            if not told.startswith(asked) or not text.startswith(told):
                why = "the chat template changes earlier turns when turn {turn} is added, so answers cannot be marked: choose another"
                raise UserError(why, field="template", turn=turn + 1)
            spans.append((len(asked), self._end_of_turn(told, len(asked), message["content"].strip())))
        return spans

    def _end_of_turn(self, told: str, begin: int, content: str) -> int:
        """The end of the first stop token after the content; without one, the end of the text."""
        spoken = max(begin, told.find(content, begin) + len(content))  # a template may trim the content, or put thoughts before it
        return min((place + len(stop) for stop in self._stops if (place := told.find(stop, spoken)) >= 0), default=len(told))

    def _encode(self, text: str, learned: list[tuple[int, int]], max_length: int | None) -> Encoded:
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        ids, offsets = list(encoding.ids), list(encoding.offsets)
        labels = [id if any(low <= start < high for low, high in learned) else NO_LOSS for id, (start, _) in zip(ids, offsets, strict=True)]
        starts = [*(start for start, _ in offsets[1:]), len(text)]
        texts = [text[0 if place == 0 else offsets[place][0] : max(end, offsets[place][0])] for place, end in enumerate(starts)]
        kept = len(ids) if max_length is None else max_length
        return Encoded(ids[:kept], labels[:kept], len(ids) > kept, texts[:kept])

    @cached_property
    def _stops(self) -> list[str]:
        return [token for id in self.stop_ids if (token := self.tokenizer.id_to_token(id))]

    @cached_property
    def _compiled(self) -> Any:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        return environment.from_string(self.template)


def prompt_key(messages: Messages) -> str:
    """What joins the answers of several models to one prompt: 16 hex digits of its content."""
    canonical = json.dumps(messages, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def split_thought(text: str, opened: bool | None = None) -> tuple[str, str]:
    """The reasoning and the answer in a text that begins with <think>; a block that never closes leaves no answer.

    `opened`: the prompt had opened the block already. None: nobody knows, and a lone </think> is taken to end one.
    """
    begun = text.lstrip()
    inside = bool(opened) or begun.startswith(OPEN)
    thought, closed, answer = begun.removeprefix(OPEN).partition(CLOSE)
    if closed and (inside or opened is None):
        return thought.strip(), answer.lstrip()
    return (thought.strip(), "") if inside else ("", text)


class ThoughtStream:
    """The same for text that is still arriving."""

    def __init__(self, opened: bool = False) -> None:
        self._held = ""  # perhaps the beginning of a tag, or blanks before the answer
        self._part = "thought" if opened else "start"

    def hear(self, piece: str, last: bool = False) -> list[tuple[str, str]]:
        """What this piece adds, as ("thought" or "text", text)."""
        self._held += piece
        told: list[tuple[str, str]] = []
        if self._part == "start":
            begun = self._held.lstrip()
            if OPEN.startswith(begun[: len(OPEN)]) and len(begun) < len(OPEN) and not last:
                return told
            inside = begun.startswith(OPEN)
            self._part, self._held = ("thought", begun.removeprefix(OPEN)) if inside else ("text", self._held)
        if self._part == "thought":
            thought, closed, rest = self._held.partition(CLOSE)
            keep = 0 if closed or last else next(n for n in range(len(CLOSE) - 1, -1, -1) if thought.endswith(CLOSE[:n]))
            told, self._held = [("thought", thought[: len(thought) - keep])], thought[len(thought) - keep :]
            if closed:
                self._part, self._held = "gap", rest
        if self._part == "gap" and (answer := self._held.lstrip()):
            self._part, self._held = "text", answer
        if self._part == "text":
            told.append(("text", self._held))
            self._held = ""
        return [(part, text) for part, text in told if text]


def count_tokens(token_ids: Sequence[int], extra: Mapping[str, Any]) -> int | None:
    """How many tokens an answer has: its own, or as many as whoever wrote it counted; None if nobody did."""
    return len(token_ids) or extra.get("tokens")


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


class _Generation(Extension):
    """`{% generation %}` marks answers in some templates; it renders as what it holds."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> None:
    raise TemplateError(message)
