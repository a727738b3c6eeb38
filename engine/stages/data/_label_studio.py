"""Rankings as Label Studio has them: a task with a List of answers, and each annotator's Ranker, or Pairwise, result.

A Ranker's result names buckets with the ids in them. Buckets rank-1, rank-2 ... are tiers, ids in one of them are tied; a
single bucket of another name is an order from its top. Other buckets are kinds of answers, and say no order.
"""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from engine.rankings import OVERALL, Asked, Said, key_of
from engine.stages.data._formats import BadRow, Row
from engine.stages.data._ranked_rows import SKIP, TEXTS, UNKNOWN, Ranked, as_text, ask, ask_of, item, questions, whole

TIER = re.compile(r"(?:rank|tier|place)?[ _-]?(\d{1,2})", re.IGNORECASE)
# What the two texts of a comparison are called, where the result does not say.
WORDS = ("text", "answer", "response", "answer_", "response_", "output_")
SIDES = [(f"{word}{one}", f"{word}{two}") for word in WORDS for one, two in ("12", "ab")]


def write(asked: Asked, labels: Sequence[Said], criteria: Sequence[str]) -> Row:
    """An item with its labels as an annotated task. Nothing in it names who answered."""
    answers = [{"id": choice.key, "title": f"Answer {number}", "body": choice.text} for number, choice in enumerate(asked.choices, 1)]
    data: Row = {"prompt": as_text(asked.prompt), "messages": asked.prompt, "items": answers, "criteria": questions(criteria)}
    return {"id": asked.id, "data": data, "annotations": [_annotation(one, criteria) for one in labels], "predictions": []}


def config(criteria: Sequence[str], most: int) -> str:
    """The labelling interface for such tasks, with as many buckets as there can be ranks."""
    buckets = "".join(f'\n    <Bucket name="rank-{n}" title="Rank {n}"/>' for n in range(1, most + 1))
    rankers = "".join(
        f'\n  <Header value="{escape(criterion)}"/>\n  <Ranker name="{name}" toName="answers">{buckets}\n  </Ranker>'
        for name, criterion in questions(criteria).items()
    )
    texts = "".join(f'\n  <TextArea name="{name}" toName="prompt" placeholder="{name}"/>' for name in TEXTS)
    return f'<View>\n  <Text name="prompt" value="$prompt"/>\n  <List name="answers" value="$items"/>{rankers}{texts}\n</View>\n'


def recognised(row: Row) -> bool:
    """Whether a row is a task of Label Studio."""
    return isinstance(row.get("data"), dict) and ("annotations" in row or "predictions" in row)


def read(row: Row) -> Ranked | None:
    """A task as an item with its labels; None where nobody annotated it. Raises BadRow."""
    data, annotations = row["data"], row.get("annotations")
    results = [one for one in annotations or [] if isinstance(one, dict)] if isinstance(annotations, list) else []
    said = [(_person(one.get("completed_by")), one, _results(one)) for one in results]
    said = [one for one in said if one[2] or one[1].get("was_cancelled")]
    if not said:
        return None
    texts, by = _answers(data, [result for _, _, found in said for result in found])
    asked = item(ask(data["messages"]) if isinstance(data.get("messages"), list) else ask_of(data, list(texts)), list(texts.values()), by)
    known = list(dict.fromkeys(result["from_name"] for _, _, found in said for result in found))
    criteria = data["criteria"] if isinstance(data.get("criteria"), dict) else {known[0]: OVERALL} if len(known) == 1 else {}
    return asked, [_said(rater, one, found, texts, criteria) for rater, one, found in said]


def _annotation(said: Said, criteria: Sequence[str]) -> Row:
    results: list[Row] = []
    for name, criterion in questions(criteria).items():
        if order := said.tiers.get(criterion):
            buckets = {f"rank-{place}": list(tier) for place, tier in enumerate(order, 1)}
            results.append({"from_name": name, "to_name": "answers", "type": "ranker", "value": {"ranker": buckets}})
    for name in TEXTS:
        if text := getattr(said, name):
            results.append({"from_name": name, "to_name": "prompt", "type": "textarea", "value": {"text": [text]}})
    return {
        "completed_by": {"email": said.rater},
        "was_cancelled": said.act == SKIP,
        "ground_truth": False,
        "lead_time": said.active_ms / 1000,
        "result": [{"id": f"{said.item}-{said.id}-{number}"} | result for number, result in enumerate(results)],
    }


