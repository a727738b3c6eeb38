"""Runs: all of them, one of them live, several overlaid, or those a recipe queued. The address says which."""

from collections.abc import Callable
from typing import Any

import gradio as gr
from sqlmodel import Session

from app import charts
from app.live import chart, more, points, whole
from app.pages import QUIET, Place, as_id, asked, asked_id, run_list, run_title, run_view, unless_seen
from app.view import Tree, action, go, problem, view
from app.wording import error, say
from engine import dispatcher, library, submit
from engine.errors import UserError
from storage import curves
from storage.database import transaction
from storage.tables import Run


def build(place: Place, demo: gr.Blocks) -> None:
    """Draw the page."""
    state = gr.State({})
    head = view()
    with gr.Row(elem_classes="dj-columns"):
        with gr.Column(scale=1, min_width=340, elem_classes="dj-left"):
            with gr.Column(visible=False) as live:
                main = chart()
            with gr.Accordion(say("Learning rate, speed, memory"), open=False, visible=False) as folded:
                rest = chart()
            body = view(elem_classes="dj-body")
        with gr.Column(scale=1, min_width=340, visible=False) as side:
            panel = view()
    timer = gr.Timer(2)
    outputs = [state, head, live, main, side, panel, folded, rest, body]

    def load(request: gr.Request) -> list[Any]:
        return _draw(place, _start(request), anew=True)

    def tick(known: dict[str, Any], request: gr.Request) -> list[Any]:
        return _draw(place, known, anew=False) if known else load(request)  # a restarted dashboard has forgotten its states

    def resync(known: dict[str, Any], request: gr.Request) -> list[Any]:
        return _draw(place, known or _start(request), anew=True)

    def act(event: gr.EventData, known: dict[str, Any], request: gr.Request) -> list[Any]:
        anew, known, data = not known, known or _start(request), action(event)
        try:
            address = _do(place, data, known)
        except UserError as refused:
            known["refused"] = error(refused)
            address = None
        drawn = _draw(place, known, anew)
        if address:
            drawn[1] = go(address)
        return drawn

    demo.load(load, None, outputs, **QUIET)
    timer.tick(tick, state, outputs, **QUIET)
    for lines in (main, rest):
        lines.resync(resync, state, outputs, **QUIET)
    for part in (head, panel, body):
        part.act(act, state, outputs, trigger_mode="multiple", **QUIET)


def _start(request: gr.Request) -> dict[str, Any]:
    """What the address asks for."""
    return {
        "run": asked_id(request, "run"),
        "plan": asked_id(request, "plan"),
        "compare": list(dict.fromkeys(as_id(part) for part in asked(request, "compare").split(",") if part)),
        "metric": asked(request, "metric") or "loss",
        "filter": {name: asked(request, name) for name in ("status", "words")},
        "seen": {},
    }


def _draw(place: Place, known: dict[str, Any], anew: bool) -> list[Any]:
    seen = known["seen"]
    with Session(place.database) as session:
        if known.get("run") is not None:
            return _draw_run(place, session, known, anew)
        if known.get("compare"):
            runs = [run for id in known["compare"] if (run := session.get(Run, id))]
            drawn, silent = _overlay(session, runs, known, anew)
            if not anew:
                return [*[gr.skip()] * 3, drawn, *[gr.skip()] * 5]
            head, body = run_list.compared(runs, known["metric"], silent)
            return [known, head, gr.update(visible=len(runs) > 1), drawn, *[gr.skip()] * 4, body]
        head = run_list.tree(session, known)
    refused = known.pop("refused", None)
    tree: Tree = [problem(refused), *head] if refused else head
    return [known, unless_seen(seen, "head", tree), *[gr.skip()] * 7]


