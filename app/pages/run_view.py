"""One run: what it is doing, what its model says at each checkpoint, its log, settings and lineage."""

from typing import Any

from pydantic import ValidationError
from sqlmodel import Session

from app import form
from app.pages import missing, people_awaited, progress, run_title, settings_table, status, tell_button, when
from app.view import Node, h, link, problem
from app.wording import say
from engine import conversations, differences, library
from engine.catalogue import stages
from engine.chat import count_tokens
from storage import curves, listings, queries
from storage.files import Home
from storage.tables import CANCELLED, FAILED, FINAL, SUCCEEDED, Response, Run

PAGE = 8


def not_there() -> Node:
    """No run of this number."""
    return missing(say("This run"), "/runs", say("All runs"))


def head(session: Session, run: Run) -> list[Node]:
    """The run's line: state, progress, what can be done; then what can be said of it in a sentence."""
    made = queries.outputs_of(session, run.id or 0)
    name = next((artifact.name for artifact in made.values()), "")
    buttons: list[Node] = []
    told = {"run": run.id}
    if run.status not in FINAL:
        word = say("Stop") if run.status == "queued" else say("Stop and save")
        buttons.append(h("button", word, on="stop", data=told, disabled=bool(run.stop_requested)))
    if run.status in (FAILED, CANCELLED):
        buttons.append(h("button", say("Resume"), class_="primary", on="resume", data=told))
    if run.stage == conversations.STAGE:
        buttons.append(link(say("Open the conversation"), f"/compare?talk={run.id}", class_="button primary"))
    else:
        again = [h("button", say("Run again"), on="retry", data=told)] if run.status in FINAL else []
        buttons += [*again, link(say("Clone"), f"/new?from={run.id}", class_="button")]
    if run.status not in FINAL:
        buttons.append(tell_button(run))
    report = next((a for a in made.values() if a.kind == "report" and a.ready_at), None)
    sentence = str(report.summary.get("sentence", "")) if report else _sentence(session, run)
    title = h("h1", f"{run.id} {run_title(run)}", class_="nowrap")
    parts: list[Node] = [
        h(
            "div",
            h("div", title, status(run, f"{name}. {run.error or sentence}"), h("span", when(run), class_="soft"), class_="row"),
            h("div", *buttons, class_="row"),
            class_="row between",
        ),
        h("p", h("span", name, class_="raw"), class_="soft"),
    ]
    if going := [*progress(run), *people_awaited(session, run)]:
        parts.append(h("div", *going, class_="row"))
    if run.error:
        parts.append(problem(run.error))
    if sentence:
        parts.append(h("p", h("b", sentence)))
    if report:
        parts.append(link(say("Read the report"), f"/report?report={report.id}", class_="button primary"))
    return parts


def panel(session: Session, run: Run, known: dict[str, Any]) -> list[Node]:
    """Answers: at each checkpoint against the start while a model learns, else one page after the other."""
    steps = [] if run.stage == conversations.STAGE else listings.answer_steps(session, run.id or 0)
    if not steps:
        return []
    if len(steps) == 1 and steps[0] == 0 and run.stage == "generate":
        return _pages(session, run, known)
    step = known["step"] if known.get("step") in steps else steps[-1]
    place = steps.index(step)
    before = {(a.prompt_key, a.sample): a for a in listings.answers_at(session, run.id or 0, steps[0])}
    marks = [
        h("b" if one == step else "a", str(one), href="#" if one != step else "", on="step" if one != step else "", data={"step": one})
        for one in steps
    ]
    moves = [
        h("button", "←", on="step", data={"step": steps[max(0, place - 1)]}, aria_label=say("Earlier checkpoint"), disabled=place == 0),
        h("div", *marks, class_="steps row"),
        h(
            "button",
            "→",
            on="step",
            data={"step": steps[min(len(steps) - 1, place + 1)]},
            aria_label=say("Later checkpoint"),
            disabled=step == steps[-1],
        ),
    ]
    shown = [
        _item(answer, before.get((answer.prompt_key, answer.sample)) if step != steps[0] else None, steps[0], step)
        for answer in listings.answers_at(session, run.id or 0, step)
    ]
    return [h("h2", say("Answers at step")), h("div", *moves, class_="row"), h("div", *shown, class_="panel")]


def checkpoints(home: Home, run: Run) -> list[Node]:
    """The whole checkpoints a run has, each of which can become a model; nothing where there are none."""
    steps = library.checkpoints(home, run.id or 0)
    rows = [
        h(
            "div",
            say("step {step}", step=step),
            h("button", say("Promote to a model"), on="promote", data={"run": run.id, "step": step}),
            class_="row",
        )
        for step in steps
    ]
    head = h("summary", say("Checkpoints"), h("small", ", ".join(map(str, steps))))
    return [h("details", head, *rows, open=run.status != SUCCEEDED)] if rows else []


def body(session: Session, home: Home, run: Run) -> list[Node]:
    """Checkpoints, log, settings, lineage."""
    parts = checkpoints(home, run)
    events = listings.last_events(session, run.id or 0)
    lines = [h("div", h("span", e.at.astimezone().strftime("%H:%M:%S"), class_="at"), e.message, class_=f"raw {e.level}") for e in events]
    output = say("Everything it printed: {path}", path=home.run_folder(run.id or 0) / "log.txt")
    parts.append(
        h("details", h("summary", say("Log"), h("small", str(len(events)))), h("div", *lines, class_="log"), h("small", output), open=True)
    )
    parts.append(h("details", h("summary", say("Settings")), _settings(run)))
    parts.append(h("details", h("summary", say("Made from, used by")), *_lineage(session, run), open=True))
    tags = h(
        "input",
        type="text",
        value=run.tags,
        placeholder=say("words to find it by"),
        on="tags",
        data={"run": run.id},
        aria_label=say("Tags"),
    )
    parts.append(h("details", h("summary", say("Tags")), tags))
    return parts


