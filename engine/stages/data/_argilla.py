"""Rankings as Argilla has them: a record with a RankingQuestion, and what each user answered.

Written is the record of a FeedbackDataset, as Argilla puts it on the hub: {"user_id", "value": {"rank", "value"}, "status"},
in which a tie is an equal rank. Read are those, and what Argilla 2 exports, nested or flat; there a ranking is a list of
names, best first, and its ties are lost. "rank" and "value" go together by place: neither alone is an order.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from engine.rankings import OVERALL, Asked, Said
from engine.stages.data._formats import BadRow, Row
from engine.stages.data._ranked_rows import SKIP, TEXTS, UNKNOWN, Ranked, as_text, ask, ask_of, in_tiers, item, questions, whole


class Answered(NamedTuple):
    """What one user answered to one question."""

    question: str
    user: str
    value: Any
    status: str


def write(asked: Asked, labels: Sequence[Said], criteria: Sequence[str]) -> Row:
    """An item with its labels as a record. Users are ids there: the metadata says whose."""
    names = [f"response-{number}" for number in range(1, len(asked.choices) + 1)]
    users = {one.rater: str(uuid5(NAMESPACE_URL, f"rater:{one.rater}")) for one in labels}
    metadata: Row = {"raters": {user: rater for rater, user in users.items()}, "criteria": questions(criteria)}
    if len(asked.prompt) > 1 or asked.prompt[0]["role"] != "user":
        metadata["prompt"] = asked.prompt
    row: Row = {"prompt": as_text(asked.prompt)} | {name: choice.text for name, choice in zip(names, asked.choices, strict=True)}
    for question, criterion in questions(criteria).items():
        row[question] = []
        for one in labels:
            rank = {key: place for place, tier in enumerate(one.tiers.get(criterion, ()), 1) for key in tier}
            value = {"rank": [rank[choice.key] for choice in asked.choices], "value": names} if rank else None
            if value or one.act == SKIP:
                row[question].append({"user_id": users[one.rater], "value": value, "status": "submitted" if value else "discarded"})
    for name in TEXTS:
        told = [(one.rater, text) for one in labels if (text := getattr(one, name))]
        row[name] = [{"user_id": users[rater], "value": text, "status": "submitted"} for rater, text in told]
    return row | {"external_id": f"item-{asked.id}", "metadata": json.dumps(metadata, ensure_ascii=False)}


def recognised(row: Row) -> bool:
    """Whether a row is a record of Argilla."""
    nested = isinstance(row.get("fields"), dict) and "responses" in row
    return nested or any(name.endswith(".responses") or _is_old(value) for name, value in row.items())


def read(row: Row) -> Ranked | None:
    """A record as an item with its labels; None where nobody ranked. Raises BadRow."""
    metadata = _metadata(row)
    fields = row["fields"] if isinstance(row.get("fields"), dict) else row
    raters, criteria = (told if isinstance(told := metadata.get(name), dict) else {} for name in ("raters", "criteria"))
    answered = [one._replace(user=str(raters.get(one.user, one.user))) for one in _answered(row)]
    orders = [(one, order) for one in answered if one.status != "draft" and (order := _order(one.value, fields))]
    if not orders:
        return None
    names = list(dict.fromkeys(name for _, order in orders for tier in order for name in tier))
    if unknown := [name for name in names if not isinstance(fields.get(name), str)]:
        raise BadRow(f"{unknown[0]!r} is ranked, and no field of that name holds an answer")
    texts = {name: str(fields[name]) for name in names}
    asked = item(ask(metadata["prompt"]) if "prompt" in metadata else ask_of(fields, names), list(texts.values()))
    known = list(dict.fromkeys(one.question for one, _ in orders))
    criteria = criteria or ({known[0]: OVERALL} if len(known) == 1 else {})
    found: dict[str, Said] = {}
    for user in dict.fromkeys(one.user for one in answered):
        own = {str(criteria.get(one.question, one.question)): whole(order, texts, user) for one, order in orders if one.user == user}
        words = {one.question: one.value for one in answered if one.user == user and isinstance(one.value, str)}
        if own:
            found[user] = Said(0, user, tiers=own, comment=words.get("comment", ""), better=words.get("better", ""))
        elif any(one.user == user and one.status == "discarded" for one in answered):
            found[user] = Said(0, user, SKIP, reason="discarded")
    return asked, list(found.values())


def _answered(row: Row) -> Iterator[Answered]:
    nested = row.get("responses") if isinstance(row.get("fields"), dict) else None
    columns = nested if isinstance(nested, dict) else row
    for name, value in columns.items():
        if _is_old(value):
            for one in value:
                yield Answered(name, str(one.get("user_id") or UNKNOWN), one.get("value"), str(one.get("status") or "submitted"))
        elif name.endswith(".responses") and isinstance(value, list):
            users, states = (some if isinstance(some := row.get(f"{name}.{what}"), list) else [] for what in ("users", "status"))
            for place, one in enumerate(value):
                user, state = (some[place] if place < len(some) else None for some in (users, states))
                yield Answered(name.removesuffix(".responses"), str(user or UNKNOWN), one, str(state or "submitted"))


def _is_old(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and {"value", "user_id"} <= set(one) for one in value)


def _order(value: Any, fields: Mapping[str, Any]) -> list[list[str]] | None:
    """What an answer ranks, best first; None for an answer to a question of another kind. Raises BadRow."""
    if isinstance(value, dict) and {"rank", "value"} <= set(value):
        names, ranks = value["value"], value["rank"]
        if not isinstance(names, list) or not isinstance(ranks, list) or len(names) != len(ranks):
            raise BadRow("a ranking has not as many ranks as values")
        return in_tiers(list(map(str, names)), ranks)
    if not isinstance(value, list) or len(value) < 2:
        return None
    if all(isinstance(one, dict) and "value" in one for one in value):
        ranks = [place if one.get("rank") is None else one["rank"] for place, one in enumerate(value, 1)]
        return in_tiers([str(one["value"]) for one in value], ranks)
    named = all(isinstance(one, str) for one in value) and any(one in fields for one in value)
    return [[str(one)] for one in value] if named else None


def _metadata(row: Row) -> Row:
    told = row.get("metadata")
    if isinstance(told, str):
        try:
            told = json.loads(told)
        except ValueError:
            return {}
    return told if isinstance(told, dict) else {}