def _said(rater: str, annotation: Row, results: list[Row], texts: dict[str, str], criteria: Row) -> Said:
    if annotation.get("was_cancelled"):
        return Said(0, rater, SKIP, reason="skipped")
    own = {str(criteria.get(one["from_name"], one["from_name"])): whole(_order(one, list(texts)), texts, rater) for one in results}
    spent = annotation.get("lead_time")
    spent = round(1000 * spent) if isinstance(spent, int | float) and 0 <= spent < 1e6 else 0
    return Said(0, rater, tiers=own, active_ms=spent, comment=_words(annotation, "comment"), better=_words(annotation, "better"))


def _person(completed_by: Any) -> str:
    known = completed_by if isinstance(completed_by, dict) else {"id": completed_by}
    named = known.get("email") or known.get("username") or known.get("id")
    return UNKNOWN if named is None else str(named)


def _results(annotation: Row) -> list[Row]:
    """What ranks something in an annotation."""
    found = [one for one in _told(annotation) if one.get("type") in ("ranker", "pairwise")]
    return [one | {"from_name": str(one.get("from_name"))} for one in found]


def _told(annotation: Row) -> list[Row]:
    results = annotation.get("result")
    return [one for one in results if isinstance(one, dict) and isinstance(one.get("value"), dict)] if isinstance(results, list) else []


def _words(annotation: Row, name: str) -> str:
    """What an annotator wrote under this name."""
    for one in _told(annotation):
        if one.get("from_name") == name:
            text = one["value"].get("text")
            return "\n".join(map(str, text)) if isinstance(text, list) else str(text or "")
    return ""


def _answers(data: Row, results: list[Row]) -> tuple[dict[str, str], list[str]]:
    """The answers of a task by their ids, and who gave each, which is what an id says if it was not made of the text."""
    lists = [some for some in (data.get("items"), *data.values()) if isinstance(some, list) and some]
    items = next((some for some in lists if all(isinstance(one, dict) and "id" in one for one in some)), None)
    if items is not None:
        texts = {str(one["id"]): one.get("body") or one.get("text") or one.get("html") or one.get("title") for one in items}
        if len(texts) < len(items):
            raise BadRow("two answers have one id")
        by = [str(one.get("model") or ("" if str(one["id"]) == key_of(str(texts[str(one["id"])])) else one["id"])) for one in items]
        return texts, by
    named = [tuple(str(one.get("to_name", "")).split(",")) for one in results if one["type"] == "pairwise"]
    sides = next((pair for pair in [*named, *SIDES] if len(pair) == 2 and all(isinstance(data.get(name), str) for name in pair)), None)
    if sides is None:
        raise BadRow(f"no list of answers with ids, and no two texts to compare, among {', '.join(map(str, data)) or 'no data'}")
    return {name: data[name] for name in sides}, list(sides)


def _order(result: Row, names: list[str]) -> list[list[str]]:
    """The answers' ids that a result ranks, best first. Raises BadRow."""
    value = result["value"]
    if result["type"] == "pairwise":
        if value.get("selected") not in ("left", "right") or len(names) != 2:
            raise BadRow("a comparison selects neither the left nor the right of two answers")
        return [[name] for name in (names if value["selected"] == "left" else names[::-1])]
    ranker = value.get("ranker")
    buckets = {"": ranker} if isinstance(ranker, list) else ranker if isinstance(ranker, dict) else {}
    filled = {str(name): list(map(str, ids)) for name, ids in buckets.items() if isinstance(ids, list) and ids}
    if not filled:
        raise BadRow("a Ranker's result ranks nothing")
    if all(TIER.fullmatch(name) for name in filled):
        return [filled[name] for name in sorted(filled, key=lambda name: int(TIER.fullmatch(name)[1]))]  # type: ignore[index]
    if len(filled) > 1:
        raise BadRow(f"the buckets {', '.join(filled)} say no order: call them rank-1, rank-2 and so on, the best first")
    return [[id] for id in next(iter(filled.values()))]