def marked(before: str, after: str) -> list[Node]:
    """The later text with the words marked that the earlier one did not have."""
    return [h("ins", text, class_="raw") if new else text for text, new in differences.changed(before, after)]


def reasoning(text: str) -> list[Node]:
    """What a model thought before it answered, folded."""
    return [h("details", h("summary", say("Reasoning")), h("pre", text, class_="raw"))] if text else []


def _sentence(session: Session, run: Run) -> str:
    """From the held-out loss where there is one: the loss of single batches says little."""
    told = curves.read(session, run.id or 0, ["loss", "eval_loss"], points=100).series
    for name, word in (("eval_loss", say("Held-out loss")), ("loss", say("Loss"))):
        known = [value for _, value in told.get(name, []) if value is not None]
        if known:
            return f"{word} {known[0]:.3g} → {known[-1]:.3g}."
    return ""


def _pages(session: Session, run: Run, known: dict[str, Any]) -> list[Node]:
    start, total = known.get("start", 0), listings.count_answers(session, run.id or 0, 0)
    shown = [_item(answer, None, -1, 0) for answer in listings.answers_at(session, run.id or 0, 0, start, PAGE)]
    moves: list[Node] = []
    if start:
        moves.append(h("button", say("← Previous"), on="page", data={"start": start - PAGE}))
    if start + PAGE < total:
        moves.append(h("button", say("Next →"), on="page", data={"start": start + PAGE}))
    span = say("{low} to {high} of {n}", low=start + 1, high=min(start + PAGE, total), n=total)
    return [h("h2", say("Answers")), h("div", *moves, h("span", span, class_="soft"), class_="row"), *shown]


def _item(answer: Response, before: Response | None, first: int, step: int) -> Node:
    prompt = [
        h("div", *([h("span", str(t["role"]), class_="role")] if len(answer.prompt) > 1 else []), str(t["content"]), class_="turn raw")
        for t in answer.prompt
    ]
    text = (marked(before.answer, answer.answer) if before else (answer.answer,)) if answer.answer else (say("(nothing)"),)
    sides = [
        h(
            "div",
            *reasoning(str(answer.extra.get("thought", ""))),
            h("pre", *text, class_="raw"),
            h("small", _figures(answer)),
            class_="side tuned" if before else "side base" if step == first else "side",
        )
    ]
    if before:
        sides.insert(
            0,
            h(
                "div",
                *reasoning(str(before.extra.get("thought", ""))),
                h("pre", before.answer or say("(nothing)"), class_="raw"),
                h("small", say("step {step}", step=first), " · ", _figures(before)),
                class_="side base",
            ),
        )
    return h(
        "div",
        h("div", *prompt, class_="prompt"),
        h("div", *sides, class_="pair" if before else ""),
        class_="item",
        key=f"{answer.prompt_key}{answer.sample}",
    )


def _figures(answer: Response) -> str:
    ended = say("stopped") if answer.finish_reason == "stop" else say("cut at the limit")
    tokens = count_tokens(answer.token_ids, answer.extra)
    return ended if tokens is None else f"{say('{n} tokens', n=tokens)} · {ended}"


def _settings(run: Run) -> Node:
    stage = stages().get(run.stage)
    try:
        if stage is None:
            raise ValueError(run.stage)
        text = form.command(stage, stage.model_validate(run.settings).model_dump(mode="json"))
    except (ValidationError, ValueError):
        note = say("These settings were made by another version and cannot be run again as they are.")
        return h("div", h("p", note, class_="soft"), settings_table(run.settings))
    copy = h("button", say("Copy as command"), on="copy", data={"text": text})
    return h("div", settings_table(run.settings), h("p", copy))


def _lineage(session: Session, run: Run) -> list[Node]:
    used = [
        h("li", h("code", field), " ", link(a.name, f"/library?artifact={a.id}")) for field, a in queries.consumed_by(session, run.id or 0)
    ]
    made: list[Node] = []
    for name, artifact in queries.outputs_of(session, run.id or 0).items():
        users = [link(f"{user.id} {run_title(user)}", f"/runs?run={user.id}") for user in queries.users_of(session, artifact.id or 0)]
        by = [h("small", " ", say("used by"), " "), *[part for user in users for part in (user, " ")]] if users else []
        page = f"/rankings?project={artifact.id}" if artifact.kind == "rankings" else f"/library?artifact={artifact.id}"
        made.append(
            h(
                "li",
                h("code", name),
                " ",
                link(artifact.name, page),
                "" if artifact.ready_at else say(" (not ready)"),
                *by,
            )
        )
    nothing = h("li", say("nothing"))
    plan = [h("p", link(say("Part of recipe run {plan}", plan=run.plan), f"/runs?plan={run.plan}"))] if run.plan else []
    return [
        *plan,
        h("p", say("Made from"), class_="soft"),
        h("ul", *(used or [nothing])),
        h("p", say("Makes"), class_="soft"),
        h("ul", *(made or [nothing])),
    ]