def _draw_run(place: Place, session: Session, known: dict[str, Any], anew: bool) -> list[Any]:
    seen, run = known["seen"], session.get(Run, known["run"])
    if run is None:
        return [known, run_view.not_there(), *[gr.skip()] * 7]
    refused = known.pop("refused", None)
    head = ([problem(refused)] if refused else []) + run_view.head(session, run)
    panel, body = run_view.panel(session, run, known), run_view.body(session, place.home, run)
    charted = [_chart(session, known, name, anew, main=name == "main") for name in ("main", "rest")]
    names = set(known.get("names", []))
    return [
        known,
        unless_seen(seen, "head", head),
        _visible(seen, "live", any(map(charts.is_main, names))),
        charted[0],
        _visible(seen, "side", bool(panel)),
        unless_seen(seen, "panel", panel),
        _visible(seen, "folded", not all(map(charts.is_main, names))),
        charted[1],
        unless_seen(seen, "body", body),
    ]


def _chart(session: Session, known: dict[str, Any], name: str, anew: bool, main: bool) -> Any:
    """The whole chart when it is new or has a new line; else only new points, or nothing."""
    cursors = known.setdefault("cursors", {})
    run, after = known["run"], cursors.get(name)
    if not anew and after is not None:
        told = curves.after(session, run, after)
        if not told.series:
            return gr.skip()
        if set(told.series) <= set(known["names"]):
            cursors[name] = told.cursor
            return more(told, after)
    told = curves.read(session, run)
    known["names"] = sorted(told.series)
    cursors[name] = told.cursor
    return whole(charts.of_run(told.series, main), points(told), told.cursor)


def _overlay(session: Session, runs: list[Run], known: dict[str, Any], anew: bool) -> tuple[Any, list[int]]:
    """One metric of several runs, whole or only what is new, and the runs that never recorded it.

    Each run has its own cursor, so the payloads themselves are numbered."""
    metric, cursors, sent = known["metric"], known.setdefault("cursors", {}), known.get("sent", 0)
    ids = [run.id or 0 for run in runs]
    told = {id: curves.read(session, id, [metric]) if anew else curves.after(session, id, cursors[id]) for id in ids}
    cursors.update({id: one.cursor for id, one in told.items()})
    drawn = {f"{id}/{metric}": points(one)[metric] for id, one in told.items() if metric in one.series}
    if not anew and not drawn:
        return gr.skip(), []
    known["sent"] = sent + 1
    if not anew:
        return {"points": drawn, "after": sent, "cursor": sent + 1}, []
    lines = charts.overlay([(run.id or 0, run_title(run)) for run in runs], metric)
    return whole(lines, drawn, sent + 1), [id for id in ids if metric not in told[id].series]


def _visible(seen: dict[str, Any], name: str, shown: bool) -> Any:
    if seen.get(name) == shown:
        return gr.skip()
    seen[name] = shown
    return gr.update(visible=shown)


def _do(place: Place, data: dict[str, Any], known: dict[str, Any]) -> str | None:
    """Carry out an action; the address to go to, if it leads elsewhere. Raises UserError."""
    run, name = int(data.get("run", 0)), str(data.get("name", ""))
    changes: dict[str, Callable[[], Any]] = {
        "stop": lambda: dispatcher.stop(place.database, run),
        "resume": lambda: dispatcher.resume(place.database, run),
        "tags": lambda: _tag(place, run, str(data.get("value", ""))),
        "step": lambda: known.update(step=int(data.get("value", data.get("step", 0)))),
        "page": lambda: known.update(start=max(0, int(data.get("start", 0)))),
        "words": lambda: known["filter"].update(words=str(data.get("value", ""))),
        "status": lambda: known["filter"].update(status=str(data.get("status", ""))),
        "pick": lambda: _pick(known, run, bool(data.get("value"))),
    }
    if name == "retry":
        return f"/runs?run={submit.retry(place.database, place.home, run).runs[0]}"
    if name == "promote":
        return f"/library?artifact={library.promote(place.database, place.home, run, int(data.get('step', 0)))}"
    if name in changes:
        changes[name]()
    return None


def _pick(known: dict[str, Any], run: int, wanted: bool) -> None:
    picked = [id for id in known.get("picked", []) if id != run]
    known["picked"] = [*picked, run] if wanted else picked


def _tag(place: Place, run: int, tags: str) -> None:
    with transaction(place.database) as session:
        session.get_one(Run, run).tags = " ".join(tags.split())[:200]
