"""Row layouts people have, recognised and brought into the one layout each format has here.

Recognised: TRL's formats (text; prompt/completion; messages; preference, explicit and implicit; unpaired; prompts),
Alpaca (instruction/input/output), ShareGPT (conversations of from/value) and our own rankings of several answers (tiers).
Plain strings become messages.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable
from itertools import pairwise, takewhile
from typing import Any

from engine.chat import prompt_key

Row = dict[str, Any]
ROLES = {"system": "system", "user": "user", "human": "user"} | dict.fromkeys(("assistant", "gpt", "bot", "model"), "assistant")
LABELS = {"true": True, "1": True, "false": False, "0": False}


class BadRow(ValueError):
    """Why a row cannot be used."""


def recognise(columns: set[str]) -> str | None:
    """The layout whose columns these are, or None."""
    return next((name for name, (needs, _, _) in LAYOUTS.items() if needs <= columns), None)


def layout_format(layout: str) -> str:
    """The format a layout's rows are stored in: messages, preference, unpaired, tiers, prompts, text."""
    return LAYOUTS[layout][1]


def convert(layout: str, row: Row) -> Row:
    """One row in its format's layout. Other columns are kept, but for a second prompt or conversation, since
    those two names say how a stored row is read. Raises BadRow with the reason."""
    needs, _, make = LAYOUTS[layout]
    missing = sorted(needs - {name for name, value in row.items() if value is not None})
    if missing:
        raise BadRow(f"{' and '.join(missing)} is missing or empty")
    used = needs | USED.get(layout, set()) | {"prompt", "messages"}
    return make(row) | {name: value for name, value in row.items() if name not in used and value is not None}


def identity(layout: str, row: Row) -> str:
    """What two stored rows share when one is a duplicate of the other; of rankings all of it, since several people may agree."""
    names = FIELDS.get(layout_format(layout))
    held = [row[name] for name in names] if names else row
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


def prompt_of(row: Row) -> str:
    """What a stored row asks, as one key: its messages before the first answer, or its text."""
    if "messages" in row:
        first = next((i for i, turn in enumerate(row["messages"]) if turn["role"] == "assistant"), len(row["messages"]))
        return prompt_key(row["messages"][:first])
    return prompt_key(row["prompt"]) if "prompt" in row else str(row["text"])


def _turns(value: Any, what: str) -> list[Row]:
    """Messages from a list of role/content or from/value turns; a system message only first, the others alternating."""
    if not isinstance(value, list) or not value:
        raise BadRow(f"{what} is not a list of messages")
    turns = [_message(turn, what) for turn in value]
    if any(turn["role"] == "system" for turn in turns[1:]):
        raise BadRow(f"{what} has a system message that is not the first")
    for one, two in pairwise(turns):
        if one["role"] == two["role"]:
            raise BadRow(f"two {one['role']} messages follow each other")
    return turns


def _message(turn: Any, what: str) -> Row:
    if not isinstance(turn, dict):
        raise BadRow(f"{what} holds a {type(turn).__name__} where a message should be")
    said = turn.get("role") or turn.get("from")
    role = ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        raise BadRow(f"{what} has the role {str(said)[:40]!r}; known are system, user and assistant")
    content = turn["content"] if turn.get("content") is not None else turn.get("value")
    return {"role": role, "content": _text(content, f"the {role} message")}


