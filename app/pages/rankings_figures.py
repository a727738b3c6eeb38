"""What a project's labels say, drawn: the strengths of models, how far people agree, what biases them, who ranked how much."""

from sqlmodel import Session

from app.pages import model_look
from app.view import Node, h, interval, table
from app.wording import ago, duration, say
from engine.agreement import Bias
from engine.rankings_report import Summary
from engine.statistics import Figure
from storage import queries

EXPLAINED = {
    "Pair agreement": "Of every two answers that two people ranked, the share of which both say the same.",
    "Krippendorff's alpha": "The same less what chance would give: 1 is perfect, 0 is chance. Which answer counts as the first is drawn.",
    "Mean Kendall tau-b": "How alike two people's orders of one item are: 1 the same, 0 unrelated, -1 reversed; ties are allowed for.",
    "Self-consistency": "Of every two answers shown again to the same person, the share of which they say the same as before.",
    "Place on the screen": "How often the answer shown first was put first alone. p: how likely that is if the place decides nothing.",
    "Length": "How often the longer of two answers was put above the other, which may be right. p: as above, if length decides nothing.",
    "Ties": "The share of two answers that somebody set equal.",
    "Skipped": "The share of items that somebody skipped rather than ranked.",
    "Known answers": "Of every two answers whose order is known, the share that raters had right; a tie is not right.",
    "Strength": "Bradley-Terry log-strengths, 0 on average: a model that is 0.7 stronger wins two times in three.",
    "Won": "The share of comparisons with other models' answers that a model won, a tie being half.",
}


def tree(session: Session, told: Summary) -> list[Node]:
    """The picture, then the tables."""
    return [
        *_strengths(session, told),
        h("h2", say("How far the labels can be trusted")),
        _trust(told),
        h("details", h("summary", say("What these numbers mean")), *_explained()),
        h("h2", say("Who ranked how much")),
        _people(told),
        *_extra(told),
    ]  # fmt: skip


def _explained() -> list[Node]:
    return [h("p", h("b", say(name)), " ", say(text)) for name, text in EXPLAINED.items()]


def shared(value: float | None) -> str:
    """A strength, or a difference of two."""
    return "" if value is None else f"{value:.1f}".replace("-0.0", "0.0")


def rate(figure: Figure, digits: int = 0) -> str:
    """A share with its interval, or why there is none."""
    return _figure(figure, f".{digits}%")


def _figure(figure: Figure, form: str) -> str:
    if figure.value is None:
        return say(figure.why)
    value = format(figure.value, form)
    if figure.interval is None:
        return value
    low, high = (format(end, form) for end in figure.interval)
    return say("{value} ({low} to {high})", value=value, low=low, high=high)


def _strengths(session: Session, told: Summary) -> list[Node]:
    if len(told.models) < 2:
        return []
    looks = {row.name: model_look(row.id or 0) for row in queries.artifacts(session, "model", ready=False)}
    ends = [end for one in told.strengths for end in one.strength.interval or ()]
    low, high = (min(ends) - 0.1, max(ends) + 0.1) if ends else (0.0, 1.0)
    rows: list[list[Node]] = []
    for one in told.strengths:
        figure, span = one.strength, one.strength.interval
        bar: Node = ""
        if span and figure.value is not None:
            value, least, most = ((end - low) / (high - low) for end in (figure.value, *span))
            bar = interval(value, least, most, looks.get(one.model) or model_look(told.models.index(one.model)))
        shown = h("div", bar, h("small", _figure(figure, ".2f")), class_="strength")
        won = say("{share}, n = {n}", share=rate(one.win_rate), n=f"{one.win_rate.n:,}")
        rows.append([h("span", one.model, class_="raw"), shown, won])
    parts: list[Node] = [
        h("h2", say("Which model is preferred")),
        table([say("Model"), say("Strength, 95 % interval"), say("Won")], rows, class_="strengths"),
    ]
    places = range(len(told.models))
    cells: list[list[Node]] = [[h("span", told.models[i], class_="raw"), *[_won(told, i, j) for j in places]] for i in places]
    wins = h("details", h("summary", say("Who won against whom")), table(["", *told.models], cells), open=len(told.models) > 2)
    text = "In a circle: most prefer each of {models} to another of them, all the way round. No order fits them."
    around = [h("p", say(text, models=", ".join(one)), class_="raw") for one in told.cycles]
    return [*parts, *around, wins]


def _won(told: Summary, i: int, j: int) -> Node:
    won, lost = told.wins[i, j], told.wins[j, i]
    if i == j or not won + lost:
        return ""
    return h("span", f"{won / (won + lost):.0%}", " ", h("small", say("n = {n}", n=f"{won + lost:,.0f}")), class_="nowrap")


def _trust(told: Summary) -> Node:
    rows: list[list[Node]] = [
        _line("Pair agreement", rate(told.agreement), told.agreement),
        _line("Krippendorff's alpha", _figure(told.alpha, ".2f"), told.alpha),
        _line("Mean Kendall tau-b", _figure(told.tau, ".2f"), told.tau),
        _line("Self-consistency", rate(told.consistency), told.consistency),
        _line("Place on the screen", _bias(told.position), told.position.share),
        _line("Length", _bias(told.length), told.length.share),
        _line("Ties", rate(told.ties), told.ties),
        _line("Skipped", rate(told.skips), told.skips),
    ]
    if told.gold.total.n:
        rows.append(_line("Known answers", rate(told.gold.total), told.gold.total))
    return table([say("Figure"), say("Value, 95 % interval"), say("Counted")], rows)


def _line(name: str, value: str, figure: Figure) -> list[Node]:
    return [say(name), value, say("{n} in {items} items", n=f"{figure.n:,}", items=f"{figure.n_items:,}")]


def _bias(bias: Bias) -> str:
    if bias.share.value is None:
        return say(bias.share.why)
    p = "" if bias.p is None else say("p < 0.001") if bias.p < 0.001 else say("p = {p:.2g}", p=bias.p)
    return say("{share}, {chance:.0%} by chance, {p}", share=rate(bias.share), chance=bias.expected, p=p)


def _people(told: Summary) -> Node:
    now, known = queries.utc_now(), bool(told.gold.raters)
    rows: list[list[Node]] = []
    for one in told.people:
        right = told.gold.raters.get(one.name)
        gold = [""] if known and right is None else [_right(right)] if right else []
        seconds = duration(one.seconds) if one.seconds is not None else ""
        last = h("span", ago(one.last, now), class_="soft nowrap") if one.last else ""
        counts = [f"{n:,}" for n in (one.ranked, one.skipped, one.repeats)]
        rows.append([h("span", one.name, class_="raw"), *counts, *gold, h("span", seconds, class_="nowrap"), last])
    heads = [say("Person"), say("Ranked"), say("Skipped"), say("Repeats")]
    return table([*heads, *([say("Known answers right")] if known else []), say("Median time"), say("Last seen")], rows)


def _extra(told: Summary) -> list[Node]:
    if not told.extra:
        return []
    one = say("1 label was given by somebody whose turn had ended: it is kept, and counted as extra.")
    many = say("{n} labels were given by people whose turn had ended: they are kept, and counted as extra.", n=f"{told.extra:,}")
    return [h("p", one if told.extra == 1 else many, class_="soft")]


def _right(figure: Figure) -> str:
    return say(figure.why) if figure.value is None else say("{share}, n = {n}", share=rate(figure), n=f"{figure.n:,}")
