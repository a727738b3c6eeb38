"""What a judge is asked, how what it says becomes a ranking, and how far it can be trusted.

A chat model sees a question and its answers without any name. It is asked for a digit of each answer, or for the better
of each two in both orders, so that what it says of a place alone cancels. A judge is validated when people, or known
answers, bear it out: whoever shows its labels shows `standing` with them.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from math import exp, inf, isnan, log, nan
from statistics import fmean
from typing import Any, Literal

from engine.chat import Messages
from engine.rankings import OVERALL, Asked, Rankings, Said, Tiers
from engine.statistics import LEAST_ITEMS, clustered_rate
from storage.labels import GOLD, NORMAL, PRACTICE, RANK, REPEAT, SKIP

How = Literal["score", "compare"]
Pairs = dict[tuple[str, str], int]  # of two answers: 1 the first is better, -1 the second, 0 neither
WORDS: dict[str, tuple[str, ...]] = {"score": tuple("123456789"), "compare": ("A", "B")}
INSTRUCTION = """You judge answers to questions.
A good answer does what was asked, and is true. A longer answer is not a better one. Admitting not to know is better than being wrong."""
LEAST_PAIRS = 30  # that a judge must be tested on, of LEAST_ITEMS items
VERDICT = re.compile(r"\W*(?:(?i:answer|response)\W+)?([AB])(?:\W*$|[^\w\s]|[ \t]*\n|\s+is\b)")
NAMED = re.compile(r"\b(?i:answer|response)\W+([AB])\b")
DIGIT = re.compile(r"(?<![\d.])[1-9](?!\d)")


@dataclass(frozen=True)
class Heard:
    """What a judge said to one question. `value`: the digit expected, or the log-odds that A is better (by text 1 or -1); nan if
    it cannot be read. `mass`: the probability of all words that were asked for; None by text."""

    value: float
    mass: float | None = None


UNREAD = Heard(nan)


@dataclass(frozen=True)
class Judged:
    """An item's answers by key with their scores, nan where there is none. Each pair: its two keys, and what was said with the
    one and with the other shown first, above 0 if the one shown first is better."""

    scores: dict[str, float]
    pairs: tuple[tuple[str, str, float, float], ...] = ()
    mass: float | None = None
    by_text: bool = False
    unreadable: int = 0
    why: str = ""  # it could not be judged


def questions(how: How, instruction: str, criterion: str, item: Asked) -> list[Messages]:
    """What a chat model is asked of an item: of each answer, or of each two in both orders."""
    texts = [choice.text for choice in item.choices]
    shown = [[text] for text in texts] if how == "score" else [[*both] for two in combinations(texts, 2) for both in (two, two[::-1])]
    return [[{"role": "user", "content": _question(how, instruction, criterion, item.prompt, some)}] for some in shown]


def weighed(how: How, logs: Sequence[float]) -> Heard:
    """What log-probabilities of the words that begin an answer say; -inf where a word has none."""
    chances = [exp(one) for one in logs]
    mass = sum(chances)
    if how == "compare":
        return Heard(nan, 0.0) if max(logs) == -inf else Heard(logs[0] - logs[1], mass)
    told = sum(chance * int(word) for chance, word in zip(chances, WORDS[how], strict=True))
    return Heard(told / mass if mass else nan, mass)


def weighed_likely(how: How, likely: Sequence[tuple[str, float]]) -> Heard:
    """The same of an endpoint's likeliest tokens. Of A and B the one not among them counts as likely as the last that is, at most."""
    found = {word: log_sum([told for token, told in likely if token.strip() == word]) for word in WORDS[how]}
    if how == "score" or max(found.values()) == -inf:
        return weighed(how, list(found.values()))
    least = min(told for _, told in likely)
    heard = weighed(how, [max(told, least) for told in found.values()])
    return replace(heard, mass=sum(exp(told) for told in found.values()))


