"""Rankings as rows to learn from: pairs, answers that are good or bad, tiers, and answers that people wrote themselves.

Practice, gold and repeated items never become rows: they are there to measure the raters. A prompt counts once: its pairs'
weights sum to 1 (less what is tied), shared by all who ranked it, as InstructGPT has it for one (Ouyang et al. 2022,
2203.02155). The rows know nothing of keys or of the order in which answers stand: where order means nothing, text decides.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, pairwise, permutations
from math import comb
from typing import Any, Literal

from engine.agreement import Majority, majority
from engine.catalogue import did_you_mean
from engine.counting import Ranking
from engine.errors import UserError
from engine.rankings import OVERALL, Asked, Choice, Rankings, Said, Tiers
from storage.labels import NORMAL, RANK, SKIP

Row = dict[str, Any]
Pairing = Literal["all", "best_worst", "adjacent"]
LabelsOf = Literal["each rater", "majority", "settled"]
MARGINS = {1: 0.0, 2: 1 / 3, 3: 2 / 3, 4: 1.0}  # of an explicit strength: the small ones of LLaMA 2 (2307.09288, table 27)


@dataclass(frozen=True)
class Opinion:
    """One order of an item's answers: a rater's, the majority's or as settled. `said`: the labels of the item behind it; `most`:
    what most say of each two, where the order is the majority's."""

    asked: Asked
    rater: str
    tiers: Tiers
    said: tuple[Said, ...]
    margin: float | None = None
    most: Majority | None = None


@dataclass
class Collected:
    """Rows, and how much was left out, by reason."""

    rows: list[Row] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def criterion_of(given: Rankings, named: str) -> str:
    """The criterion of this name, or the first one. Raises UserError that names the nearest ones."""
    named = named.strip()
    if named and named not in given.criteria:
        message = "nothing is ranked by {criterion} here; {hint}"
        raise UserError(message, field="criterion", criterion=repr(named), hint=did_you_mean(named, given.criteria))
    return named or given.criteria[0]


def skips(given: Rankings) -> int:
    """How often a rater skipped an item that could have become rows."""
    return sum(one.act == SKIP and given.items[one.item].kind == NORMAL for one in given.said)


def opinions(given: Rankings, labels: LabelsOf, criterion: str) -> tuple[list[Opinion], Counter[str]]:
    """The orders that become rows, item by item. An item of which most prefer one to the next all the way round has none."""
    found, left_out = [], Counter[str]()
    orders: list[tuple[str, Tiers, tuple[Said, ...]]]
    for asked, said in _by_item(given, criterion):
        settled, most = given.settled.get(asked.id) if labels == "settled" else None, None
        if labels == "each rater":
            orders = [(one.rater, one.tiers[criterion], (one,)) for one in said]
        elif settled and settled.tiers.get(criterion):
            orders = [("settled", settled.tiers[criterion], said)]
        else:
            most = majority([Ranking(asked.id, one.rater, one.tiers[criterion]) for one in said])
            left_out["items whose majority goes round in a circle"] += most.cycle
            orders = [("majority", most.tiers, said)] if said and not most.cycle else []
        for rater, order, behind in orders:  # how much better is said of the first criterion
            margin = _margin(behind, order, criterion) if criterion == given.criteria[0] else None
            found.append(Opinion(asked, rater, order, behind, margin, most))
    return found, +left_out


def pairs(given: Rankings, labels: LabelsOf, criterion: str, pairing: Pairing = "all", better_as_chosen: bool = False) -> Collected:
    """Preference rows. With `better_as_chosen`, what a rater wrote is chosen over every answer it was written beside.

    A margin is there only if every row has an explicit one: trainers read it from all rows or from none.
    """
    found, left_out = opinions(given, labels, criterion)
    sharing = Counter(one.asked.prompt_key for one in found)
    rows: list[Row] = []
    for one in found:
        order = _in_order(one)
        made, tied, untied = _compared(order, pairing)
        if one.most and pairing == "all":
            made = [(a, b) for a, b in permutations(chain(*order), 2) if (a.key, b.key) in one.most.decided]
            tied = untied - len(made)
        better = [(Choice("", text, rater), choice) for text, rater in _written(one.said) for tier in order for choice in tier]
        better = better if better_as_chosen else []
        left_out["ties, or pairs on which raters are split" if one.most else "ties"] += tied
        weight = 1 / (max(len(made), untied) + len(better)) / sharing[one.asked.prompt_key]
        for (chosen, rejected), margin in [*((pair, one.margin) for pair in made), *((pair, None) for pair in better)]:
            if chosen.said == rejected.said:
                left_out["pairs of the same text"] += 1
                continue
            sides = {"chosen": _answer(chosen.said), "rejected": _answer(rejected.said)}
            about = {"item": one.asked.id, "rater": one.rater, "chosen_by": chosen.by, "rejected_by": rejected.by}
            rows.append({"prompt": one.asked.prompt, **sides, "weight": weight, "margin": margin, **about})
    if any(row["margin"] is None for row in rows):
        left_out["margins, since not every pair has one"] += sum(row.pop("margin") is not None for row in rows)
    return Collected(rows, +left_out)


