"""New run: choose a stage or recipe, fill its form, see what it will take and what the model will read, press Start."""

import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any, get_origin

import gradio as gr
from pydantic import ValidationError
from sqlmodel import Session

from app import form
from app.pages import QUIET, Place, as_id, asked, asked_id, missing
from app.view import Node, go, h, link, problem, view
from app.wording import duration, error, say, size
from engine import submit
from engine.catalogue import find, recipes, stages
from engine.errors import UserError
from engine.stage import Estimate, Form, Preview, Stage
from storage import labels, listings, queries
from storage.database import transaction
from storage.tables import Run


def build(place: Place, demo: gr.Blocks) -> None:
    """Draw the page."""

    @gr.render(triggers=[demo.load], show_progress="hidden")  # type: ignore[untyped-decorator]
    def show(request: gr.Request) -> None:
        known, head = _load(place, request)
        view(head)
        if known:
            _form(place, find(known["name"]), known["settings"])


def _load(place: Place, request: gr.Request) -> tuple[dict[str, Any], list[Node]]:
    name = asked(request, "stage") or asked(request, "recipe")
    settings: dict[str, Any] = {}
    if asked(request, "from") or asked(request, "plan"):
        with Session(place.database) as session:
            run, plan = session.get(Run, asked_id(request, "from") or 0), listings.plan_of(session, asked_id(request, "plan") or 0)
        if run is None and plan is None:
            return {}, [missing(say("The run to clone"), "/runs", say("All runs"))]
        name, settings = (run.stage, dict(run.settings)) if run else (plan.recipe, dict(plan.settings)) if plan else ("", {})
        settings.pop("save_as", None)
    if not name:
        return {}, _choice()
    try:
        chosen = find(name)
    except UserError as refused:
        return {}, [problem(error(refused)), *_choice()]
    known = {key: value for key, value in settings.items() if key in chosen.model_fields}
    for key in chosen.model_fields:  # /new?stage=finetune&model=4 fills a field from the address
        if given := [id for part in asked(request, key).split(",") if (id := as_id(part))]:
            known[key] = given if get_origin(chosen.model_fields[key].annotation) is list else given[0]
    with transaction(place.database) as session:
        queries.want_spare(session, queries.utc_now())
    back = h("p", link(say("← Something else"), "/new"), class_="soft")
    return {"name": name, "settings": known}, [back, h("h1", say(chosen.title())), h("p", say(chosen.summary()))]


def _choice() -> list[Node]:
    def card(kind: str, name: str, chosen: type[Form]) -> Node:
        return h(
            "a", h("b", say(chosen.title())), h("span", say(chosen.summary()), class_="soft"), href=f"/new?{kind}={name}", class_="card"
        )

    return [
        h("h1", say("New run")),
        h("h2", say("Recipes: from a question to a report")),
        h("div", *[card("recipe", name, one) for name, one in recipes().items()], class_="cards"),
        h("h2", say("Stages: one step")),
        h("div", *[card("stage", name, one) for name, one in stages().items()], class_="cards"),
    ]


def _form(place: Place, chosen: type[Form], settings: dict[str, Any]) -> None:
    with Session(place.database) as session:
        offered = [*queries.artifacts(session), *labels.open_projects(session)]

    def choices(kind: str, formats: list[str]) -> list[tuple[str, int]]:
        fitting = [a for a in offered if a.kind == kind and (not formats or a.summary.get("format") in formats)]
        return [(a.name if a.ready_at else say("{name} (waits for people)", name=a.name), a.id or 0) for a in fitting]

    with gr.Row():
        with gr.Column(scale=3, min_width=340):
            fields = form.draw(chosen, settings, choices)
            general = view()
            start = gr.Button(say("Start"), variant="primary")
        with gr.Column(scale=2, min_width=320):
            beside = view(h("p", say("What this run will take is shown here once the form is complete."), class_="soft"))
    inputs = [field.component for field in fields]
    told = [*[field.message for field in fields], general]

    def looked(*typed: Any) -> Any:
        return _beside(place, chosen, form.collect(fields, list(typed)))

    def started(*typed: Any) -> list[Any]:
        settings = form.collect(fields, list(typed))
        try:
            submitted = submit.submit(place.database, place.home, submit.parse(place.database, chosen, settings))
        except (ValidationError, UserError) as refused:
            messages, rest = form.messages(fields, refused)
            hint = rest or say("Something above needs another look.")
            return [*messages, problem(hint)]
        address = f"/runs?plan={submitted.plan}" if submitted.plan else f"/runs?run={submitted.runs[0]}"
        return [*[None] * len(fields), go(address)]

    start.click(started, inputs, told, **QUIET)
    gr.on([_settled(field.component) for field in fields], looked, inputs, beside, trigger_mode="always_last", **QUIET)
    for field in fields:
        if field.upload:
            field.upload.upload(partial(_keep, place), field.upload, field.component, **QUIET).then(looked, inputs, beside, **QUIET)
    if all(field.component.value not in (None, "") for field in fields[:1]):
        start_view = looked(*[field.component.value for field in fields])
        beside.value = start_view


