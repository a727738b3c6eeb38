"""Row layouts people have, recognised and brought into the one layout each format has here.

Recognised: TRL's formats (text; prompt/completion; messages; preference, explicit and implicit; unpaired; prompts),
Alpaca (instruction/input/output) and ShareGPT (conversations of from/value). Plain strings become messages.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

Row = dict[str, Any]
ROLES = {"system": "system", "user": "user", "human": "user"} | dict.fromkeys(("assistant", "gpt", "bot", "model"), "assistant")


class BadRow(ValueError):
    """Why a row cannot be used."""


def recognise(columns: set[str]) -> str | None:
    """The layout whose columns these are, or None."""
    return next((name for name, (needs, _, _) in LAYOUTS.items() if needs <= columns), None)


def layout_format(layout: str) -> str:
    """The format a layout's rows are stored in: messages, preference, unpaired, prompts, text."""
    return LAYOUTS[layout][1]


def convert(layout: str, row: Row) -> Row:
    """One row in its format's layout; other columns are kept. Raises BadRow with the reason."""
    needs, _, make = LAYOUTS[layout]
    missing = sorted(needs - {name for name, value in row.items() if value is not None})
    if missing:
        raise BadRow(f"{' and '.join(missing)} is missing or empty")
    rest = {name: value for name, value in row.items() if name not in needs | USED.get(layout, set()) and value is not None}
    return make(row) | rest


def conversation(value: Any, what: str) -> list[Row]:
    """Messages from a list of role/content or from/value turns, or one user turn from a string."""
    if isinstance(value, str):
        return [{"role": "user", "content": _text(value, what)}]
    if not isinstance(value, list) or not value:
        raise BadRow(f"{what} is not a text and not a list of messages")
    return [_message(turn, what) for turn in value]


def _message(turn: Any, what: str) -> Row:
    if not isinstance(turn, dict):
        raise BadRow(f"{what} holds a {type(turn).__name__} where a message should be")
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if role not in ROLES:
        raise BadRow(f"{what} has the role {role!r}; known are system, user and assistant")
    return {"role": ROLES[role], "content": _text(content, f"the {ROLES[role]} message")}


def _answer(value: Any, what: str) -> list[Row]:
    if isinstance(value, str):
        return [{"role": "assistant", "content": _text(value, what)}]
    turns = conversation(value, what)
    if turns[-1]["role"] != "assistant":
        raise BadRow(f"{what} does not end with the assistant")
    return turns


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f"{what} is a {type(value).__name__}, not a text")
    if not value.strip():
        raise BadRow(f"{what} is empty")
    return value


def _turns_make_sense(messages: list[Row]) -> list[Row]:
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    if not any(turn["role"] == "assistant" for turn in turns):
        raise BadRow("no assistant message to learn from")
    if not turns or turns[0]["role"] != "user":
        raise BadRow("the first message after the system message is not the user's")
    for one, two in pairwise(turns):
        if one["role"] == two["role"]:
            raise BadRow(f"two {one['role']} messages follow each other")
    return messages


def _messages(row: Row) -> Row:
    return {"messages": _turns_make_sense(conversation(row["messages"], "messages"))}


def _sharegpt(row: Row) -> Row:
    return {"messages": _turns_make_sense(conversation(row["conversations"], "conversations"))}


def _pair(row: Row) -> Row:
    return {"messages": _turns_make_sense(conversation(row["prompt"], "prompt") + _answer(row["completion"], "completion"))}


def _alpaca(row: Row) -> Row:
    extra = row.get("input")
    ask = _text(row["instruction"], "instruction") + (f"\n\n{extra}" if isinstance(extra, str) and extra.strip() else "")
    system = row.get("system")
    start = [{"role": "system", "content": system}] if isinstance(system, str) and system.strip() else []
    return {"messages": [*start, {"role": "user", "content": ask}, {"role": "assistant", "content": _text(row["output"], "output")}]}


def _preference(row: Row) -> Row:
    chosen, rejected = _answer(row["chosen"], "chosen"), _answer(row["rejected"], "rejected")
    if "prompt" in row and row["prompt"] is not None:
        prompt = conversation(row["prompt"], "prompt")
    else:  # implicit: the shared beginning of both is the prompt
        shared = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected)))
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        if not prompt:
            raise BadRow("chosen and rejected share no beginning, so there is no prompt")
    if chosen == rejected or not chosen or not rejected:
        raise BadRow("chosen and rejected are the same")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _unpaired(row: Row) -> Row:
    if not isinstance(row["label"], bool):
        raise BadRow(f"label is {row['label']!r}, not true or false")
    return {"prompt": conversation(row["prompt"], "prompt"), "completion": _answer(row["completion"], "completion"), "label": row["label"]}


def _prompt(row: Row) -> Row:
    return {"prompt": conversation(row["prompt"], "prompt")}


# Layouts by name: the columns that make it, the format it is stored in, and how. The first that fits is taken.
LAYOUTS: dict[str, tuple[set[str], str, Callable[[Row], Row]]] = {
    "messages": ({"messages"}, "messages", _messages),
    "sharegpt": ({"conversations"}, "messages", _sharegpt),
    "preference": ({"prompt", "chosen", "rejected"}, "preference", _preference),
    "preference (implicit prompt)": ({"chosen", "rejected"}, "preference", _preference),
    "unpaired": ({"prompt", "completion", "label"}, "unpaired", _unpaired),
    "prompt/completion": ({"prompt", "completion"}, "messages", _pair),
    "alpaca": ({"instruction", "output"}, "messages", _alpaca),
    "prompts": ({"prompt"}, "prompts", _prompt),
    "text": ({"text"}, "text", lambda row: {"text": _text(row["text"], "text")}),
}
USED = {"alpaca": {"input", "system"}}  # optional columns a layout takes up