def log_sum(logs: Sequence[float]) -> float:
    """The log of the sum of what these are the logs of."""
    most = max(logs, default=-inf)
    return most if most == -inf else most + log(sum(exp(one - most) for one in logs))


def read(how: How, text: str) -> Heard:
    """What an answer in words says: its first digit from 1 to 9, or A or B where it is said which."""
    if how == "score":
        digit = DIGIT.search(text)
        return Heard(float(digit[0])) if digit else UNREAD
    first, named = VERDICT.match(text), set(NAMED.findall(text))
    word = first[1] if first else named.pop() if len(named) == 1 else ""
    return Heard(1.0 if word == "A" else -1.0) if word else UNREAD


def judged(how: How, item: Asked, heard: Sequence[Heard]) -> Judged:
    """The scores of an item's answers from what was said to its `questions`.

    From pairs they are the least-squares strengths: the mean log-odds of both orders, summed over the other answers, by
    the number of answers; what could not be read speaks for neither. Two answers differ by their log-odds then.
    """
    keys = [choice.key for choice in item.choices]
    unreadable = sum(isnan(one.value) for one in heard)
    masses = [one.mass for one in heard if one.mass is not None]
    known: dict[str, Any] = {"mass": fmean(masses) if masses else None, "unreadable": unreadable, "by_text": not masses}
    if how == "score":
        return Judged({key: one.value for key, one in zip(keys, heard, strict=True)}, **known)
    if unreadable == len(heard):
        return Judged(dict.fromkeys(keys, nan), **known)
    values = [0.0 if isnan(one.value) else one.value for one in heard]
    pairs = tuple((a, b, values[2 * n], values[2 * n + 1]) for n, (a, b) in enumerate(combinations(keys, 2)))
    sums = dict.fromkeys(keys, 0.0)  # divided at the end: what is equal stays equal
    for a, b, one, other in pairs:
        sums[a] += (one - other) / 2
        sums[b] -= (one - other) / 2
    return Judged({key: total / len(keys) for key, total in sums.items()}, pairs, **known)


def tiers(scores: Mapping[str, float], tie_below: float) -> Tiers:
    """Answers by score, best first. One that is less than `tie_below` under the best of a rank shares it, as equal ones do."""
    found: list[list[str]] = []
    for key in sorted(scores, key=lambda key: (-scores[key], key)):
        best = scores[found[-1][0]] if found else inf
        if best - scores[key] < tie_below or best == scores[key]:
            found[-1].append(key)
        else:
            found.append([key])
    return tuple(map(tuple, found))


def as_said(item: int, rater: str, criterion: str, one: Judged, tie_below: float) -> Said:
    """A label: ranked, or skipped where an answer has no score. Scores and pairs stand in its comment, as JSON."""
    told = json.dumps(_plain(asdict(one)), ensure_ascii=False)
    if any(map(isnan, one.scores.values())):
        return Said(item, rater, SKIP, comment=told, reason="cannot judge")
    return Said(item, rater, RANK, {criterion: tiers(one.scores, tie_below)}, comment=told)


def as_judged(said: Said) -> Judged:
    """What stands behind a label."""
    told = json.loads(said.comment)
    scores = {key: nan if value is None else value for key, value in told.pop("scores").items()}
    return Judged(scores, tuple(tuple(pair) for pair in told.pop("pairs")), **told)


def to_judge(project: Rankings) -> list[Asked]:
    """The items of a project, without those that only come again."""
    return [item for item in project.items.values() if item.kind != REPEAT]


def truths(people: Rankings, criterion: str) -> dict[str, dict[int, Pairs]]:
    """What is known of the answers of a project, by item: from "people", as settled or else by most of them, and what is "known"."""
    votes: dict[int, Counter[tuple[str, str]]] = {}
    for one in people.ranked(criterion, (NORMAL,)):
        votes.setdefault(one.item, Counter()).update(_pairs(one.item, one.tiers))
    told = {item: {pair: (n > 0) - (n < 0) for pair, n in count.items()} for item, count in votes.items()}
    told |= {item: _pairs(item, one.tiers[criterion]) for item, one in people.settled.items() if one.tiers.get(criterion)}
    gold = {item.id: _pairs(item.id, item.gold) for item in people.items.values() if item.kind in (GOLD, PRACTICE) and item.gold}
    return {"people": told, "known": gold}