def _settled(component: Any) -> Any:
    """The event at which a component's value is final: not every keystroke."""
    if isinstance(component, gr.Textbox | gr.Number):
        return component.blur
    return component.release if isinstance(component, gr.Slider) else component.input


def _beside(place: Place, chosen: type[Form], settings: dict[str, Any]) -> list[Node]:
    """What the run will take, the first rows as the model will read them, and the same as a command."""
    parts: list[Node] = []
    try:
        made = submit.parse(place.database, chosen, settings)
        with Session(place.database) as session:
            inputs = submit.look(session, place.home, made)
        preview = submit.preview(place.database, place.home, made) if isinstance(made, Stage) else None
        try:
            submit.check(made, inputs)
            estimate = submit.estimate(place.database, place.home, made) if isinstance(made, Stage) else None
            parts += _estimate(estimate) if estimate else []
        except UserError as refused:
            parts.append(problem(error(refused)))
        parts += _preview(preview) if preview else []
    except (ValidationError, UserError) as refused:
        reasons = form.messages([], refused)[1]
        parts.append(h("p", say("Not complete yet: {what}", what=reasons), class_="soft"))
    copy = h("button", say("Copy as command"), on="copy", data={"text": form.command(chosen, settings)})
    return [*parts, h("p", copy)]


def _estimate(told: Estimate) -> list[Node]:
    figures = [
        *([say("about {time}", time=duration(told.seconds))] if told.seconds else []),
        *([say("{size} of memory", size=size(told.memory))] if told.memory else []),
        *([say("{size} on disk", size=size(told.disk))] if told.disk else []),
    ]
    notes = [h("li", note) for note in (*told.notes, *told.warnings)]
    return [h("div", h("b", say("This run will take")), h("p", ", ".join(figures)), h("ul", *notes) if notes else None, class_="card")]


def _preview(told: Preview) -> list[Node]:
    rows = [
        h("div",
          h("pre", *[h("span", text, class_="raw loss" if loss else "raw") for text, loss in row.pieces]),
          h("small", ", ".join(filter(None, [say("{n} tokens", n=row.tokens) if row.tokens else "", row.problem]))), class_="item")
        for row in told.rows
    ]  # fmt: skip
    columns = [h("p", say("Columns: {names}", names=", ".join(told.columns)), class_="soft raw")] if told.columns else []
    legend = h("p", h("span", say("Marked"), class_="loss"), " ", say("is what the model learns to say."), class_="soft")
    return [h("div", h("b", told.title), *columns, legend, *rows, *[h("p", note) for note in told.notes], class_="card")]


def _keep(place: Place, uploaded: str) -> str:
    """Copy an upload into the home under a name of our making, so that it outlives Gradio's own cache."""
    source = Path(uploaded)
    stem = re.sub(r"[^\w.-]+", "-", source.stem).strip(".-")[:50] or "upload"
    suffix = re.sub(r"[^\w.]+", "", source.suffix)[:10]
    place.home.uploads.mkdir(parents=True, exist_ok=True)
    target = place.home.uploads / f"{stem}{suffix}"
    number = 1
    while target.exists():
        number += 1
        target = place.home.uploads / f"{stem}-{number}{suffix}"
    try:
        shutil.copyfile(source, target)
    except OSError:
        target.unlink(missing_ok=True)
        raise
    return str(target)