def _text(value: Any, what: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadRow(f"{what} is empty")
    if not isinstance(value, str):
        raise BadRow(f"{what} is a {type(value).__name__}, not a text")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise BadRow(f"{what} is not UTF-8 text")
    return value


def _ask(value: Any) -> list[Row]:
    """A prompt: a text, or messages that begin and end with the user."""
    turns = _turns(value, "prompt") if isinstance(value, list) else [{"role": "user", "content": _text(value, "prompt")}]
    if turns[-1]["role"] != "user":
        raise BadRow("prompt does not end with the user")
    return _begins_with_user(turns)


def _answer(value: Any, what: str, prompt: list[Row]) -> list[Row]:
    """An answer: a text, or messages that end with the assistant. Some data sets repeat the prompt in it."""
    turns = _turns(value, what) if isinstance(value, list) else [{"role": "assistant", "content": _text(value, what)}]
    if turns[-1]["role"] != "assistant":
        raise BadRow(f"{what} does not end with the assistant")
    turns = turns[len(prompt) :] if turns[: len(prompt)] == prompt else turns
    if turns[0]["role"] != "assistant":
        raise BadRow(f"{what} does not begin with the assistant")
    return turns


def _begins_with_user(turns: list[Row]) -> list[Row]:
    first = next((turn for turn in turns if turn["role"] != "system"), None)
    if first is None or first["role"] != "user":
        raise BadRow("the first message, or the first after the system message, is not the user's")
    return turns


def _conversation(column: str) -> Callable[[Row], Row]:
    def make(row: Row) -> Row:
        turns = _turns(row[column], column)
        if not any(turn["role"] == "assistant" for turn in turns):
            raise BadRow("no assistant message to learn from")
        return {"messages": _begins_with_user(turns)}

    return make


def _pair(row: Row) -> Row:
    prompt = _ask(row["prompt"])
    return {"messages": prompt + _answer(row["completion"], "completion", prompt)}


def _alpaca(row: Row) -> Row:
    extra, system = row.get("input"), row.get("system")
    ask = _text(row["instruction"], "instruction") + (f"\n\n{_text(extra, 'input')}" if extra and str(extra).strip() else "")
    start = [{"role": "system", "content": _text(system, "system")}] if system and str(system).strip() else []
    return {"messages": [*start, {"role": "user", "content": ask}, {"role": "assistant", "content": _text(row["output"], "output")}]}


def _preference(row: Row) -> Row:
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if prompt is None:
        prompt, chosen, rejected = _shared_beginning(chosen, rejected)
    prompt = _ask(prompt)
    chosen, rejected = _answer(chosen, "chosen", prompt), _answer(rejected, "rejected", prompt)
    if chosen == rejected:
        raise BadRow("chosen and rejected are the same")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | _numbers(row, *sorted(MEASURES))


def _numbers(row: Row, *names: str) -> Row:
    """These columns as numbers, where the row has them; a file may have written them as text."""
    found = {}
    for name in names:
        if (value := row.get(name)) is None:
            continue
        try:
            found[name] = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            found[name] = math.nan
        if not math.isfinite(found[name]):
            raise BadRow(f"{name} is {str(value)[:40]!r}, not a number")
    if found.get("weight", 1) <= 0:
        raise BadRow(f"weight is {found['weight']:g}, and a pair that counts for nothing teaches nothing: it must be above 0")
    return found


def _tiers(row: Row) -> Row:
    responses, tiers = row["responses"], row["tiers"]
    if not isinstance(responses, list) or len(responses) < 2:
        raise BadRow("responses is not a list of two or more answers")
    texts = [_text(text, f"response {place}") for place, text in enumerate(responses)]
    if len(set(texts)) < len(texts):
        raise BadRow("two responses are the same")
    if not isinstance(tiers, list) or not all(isinstance(tier, list) and tier for tier in tiers):
        raise BadRow("tiers is not a list of lists of responses by number, best first, none of them empty")
    placed = [place for tier in tiers for place in tier]
    if unknown := [place for place in placed if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(texts)]:
        raise BadRow(f"tiers names response {str(unknown[0])[:40]}, and they are numbered 0 to {len(texts) - 1}")
    if twice := [place for place in range(len(texts)) if placed.count(place) != 1]:
        raise BadRow(f"response {twice[0]} has {placed.count(twice[0]) or 'no'} places in tiers; each needs one")
    return {"prompt": _ask(row["prompt"]), "responses": texts, "tiers": tiers}


def _shared_beginning(chosen: Any, rejected: Any) -> tuple[Any, Any, Any]:
    """Without a prompt, what both begin with is it: whole words of two texts, whole messages of two conversations."""
    if chosen == rejected:
        raise BadRow("chosen and rejected are the same")
    chosen, rejected = _dialogue(chosen), _dialogue(rejected)
    texts = isinstance(chosen, str) and isinstance(rejected, str)
    if not texts:
        chosen, rejected = _turns(chosen, "chosen"), _turns(rejected, "rejected")
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    if texts:
        same = chosen.rfind(" ", 0, same) + 1
    shared, chosen, rejected = (part.strip() if texts else part for part in (chosen[:same], chosen[same:], rejected[same:]))
    if not shared:
        raise BadRow("chosen and rejected share no beginning, so there is no prompt")
    if not chosen or not rejected:
        raise BadRow("chosen or rejected is all prompt: the other begins with it")
    if not texts and "user" in (chosen[0]["role"], rejected[0]["role"]):
        raise BadRow("chosen and rejected answer different prompts")
    return shared, chosen, rejected


def _dialogue(value: Any) -> Any:
    """The messages of a text in which "Human:" and "Assistant:" take turns, as in Anthropic's HH-RLHF; anything else as it is."""
    start, *parts = re.split(r"(?:\A|\n\n)\s*(Human|Assistant):", value) if isinstance(value, str) else [value]
    if not parts or start.strip() or "Assistant" not in parts:
        return value
    return [{"role": ROLES[who.lower()], "content": said.strip()} for who, said in zip(parts[::2], parts[1::2], strict=True)]


def _unpaired(row: Row) -> Row:
    label = LABELS.get(str(row["label"]).strip().lower())
    if label is None:
        raise BadRow(f"label is {str(row['label'])[:40]!r}, not true or false")
    prompt = _ask(row["prompt"])
    return {"prompt": prompt, "completion": _answer(row["completion"], "completion", prompt), "label": label}


# Layouts by name: the columns that make it, the format it is stored in, and how. The first that fits is taken.
LAYOUTS: dict[str, tuple[set[str], str, Callable[[Row], Row]]] = {
    "preference": ({"prompt", "chosen", "rejected"}, "preference", _preference),
    "preference (implicit prompt)": ({"chosen", "rejected"}, "preference", _preference),
    "tiers": ({"prompt", "responses", "tiers"}, "tiers", _tiers),
    "messages": ({"messages"}, "messages", _conversation("messages")),
    "sharegpt": ({"conversations"}, "messages", _conversation("conversations")),
    "unpaired": ({"prompt", "completion", "label"}, "unpaired", _unpaired),
    "prompt/completion": ({"prompt", "completion"}, "messages", _pair),
    "alpaca": ({"instruction", "output"}, "messages", _alpaca),
    "prompts": ({"prompt"}, "prompts", lambda row: {"prompt": _ask(row["prompt"])}),
    "text": ({"text"}, "text", lambda row: {"text": _text(row["text"], "text")}),
}
MEASURES = {"margin", "weight"}
USED = {"alpaca": {"input", "system"}, "preference": MEASURES, "preference (implicit prompt)": MEASURES}  # what else it takes up
FIELDS = {
    "messages": ("messages",),
    "preference": ("prompt", "chosen", "rejected"),
    "unpaired": ("prompt", "completion", "label"),
    "prompts": ("prompt",),
    "text": ("text",),
}
