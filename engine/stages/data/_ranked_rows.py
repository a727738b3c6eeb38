"""What rankings look like in files: every reader here makes one item and its labels of a row, or says why it cannot.

Answers get keys made of their texts, as those of a project do, so rows of one prompt and the same answers meet in one item.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine.chat import Messages, prompt_key
from engine.rankings import MOST, OVERALL, STRENGTHS, Asked, Choice, Said, Tiers, key_of
from engine.stages.data._formats import BadRow, Row, convert, recognise
from engine.stages.data.import_responses import PROMPTS

Ranked = tuple[Asked, list[Said]]
UNKNOWN = "imported"  # who ranked or answered, where the file does not say
SKIP, SETTLE = "skip", "settle"
TEXTS = ("comment", "better")  # what a label says in words, as other tools ask it


def item(prompt: Messages, texts: Sequence[str], by: Sequence[str] = ()) -> Asked:
    """An item of these answers. Raises BadRow if they are too few, too many, empty or the same."""
    if not 2 <= len(texts) <= MOST:
        raise BadRow(f"{len(texts)} answers, where 2 to {MOST} can be ranked")
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise BadRow("an answer is empty, or is not a text")
    if len(set(texts)) < len(texts):
        raise BadRow("two answers are the same")
    names = [str(name or UNKNOWN) for name in by] or [UNKNOWN] * len(texts)
    choices = (Choice(key_of(text), text, name) for text, name in zip(texts, names, strict=True))
    return Asked(0, "normal", prompt_key(prompt), prompt, tuple(sorted(choices, key=lambda one: one.key)))


def ask(prompt: Any) -> Messages:
    """A prompt as an import would store it. Raises BadRow."""
    return list(convert("prompts", {"prompt": prompt})["prompt"])


def ask_of(fields: dict[str, Any], answers: Sequence[str] = ()) -> Messages:
    """The prompt among fields of any name. Raises BadRow."""
    named = [name for name in PROMPTS if fields.get(name) and name not in answers]
    if not named:
        there = ", ".join(map(str, fields)) or "none"
        raise BadRow(f"no field is a prompt: one of {', '.join(PROMPTS)} is looked for, and there are {there}")
    return ask(fields[named[0]])


def as_text(prompt: Messages) -> str:
    """A prompt as one text, for tools that show nothing else."""
    return str(prompt[0]["content"]) if len(prompt) == 1 else "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)


def questions(criteria: Sequence[str]) -> dict[str, str]:
    """Names for the rankings by each criterion that any tool takes, which a criterion's own may not be."""
    return {"ranking": OVERALL} if list(criteria) == [OVERALL] else {f"ranking-{n}": name for n, name in enumerate(criteria, 1)}


def ours(row: Row) -> Ranked:
    """A row of our tiers format: one rater's ranking by one criterion. Raises BadRow."""
    good = convert("tiers", row)
    keys, by = [key_of(text) for text in good["responses"]], row.get("by")
    asked = item(good["prompt"], good["responses"], by if isinstance(by, list) and len(by) == len(keys) else ())
    if row.get("gold"):
        asked = replace(asked, kind="gold", wanted=0, gold=_keyed(keys, convert("tiers", row | {"tiers": row["gold"]})["tiers"]))
    order, above, flags, shown = _keyed(keys, good["tiers"]), row.get("accepted_above"), row.get("flags"), row.get("shown")
    if above is not None and (not _is_whole(above) or not 0 <= above <= len(order)):
        raise BadRow(f"accepted_above is {str(above)[:40]}, where 0 to {len(order)} tiers can be acceptable")
    if flags is not None and not (isinstance(flags, list) and len(flags) == len(keys) and all(isinstance(words, list) for words in flags)):
        raise BadRow(f"flags is not a list of words for each of {len(keys)} responses")
    if shown and (not isinstance(shown, list) or not all(map(_is_whole, shown)) or sorted(shown) != list(range(len(keys)))):
        raise BadRow("shown does not name each response once")
    act = SETTLE if row.get("act") == SETTLE else "rank"
    said = Said(
        0, _rater(row), act, {str(row.get("criterion") or OVERALL): order}, accepted_above=above, strength=_strength(row),
        better=str(row.get("better") or ""), comment=str(row.get("comment") or ""),
        flags={key: list(map(str, words)) for key, words in zip(keys, flags or [], strict=bool(flags)) if words},
        shown=tuple(keys[place] for place in shown or ()), active_ms=row["active_ms"] if _is_whole(row.get("active_ms")) else 0,
    )  # fmt: skip
    return asked, [said]


def pair(row: Row) -> Ranked:
    """A preference pair, as an item of two answers that somebody ranked. Raises BadRow."""
    layout = recognise(set(row) - {"responses"})
    if layout not in ("preference", "preference (implicit prompt)"):
        raise BadRow("it has no chosen and rejected answer")
    good = convert(layout, row)
    for side in ("chosen", "rejected"):
        if len(good[side]) > 1:
            raise BadRow(f"{side} has {len(good[side])} messages after the prompt, where one answer can be ranked")
    texts = [str(good[side][0]["content"]) for side in ("chosen", "rejected")]
    asked = item(good["prompt"], texts, [row.get("chosen_by") or UNKNOWN, row.get("rejected_by") or UNKNOWN])
    order = tuple((key_of(text),) for text in texts)
    return asked, [Said(0, _rater(row), tiers={str(row.get("criterion") or OVERALL): order}, strength=_strength(row))]


def in_tiers(names: Sequence[str], ranks: Sequence[Any]) -> list[list[str]]:
    """Names by their ranks, the lowest first; equal ranks are a tie. Raises BadRow."""
    if wrong := [rank for rank in ranks if isinstance(rank, bool) or not isinstance(rank, int | float)]:
        raise BadRow(f"a rank is {str(wrong[0])[:40]!r}, not a number")
    return [[name for name, rank in zip(names, ranks, strict=True) if rank == level] for level in sorted(set(ranks))]


def whole(order: list[list[str]], texts: dict[str, str], who: str) -> Tiers:
    """An order of answers' names as tiers of keys. Raises BadRow if it is not each of these answers once."""
    placed = [name for tier in order for name in tier]
    if unknown := [name for name in placed if name not in texts]:
        raise BadRow(f"{who} ranks {unknown[0]!r}, and there is no such answer")
    if len(set(placed)) < len(placed):
        raise BadRow(f"{who} ranks an answer twice")
    if missing := [name for name in texts if name not in placed]:
        raise BadRow(f"{who} gives {missing[0]!r} no rank, and every answer needs one")
    return tuple(tuple(key_of(texts[name]) for name in tier) for tier in order)


def _keyed(keys: Sequence[str], places: Sequence[Sequence[int]]) -> Tiers:
    return tuple(tuple(keys[place] for place in tier) for tier in places)


def _rater(row: Row) -> str:
    return " ".join(str(row.get("rater") or "").split())[:200] or UNKNOWN


def _strength(row: Row) -> int | None:
    given = row.get("strength")
    if given is not None and (not _is_whole(given) or given not in STRENGTHS):
        raise BadRow(f"strength is {str(given)[:40]}, where 1 to {len(STRENGTHS)} are known")
    return given


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
