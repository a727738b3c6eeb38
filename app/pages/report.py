"""Report: the sentence first, then the figures, then both answers to every prompt."""

import json
from typing import Any

import gradio as gr
from sqlmodel import Session

from app import charts
from app.live import chart, whole
from app.pages import Place, asked, asked_id, missing
from app.view import Node, action, empty, h, interval, link, problem, table, view
from app.wording import say
from engine.stages.measure._report import by_arm
from storage import listings
from storage.tables import Artifact

SHOWN = 10
FILTERS = ("all", "changed", "lost", "gained")


def build(place: Place, demo: gr.Blocks) -> None:
    """Draw the page."""
    top, curves, rest = view(), chart(visible=False), view()

    def load(request: gr.Request) -> list[Any]:
        head, drawn, body = parts(place, asked_id(request, "report"), asked(request, "show") or "all", 0)
        return [head, gr.update(visible=bool(drawn), value=drawn), body]

    def act(event: gr.EventData) -> Any:
        data = action(event)
        return parts(place, int(data.get("report", 0)), str(data.get("show", "all")), max(0, int(data.get("start", 0))))[2]

    demo.load(load, None, [top, curves, rest], queue=False, show_progress="hidden", api_visibility="private")
    rest.act(act, None, rest, trigger_mode="multiple", queue=False, show_progress="hidden", api_visibility="private")


def parts(place: Place, id: int | None, show: str, start: int) -> tuple[list[Node], dict[str, Any] | None, list[Node]]:
    """What stands above the curves, the curves, and what stands below them: from a report's folder.

    When none is asked for, or it is not there, everything stands above."""
    told = _read(place, id)
    if isinstance(told, list):
        return told, None, []
    names = [str(model["name"]) for model in told["models"]]
    head: list[Node] = [h("p", " → ".join(names), class_="soft raw"), h("h1", told["sentence"], class_="sentence")]
    for arm, some in by_arm(told["verdicts"]).items():
        head += [*([h("h3", arm, class_="raw")] if arm else []), verdict_table(some)]
    if told.get("curves"):
        head.append(h("h3", say("{arm}: abilities while it learned, share right", arm=told["curves"][0]["arm"])))
    return head, _curves(told), _body(told, names, id or 0, show, start)


def _read(place: Place, id: int | None) -> dict[str, Any] | list[Node]:
    """A report as it was written; or what to show instead."""
    with Session(place.database) as session:
        if id is None:
            found = listings.reports(session, 50)
            if not found:
                hint = say("There is no report yet. A recipe ends with one.")
                return [h("h1", say("Reports")), empty(hint, link(say("Start the quickstart"), "/new?recipe=quickstart"))]
            rows = [
                h(
                    "a",
                    h("b", str(r.summary.get("sentence", ""))),
                    h("span", r.name, class_="soft"),
                    href=f"/report?report={r.id}",
                    class_="card",
                )
                for r in found
            ]
            return [h("h1", say("Reports")), *rows]
        row = session.get(Artifact, id)
    if row and row.kind == "report" and row.ready_at is None:
        return [problem(say("{name} is not ready yet.", name=row.name), link(say("The run that makes it"), f"/runs?run={row.made_by}"))]
    path = place.home.root / row.folder / "report.json" if row and row.kind == "report" else None
    if row is None or path is None or not path.exists():
        waiting = say("Report {id}", id=id) if row is None else row.name
        return [missing(waiting, "/report", say("All reports"))]
    return {**json.loads(path.read_text(encoding="utf-8")), "title": row.name}


def _curves(told: dict[str, Any]) -> dict[str, Any] | None:
    """The first arm's abilities while it learned."""
    if not told.get("curves"):
        return None
    arm = told["curves"][0]["arm"]
    drawn = {curve["ability"]: [point[:2] for point in curve["points"]] for curve in told["curves"] if curve["arm"] == arm}
    return whole(charts.abilities(list(drawn), arm), drawn, 0)


def _body(told: dict[str, Any], names: list[str], id: int, show: str, start: int) -> list[Node]:
    title = [say("Described, not judged"), say("Before"), say("After")]
    return [
        *stage_tables(told),
        table(title, [[str(cell) for cell in fact] for fact in told["facts"]], class_="narrow"),
        h("div", link(say("Download as one HTML file"), f"/download/report/{id}", class_="button", download=f"{told['title']}.html"),
          link(say("Where it comes from"), f"/library?artifact={id}"), class_="row"),
        *_answers(told, names, id, show, start),
        h("details", h("summary", say("How to read this")), h("ul", *[h("li", str(note)) for note in told["notes"]])),
    ]  # fmt: skip


def verdict_table(verdicts: list[dict[str, Any]]) -> Node:
    """Each ability's verdict with both rates on one axis, each in its interval; the figures behind it fold on a narrow screen."""
    head = [say("Ability"), say("Before and after, 95 % intervals"), say("Lost"), say("Gained"), say("p")]
    rows: list[list[Node]] = []
    for v in verdicts:
        word = h("div", say(v["verdict"]), class_=f"verdict {v['verdict'].split()[0]}")
        name = say(v["ability"])
        ability = h("div", h("b", link(name, v["href"]) if v.get("href") else name), word, h("small", say("n = {n}", n=v["n"])))
        sides = h("div", _rate(v, "before"), _rate(v, "after"), class_="rates")
        rows.append([ability, sides, str(v["lost"]), str(v["gained"]), f"{v['p']:.2g}"])
    return table(head, rows, class_="verdicts")