def validation(said: Sequence[Said], people: Rankings, criterion: str, of: str = "") -> dict[str, Any]:
    """How far a judge's labels agree with people and with known answers, for a summary; `of`: the name of these rankings, if they
    are others than those judged. Pairs are counted that both sides decide; "ties": the share of those people decide that it ties."""
    from engine.agreement import pair_agreement
    from engine.counting import UNKNOWN, tabulate

    labels = {one.item: _pairs(one.item, one.tiers[criterion]) for one in said if one.tiers.get(criterion)}
    told: dict[str, Any] = {"of": of}
    for whom, true in truths(people, criterion).items():
        decided = {item: {pair: way for pair, way in pairs.items() if way} for item, pairs in true.items() if item in labels}
        both = [[labels[item][pair] == way for pair, way in pairs.items() if labels[item].get(pair)] for item, pairs in decided.items()]
        asked = sum(map(len, decided.values()))
        figure = clustered_rate(list(map(sum, both)), list(map(len, both)))
        told[whom] = asdict(figure) | {"items": len(true), "decided": asked, "ties": 1 - figure.n / asked if asked else None}
    table = tabulate(people.ranked(criterion, (NORMAL,)))
    told["among_people"] = asdict(pair_agreement(replace(table, said=_decided(table.said, UNKNOWN))))
    return told


def consistency(said: Sequence[Said]) -> dict[str, Any]:
    """Whether a judge says the same of two answers in both orders ("share", as a figure over the pairs of which it decides both),
    how many verdicts flip, and how often it takes the one shown first; empty where it saw one answer at a time."""
    found = [[(one, other) for _, _, one, other in as_judged(label).pairs if one and other] for label in said]
    told = [pair for pairs in found for pair in pairs]
    if not told:
        return {}
    same = [sum((one > 0) != (other > 0) for one, other in pairs) for pairs in found]
    first = [sum((one > 0) + (other > 0) for one, other in pairs) for pairs in found]
    counts = list(map(len, found))
    return {
        "share": asdict(clustered_rate(same, counts)),
        "flipped": len(told) - sum(same),
        "pairs": len(told),
        "took_first": asdict(clustered_rate(first, [2 * n for n in counts])),
    }


def is_validated(agreement: Mapping[str, Any]) -> bool:
    """Whether a judge was tested on enough pairs and is better than chance, by the low end of its interval."""
    figure = agreement[_tested_by(agreement)]
    return _is_enough(figure) and figure["interval"][0] > 0.5


def standing(summary: Mapping[str, Any]) -> str:
    """One sentence on how far a judge's labels can be trusted, from the summary of what it made; "" for rankings by people."""
    if summary.get("format") != "judge":
        return ""
    agreement = summary["agreement"]
    whom = _tested_by(agreement)
    figure, of = agreement[whom], f" of {agreement['of']}" if agreement["of"] else ""
    held = agreement.get("held_out") if whom == "people" else None  # of labels it learned from only the others test it
    apart = "" if held is None else f" on the {held:,} prompts held out from its training"
    if figure["items"] and not figure["decided"]:
        return "not validated: of no two answers do most people say which is better"
    if not figure["decided"] and apart:
        return f"not validated: it learned from people's labels of {agreement['of'] or 'these answers'}, and there are none{apart}"
    if not figure["decided"]:
        return f"not validated: nobody has ranked {agreement['of'] or 'these answers'}"
    if not figure["n"]:
        return f"not validated: it ties all {figure['decided']:,} pairs that can be checked{apart}"
    if not _is_enough(figure):
        few = f"only {figure['n']:,} pairs of {figure['n_items']:,} items can be checked{apart}"
        return f"not validated: {few}, and {LEAST_PAIRS} pairs of {LEAST_ITEMS} items are needed"
    (low, high), by = figure["interval"], "people" if whom == "people" else "known answers"
    told = f"agrees with {by} on {figure['value']:.0%} of {figure['n']:,} pairs{of}{apart} ({low:.0%} to {high:.0%})"
    if not is_validated(agreement):
        told = f"not validated: {told}, {'less than chance' if high < 0.5 else 'which may be chance'}"
    if figure["ties"] >= 0.005:
        told += f"; it ties {figure['ties']:.0%} of the pairs they decide" if whom == "people" else f"; it ties {figure['ties']:.0%}"
    among = agreement["among_people"]["value"]
    return told + (f"; two people agree on {among:.0%}" if whom == "people" and among is not None else "")


