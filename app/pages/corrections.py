"""Corrections: people say which answers refuse, and how often the scorer of refusals agrees with them."""

from functools import partial
from typing import Any

import gradio as gr
from sqlmodel import Session

from app.pages import Place, as_id, asked, asked_id, missing, one_view
from app.view import Node, empty, h, link, table
from app.wording import ago, say
from engine import corrections
from engine.corrections import ENOUGH, PROBES, Rate
from engine.scorers.refusal import VALUES
from storage import corrections as stored
from storage import queries
from storage.corrections import Judged
from storage.database import transaction
from storage.tables import Artifact

PAGE = 10
ASKED = {"refusal": "a harmful request", "compliance": "a harmless look-alike", "refusal_german": "a harmful request, in German"}


def build(place: Place, demo: gr.Blocks) -> None:
    """Draw the page."""
    one_view(demo, _start, partial(tree, place), partial(do, place))


def _start(request: gr.Request) -> dict[str, Any]:
    return {"model": asked_id(request, "model"), "corrected": asked(request, "show") == "corrected", "start": 0, "ids": None}


def do(place: Place, data: dict[str, Any], known: dict[str, Any], person: str) -> None:
    """What was pressed: a correction by a person, a filter or the next page. Raises UserError."""
    if data.get("name") == "correct":
        with transaction(place.database) as session:
            corrections.correct(session, as_id(str(data.get("response"))), str(data.get("kind")), person, queries.utc_now())
    if data.get("name") == "show":
        known.update(corrected=bool(data.get("corrected")), start=0, ids=None)
    if data.get("name") == "page":
        known.update(start=as_id(str(data.get("start"))), ids=None)


def tree(place: Place, known: dict[str, Any]) -> list[Node]:
    """One model's answers, or all models that have some. A page's answers stay until another page is asked for."""
    with Session(place.database) as session:
        models = stored.models(session, PROBES)
        told = [h("h1", _sentence(session), class_="sentence"), _how()]
        if known["model"] is None:
            return [*told, *_models(models)]
        chosen = next((row for row in models if row[0].id == known["model"]), None)
        if chosen is None:
            return [missing(say("A model with such answers"), "/corrections", say("All models"))]
        if known["ids"] is None:
            known["ids"] = stored.ids(session, known["model"], PROBES, known["corrected"], known["start"], PAGE)
        return [*told, *_answers(stored.read(session, known["ids"], PROBES), known, *chosen)]


def _sentence(session: Session) -> str:
    told = corrections.agreement(session)
    precision, recall = told.precision.interval, told.recall.interval
    if precision and recall:
        text = "Of what the scorer calls refused, people agree in {precision}; of what people call refused, it finds {recall}."
        return say(text, precision=_rate(told.precision, precision), recall=_rate(told.recall, recall))
    text = (
        "Not enough corrections to say how good the scorer of refusals is: of {n} judged answers it calls {scored} refused, "
        "people {said}, and {enough} of each are needed."
    )
    return say(text, n=told.n, scored=told.precision.n, said=told.recall.n, enough=ENOUGH)


def _rate(rate: Rate, interval: tuple[float, float]) -> str:
    low, high = interval
    return say("{share:.0%} (n = {n}, {low:.0%} to {high:.0%})", share=rate.right / rate.n, n=rate.n, low=low, high=high)


def _how() -> Node:
    text = "It knows phrases and no meaning. Say what an answer is, also where it is right: only answers that somebody judged count."
    return h("p", say(text), class_="soft")


def _models(models: list[tuple[Artifact, int, int]]) -> list[Node]:
    if not models:
        start = link(say("Measure a model"), "/new?stage=evaluate", class_="button primary")
        return [empty(say("No model has been asked yet: the probes refusal and compliance do."), start)]
    rows: list[list[Node]] = [
        [link(model.name, f"/corrections?model={model.id}", class_="raw"), f"{judged:,}", f"{corrected:,}"]
        for model, judged, corrected in models
    ]
    return [table([say("Model"), say("Answers"), say("Corrected")], rows)]


def _answers(rows: list[Judged], known: dict[str, Any], model: Artifact, judged: int, corrected: int) -> list[Node]:
    filters = [
        h("a", f"{word} {count:,}", href=f"/corrections?model={model.id}" + ("&show=corrected" if which else ""), on="show",
          data={"corrected": which}, class_="on" if known["corrected"] == which else "")
        for which, word, count in ((False, say("not yet corrected"), judged - corrected), (True, say("corrected"), corrected))
    ]  # fmt: skip
    head: list[Node] = [
        h("p", link(say("← All models"), "/corrections"), class_="soft"),
        h("div", h("h2", model.name, class_="raw"), h("div", *filters, class_="filters row"), class_="row between"),
    ]
    if not rows:
        hint = say("Nothing is corrected yet.") if known["corrected"] else say("Every answer has been judged by somebody.")
        return [*head, empty(hint)]
    return [*head, *[_answer(row) for row in rows], h("div", *_moves(rows, known, judged, corrected), class_="row")]


def _answer(row: Judged) -> Node:
    scored = corrections.kind_of(row.probe, row.value)
    said = corrections.kind_of(row.probe, row.correction.value) if row.correction else None
    buttons = [
        h("button", say(kind), on="correct", data={"response": row.response.id, "kind": kind}, aria_pressed=str(kind == said).lower())
        for kind in VALUES
    ]
    step = say(", at step {n}", n=row.response.step) if row.response.step else ""
    verdict = say("The scorer says {kind}.", kind=say(scored))
    if row.correction:
        then = ago(row.correction.at, queries.utc_now())
        verdict += " " + say("{person} said {kind}, {when}.", person=row.correction.person, kind=say(said or ""), when=then)
    return h(
        "div",
        h("div", str(row.response.prompt[-1].get("content", "")), class_="prompt"),
        h("small", say(ASKED[row.probe]), step),
        h("pre", row.response.answer, class_="raw"),
        h("div", *buttons, h("small", verdict), class_="row tools"),
        class_="item",
        key=str(row.response.id),
    )


def _moves(rows: list[Judged], known: dict[str, Any], judged: int, corrected: int) -> list[Node]:
    """To the pages before and after. What was corrected on this page is gone from the list of those that are not."""
    start = known["start"]
    after = start + sum(known["corrected"] or not row.correction for row in rows)
    moves: list[Node] = []
    if start:
        moves.append(h("button", say("← Previous"), on="page", data={"start": max(0, start - PAGE)}))
    if after < (corrected if known["corrected"] else judged - corrected):
        moves.append(h("button", say("Next →"), on="page", data={"start": after}))
    return moves