def unpaired(given: Rankings, labels: LabelsOf, criterion: str) -> Collected:
    """Single answers, True above a rater's acceptable line and False below it. Otherwise than "each rater": what most say."""
    if criterion != given.criteria[0]:
        message = "the acceptable line belongs to {first}, not to {criterion}: leave the criterion empty"
        raise UserError(message, field="criterion", first=given.criteria[0], criterion=criterion)
    made = Collected()
    for asked, said in _by_item(given, criterion):
        lined = [one for one in said if one.accepted_above is not None]
        made.left_out["labels without an acceptable line"] += len(said) - len(lined)
        groups = [[one] for one in lined] if labels == "each rater" else [lined] if lined else []
        for group in groups:
            votes = Counter(key for one in group for tier in one.tiers[criterion][: one.accepted_above] for key in tier)
            for choice in sorted(asked.choices, key=_by_text):
                if 2 * votes[choice.key] == len(group):
                    made.left_out["answers that as many accept as not"] += 1
                    continue
                about = {"item": asked.id, "rater": group[0].rater if labels == "each rater" else "majority", "completion_by": choice.by}
                accepted = 2 * votes[choice.key] > len(group)
                made.rows.append({"prompt": asked.prompt, "completion": _answer(choice.said), "label": accepted, **about})
    return Collected(made.rows, +made.left_out)


def tiers(given: Rankings, labels: LabelsOf, criterion: str) -> Collected:
    """Rankings as they are, one a row; nothing is lost of a rater's own. Identical answers cannot be told apart in a row."""
    found, left_out = opinions(given, labels, criterion)
    rows = []
    for one in found:
        if len({choice.said for choice in one.asked.choices}) < len(one.asked.choices):
            left_out["rankings with the same text twice"] += 1
            continue
        if one.most and not one.most.whole:
            left_out["items on which raters are split, so that most agree on no order"] += 1
            continue
        own = one.said[0] if labels == "each rater" else None
        rows.append(tiers_row(given, one.asked, one.rater, criterion, one.tiers, own))
    return Collected(rows, left_out)


def tiers_row(given: Rankings, asked: Asked, rater: str, criterion: str, order: Tiers, said: Said | None) -> Row:
    """One ranking as a row; `said` is the label it is, where it is one. Answers are named by their places in `responses`."""
    choices = sorted(asked.choices, key=_by_text)
    place = {choice.key: number for number, choice in enumerate(choices)}
    row: Row = {"prompt": asked.prompt, "responses": [choice.said for choice in choices], "tiers": _placed(order, place)}
    row |= {"by": [choice.by for choice in choices], "item": asked.id, "rater": rater}
    if given.criteria != [OVERALL]:
        row["criterion"] = criterion
    if asked.gold:
        row["gold"] = _placed(asked.gold, place)
    if said:
        row |= {name: getattr(said, name) for name in ("strength", "better", "comment", "active_ms", "guideline")}
        row["flags"] = [list(said.flags.get(choice.key, ())) for choice in choices]
        row["shown"] = [place[key] for key in said.shown]
        row["accepted_above"] = said.accepted_above if criterion == given.criteria[0] else None
    return row


def demonstrations(given: Rankings) -> Collected:
    """What people wrote when no answer was good enough, as conversations, each text once for a prompt."""
    made, seen, place = Collected(), set(), {id: number for number, id in enumerate(given.items)}
    for one in sorted(given.said, key=lambda one: place[one.item]):
        asked, text = given.items[one.item], one.better.strip()
        if asked.kind != NORMAL or not text:
            continue
        if (asked.prompt_key, text) in seen:
            made.left_out["better answers that are there already"] += 1
            continue
        seen.add((asked.prompt_key, text))
        made.rows.append({"messages": [*asked.prompt, *_answer(text)], "item": asked.id, "rater": one.rater})
    return made


def _by_item(given: Rankings, criterion: str) -> list[tuple[Asked, tuple[Said, ...]]]:
    """The items that can become rows, with what was said of each by a criterion."""
    said: dict[int, list[Said]] = {id: [] for id, asked in given.items.items() if asked.kind == NORMAL}
    for one in given.said:
        if one.act == RANK and one.item in said and one.tiers.get(criterion):
            said[one.item].append(one)
    return [(given.items[id], tuple(some)) for id, some in said.items()]


def _margin(said: Sequence[Said], order: Tiers, criterion: str) -> float | None:
    """How much better the better of two is: the mean of what they say who find it better, if all of these say how much."""
    if [len(tier) for tier in order] != [1, 1]:
        return None
    same = [one.strength for one in said if one.tiers[criterion] == order]
    known = [MARGINS[strength] for strength in same if strength in MARGINS]
    return sum(known) / len(known) if known and len(known) == len(same) else None


def _in_order(one: Opinion) -> list[list[Choice]]:
    """Its answers, best first, those of one tier by their text."""
    choices = {choice.key: choice for choice in one.asked.choices}
    return [sorted((choices[key] for key in tier), key=_by_text) for tier in one.tiers]


def _compared(order: Sequence[Sequence[Choice]], pairing: Pairing) -> tuple[list[tuple[Choice, Choice]], int, int]:
    """The pairs of an order, the better one first; how many are tied; and how many there would be without ties."""
    count, last = sum(map(len, order)), len(order) - 1
    places = range(len(order))
    steps = {"all": list(combinations(places, 2)), "adjacent": list(pairwise(places)), "best_worst": [(0, last)][:last]}
    untied = {"all": comb(count, 2), "adjacent": count - 1, "best_worst": 1}[pairing]
    made = [(one, other) for first, second in steps[pairing] for one in order[first] for other in order[second]]
    return made, untied - (len(made) if pairing == "all" else len(steps[pairing])), untied


def _written(said: Sequence[Said]) -> list[tuple[str, str]]:
    """The better answers of these labels, each text once, with who wrote it."""
    return list({text: (text, one.rater) for one in reversed(said) if (text := one.better.strip())}.values())[::-1]


def _placed(order: Tiers, place: Mapping[str, int]) -> list[list[int]]:
    return [sorted(place[key] for key in tier) for tier in order]


def _answer(text: str) -> list[Mapping[str, str]]:
    return [{"role": "assistant", "content": text}]


def _by_text(choice: Choice) -> tuple[str, str]:
    return choice.said, choice.by
