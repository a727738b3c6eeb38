"""Rankings: what owners see of the projects in which people, or a judge, rank answers. Raters never see this page."""

from functools import partial
from typing import Any

import gradio as gr
from sqlmodel import Session

from app.pages import LOCAL, Place, as_id, asked, asked_id, missing, one_view, rankings_figures, rankings_head, rankings_queue
from app.view import Node, empty, h, link, problem, table
from app.wording import ago, error, say
from engine import labelling, users
from engine.errors import UserError
from engine.judging import standing
from engine.rankings import criteria, project_of
from engine.rankings_report import Summary, of_project
from storage import labels, opinions, queries
from storage.people import RATER
from storage.tables import Artifact

ASK = "/new?stage=rank_answers"


def build(place: Place, demo: gr.Blocks) -> None:
    """Draw the page."""
    one_view(demo, _start, partial(tree, place), partial(do, place))


def _start(request: gr.Request) -> dict[str, Any]:
    criterion, settled = asked(request, "criterion"), asked(request, "show") == "settled"
    known = {"project": asked_id(request, "project"), "criterion": criterion, "settled": settled, "start": 0, "said": 0}
    origin = request.headers.get("origin") or f"http://{request.headers.get('host')}"  # a browser knows whether it is https
    return known | {"signs_in": request.username not in (None, LOCAL), "origin": origin}


def do(place: Place, data: dict[str, Any], known: dict[str, Any], person: str) -> list[Node]:
    """What was pressed; what is told of it once. Raises UserError."""
    name, project, now = str(data.get("name", "")), known["project"] or 0, queries.utc_now()
    typed = data.get("typed") if isinstance(data.get("typed"), dict) else {}
    if name in ("pause", "resume"):
        labelling.pause(place.database, project, name == "pause", now)
    elif name == "close":
        labelling.close(place.database, project, now)
    elif name == "guideline":
        rankings_head.change_guideline(place.database, project, str((typed or {}).get("guideline", "")), person, now)
    elif name == "invite":
        return rankings_head.invited(users.add_invited(place.database, str((typed or {}).get("rater", "")), RATER, now), known["origin"])
    elif name == "settle":
        rankings_queue.settle(place.database, project, data, person, now)
    elif name == "criterion":
        known |= {"criterion": str(data.get("criterion", "")), "start": 0}
    elif name == "show":
        known |= {"settled": bool(data.get("settled")), "start": 0}
    elif name in ("start", "said"):
        known[name] = as_id(str(data.get("to")))
    return []


def tree(place: Place, known: dict[str, Any]) -> list[Node]:
    """All projects, or one of them, or what a judge made of one."""
    with Session(place.database) as session:
        if known["project"] is None:
            return _list(session)
        row = session.get(Artifact, known["project"])
        if row is None or row.kind != "rankings":
            return [missing(say("This ranking project"), "/rankings", say("All rankings"))]
        try:
            project = project_of(session, row.id or 0)
            known["criterion"] = known["criterion"] if known["criterion"] in criteria(project.settings) else criteria(project.settings)[0]
            told = of_project(place.database, row.id or 0, known["criterion"])
        except UserError as refused:
            return [problem(error(refused), link(say("All rankings"), "/rankings"))]
        back = h("p", link(say("← All rankings"), "/rankings"), class_="soft")
        head = rankings_head.tree(session, row, project, told, known["signs_in"])
        tabs = _tabs(known, criteria(project.settings))
        figures = rankings_figures.tree(session, told) if told.people else [_nobody(told)]
        return [back, *head, *tabs, *figures, *rankings_queue.tree(session, row, told, known), *rankings_queue.written(session, row, known)]


def _nobody(told: Summary) -> Node:
    return empty(say("Nobody has ranked anything yet: rank some yourself, or invite a rater. {n} items wait.", n=f"{told.items:,}"))


def _tabs(known: dict[str, Any], names: list[str]) -> list[Node]:
    if len(names) < 2:
        return []
    tabs = [
        h("a", name, href=f"/rankings?project={known['project']}", on="criterion", data={"criterion": name},
          class_="raw on" if name == known["criterion"] else "raw")
        for name in names
    ]  # fmt: skip
    return [h("div", h("span", say("Ranked by"), class_="soft"), *tabs, class_="filters row")]


def _list(session: Session) -> list[Node]:
    everything, judged, now = labels.projects(session), opinions.judged(session), queries.utc_now()
    start = link(say("Ask people to rank answers"), ASK, class_="button primary")
    head = h("div", h("h1", say("Rankings")), *([start] if everything else []), class_="row between")
    if not everything:
        text = say("Nobody ranks anything yet. Take the answers of two models, or several answers of one, and ask people which is better.")
        return [head, empty(text, start)]
    rows: list[list[Node]] = []
    for project, artifact in everything:
        done, of = labels.progress(session, project)
        rows.append([
            _name(artifact), rankings_head.state_of(project), say("{done} of {of} items", done=f"{done:,}", of=f"{of:,}"),
            f"{opinions.raters(session, artifact.id or 0):,}", h("span", ago(artifact.created_at, now), class_="soft nowrap"),
        ])  # fmt: skip
    columns = [say("Project"), say("State"), say("Ranked"), say("Raters"), say("When")]
    parts = [head, table(columns, rows, class_="last-folds")]
    if judged:
        cells: list[list[Node]] = [
            [_name(row), say("{n} items", n=f"{row.summary.get('items', 0):,}"), standing(row.summary),
             h("span", ago(row.created_at, now), class_="soft nowrap")]
            for row in judged
        ]  # fmt: skip
        heads = [say("Judged by"), say("Ranked"), say("How far to trust it"), say("When")]
        parts += [h("h2", say("By a judge")), table(heads, cells, class_="last-folds")]
    return parts


def _name(row: Artifact) -> Node:
    judge = h("div", str(row.summary["judge"]), class_="soft raw") if row.summary.get("format") == "judge" else None
    return h("div", link(row.name, f"/rankings?project={row.id}", class_="raw"), judge)