def facts(summary: Mapping[str, Any]) -> list[str]:
    """What else is worth knowing of a judge, as sentences, from the summary of what it made; none of rankings by people."""
    if summary.get("format") != "judge":
        return []
    told, turns, length = [], summary["consistency"], summary["length_bias"]
    if turns and turns["share"]["value"] is not None:
        (low, high), share = turns["share"]["interval"], turns["share"]["value"]
        same = f"It says the same in both orders of {share:.0%} of {turns['pairs']:,} pairs ({low:.0%} to {high:.0%})"
        told.append(f"{same}, and takes the answer shown first in {turns['took_first']['value']:.0%} of its verdicts")
    if length["share"]["value"] is not None:
        (low, high), share = length["share"]["interval"], length["share"]["value"]
        told.append(f"It takes the longer answer in {share:.0%} of {length['share']['n']:,} pairs ({low:.0%} to {high:.0%})")
    if summary["mass"] is not None:
        rarely = ": it hardly does what it is asked" if summary["mass"] < 0.5 else ""
        told.append(f"The words asked for hold {summary['mass']:.0%} of the probability of what it would say{rarely}")
    if summary["unreadable"]:
        told.append(f"{summary['unreadable']:,} of what it said cannot be read")
    return told


def _question(how: How, instruction: str, criterion: str, prompt: Messages, answers: Sequence[str]) -> str:
    by = "" if criterion == OVERALL else f" by this criterion: {criterion}"
    if how == "score":
        names, ask = ["Answer"], f"How good is the answer{by}? Reply with one digit, from 1 (very bad) to 9 (very good), and nothing else."
    else:
        names, ask = ["Answer A", "Answer B"], f"Which answer is better{by}? Reply with one letter, A or B, and nothing else."
    parts = [("Question", _asked(prompt)), *zip(names, answers, strict=True)]
    return "\n\n".join([instruction.strip(), *(f"{name}:\n{text.strip()}" for name, text in parts), ask])


def _asked(prompt: Messages) -> str:
    """A conversation as one text."""
    if len(prompt) == 1:
        return str(prompt[0]["content"])
    return "\n\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in prompt)


def _pairs(item: int, of: Tiers) -> Pairs:
    from engine.counting import Ranking, pairs

    return pairs(Ranking(item, "", of))


def _decided(said: Any, unknown: int) -> Any:
    """Ties as not said, so that people are compared as the judge is."""
    import numpy

    return numpy.where(said == 0, unknown, said)


def _is_enough(figure: Mapping[str, Any]) -> bool:
    return bool(figure["value"] is not None and figure["n"] >= LEAST_PAIRS and figure["n_items"] >= LEAST_ITEMS)


def _tested_by(agreement: Mapping[str, Any]) -> str:
    """Whose word counts: people's; that of known answers only where people's is too little."""
    people, known = agreement["people"], agreement["known"]
    return "known" if not _is_enough(people) and (_is_enough(known) or not people["decided"]) and known["decided"] else "people"


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    return told | {"scores": {key: None if isnan(value) else value for key, value in told["scores"].items()}}