def stage_tables(told: dict[str, Any]) -> list[Node]:
    """Stage by ability, arm by arm, and transfer between tasks, in reports about several stages."""
    parts: list[Node] = [h("h2", say("Stage by stage"))] if told.get("matrix") else []
    for matrix in told.get("matrix", []):
        rows = [[h("b", row["stage"], class_="raw"), *[_cell(cell) for cell in row["cells"]]] for row in matrix["rows"]]
        parts += [h("h3", matrix["arm"], class_="raw"), table(["", *matrix["abilities"]], rows)]
    if told.get("transfer"):
        parts.append(table(["", say("Average over the tasks"), say("Backward transfer")], told["transfer"], class_="narrow"))
    return parts


def _cell(cell: dict[str, Any]) -> Node:
    span = say("{low} to {high}, n = {n}", low=f"{cell['low']:.0%}", high=f"{cell['high']:.0%}", n=cell["n"])
    change = [] if cell["change"] is None else [h("small", say("{change} since the start", change=f"{cell['change']:+.0%}"))]
    fall = [h("small", say("{fall} below its best", fall=f"{cell['forgetting']:.0%}"))] if cell["forgetting"] else []
    return h("div", h("b", f"{cell['value']:.0%}"), h("small", span), *change, *fall, class_="stack")


def _rate(verdict: dict[str, Any], side: str) -> Node:
    low, high = verdict[f"{side}_interval"]
    told = say("{low} to {high}", low=f"{low:.0%}", high=f"{high:.0%}")
    bar = interval(verdict[side], low, high, f"{side} {verdict['verdict'].split()[0]}")
    return h("div", h("b", f"{verdict[side]:.0%}"), bar, h("small", told), class_="rate")


def _answers(told: dict[str, Any], names: list[str], id: int, show: str, start: int) -> list[Node]:
    chosen = [row for row in told["answers"] if _fits(row, show)]
    filters = [
        h("a", f"{say(name)} {sum(_fits(row, name) for row in told['answers'])}", href=f"/report?report={id}&show={name}",
          class_="on" if name == show else "", on="show", data={"report": id, "show": name})
        for name in FILTERS
    ]  # fmt: skip
    parts: list[Node] = [h("h2", say("Before and after")), h("div", *filters, class_="filters row")]
    if not chosen:
        parts.append(empty(say("No answers of this sort.")))
    else:
        parts.append(h("div", h("b", names[0]), h("b", names[-1]), class_="pair hide-narrow"))
    parts += [answer_pair(row, names) for row in chosen[start : start + SHOWN]]
    moves: list[Node] = []
    if start:
        moves.append(h("button", say("← Previous"), on="move", data={"report": id, "show": show, "start": start - SHOWN}))
    if start + SHOWN < len(chosen):
        moves.append(h("button", say("Next →"), on="move", data={"report": id, "show": show, "start": start + SHOWN}))
    span = say("{low} to {high} of {n}", low=start + 1, high=min(start + SHOWN, len(chosen)), n=len(chosen)) if chosen else ""
    return [*parts, h("div", *moves, h("span", span, class_="soft"), class_="row")]


def answer_pair(row: dict[str, Any], names: list[str]) -> Node:
    """One prompt with the answers of both sides."""
    prompt = [
        h("div", *([h("span", turn["role"], class_="role")] if len(row["prompt"]) > 1 else []), str(turn["content"]), class_="turn raw")
        for turn in row["prompt"]
    ]
    wanted = [h("small", say("expected: {answer}", answer=row["reference"]))] if row["reference"] else []
    judged = bool(row.get("ability"))
    looks = [("base" if place == 0 else "tuned") for place in range(len(names))]
    sides = [_side(side, name, look, judged) for side, name, look in zip(row["answers"], names, looks, strict=False)]
    about = [h("small", row["ability"], class_="soft")] if row.get("ability") else []
    asked = [*about, h("div", *prompt, class_="prompt"), *wanted]
    return h("div", *asked, h("div", *sides, class_="pair"), class_="item", key=row["prompt_key"])


def _side(side: dict[str, Any], name: str, place: str, judged: bool) -> Node:
    right, wrong = (say("right"), say("not right")) if judged else (say("exact"), say("not exact"))
    counted = [] if side["tokens"] is None else [say("{n} tokens", n=side["tokens"])]
    ends = {"stop": say("stopped"), "length": say("cut at the limit")}
    figures = [*counted, *([ends[side["finish_reason"]]] if side["finish_reason"] in ends else [])]
    if side["correct"] is not None:
        figures.append(f"✓ {right}" if side["correct"] else f"✕ {wrong}")
    figures += [side["votes"]] if side.get("votes") else []
    return h(
        "div",
        h("small", name, class_="show-narrow"),
        h("pre", side["answer"] or say("(nothing)"), class_="raw"),
        h("small", " · ".join(figures)),
        class_=f"side {place}",
    )


def _fits(row: dict[str, Any], show: str) -> bool:
    before, after = row["answers"][0], row["answers"][-1]
    if show == "changed":
        return bool(before["answer"] != after["answer"])
    if show in ("lost", "gained"):
        return (before["correct"], after["correct"]) == ((True, False) if show == "lost" else (False, True))
    return True
