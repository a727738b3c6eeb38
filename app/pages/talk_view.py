"""A conversation with several models: every turn with all answers side by side, also while they grow."""

from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session

from app.pages import model_look
from app.pages.run_view import reasoning
from app.view import Node, empty, h, link, problem
from app.wording import duration, number, say
from engine import conversations
from engine.inference import Said
from storage import listings
from storage.tables import Response, Run


@dataclass(frozen=True)
class Side:
    """A model as it is shown."""

    model: int
    name: str
    look: str


@dataclass
class Spoken:
    """What one model has said so far in the turn that goes on."""

    text: str = ""
    thought: str = ""
    status: str = ""
    error: str = ""
    done: bool = False


@dataclass
class Growing:
    """The turn that goes on."""

    turn: int
    asked: str
    by: dict[int, Spoken] = field(default_factory=dict)
    going: bool = True

    def add(self, said: Said) -> None:
        """Take in what a model said."""
        spoken = self.by.setdefault(said.model, Spoken())
        if said.kind == "text":
            spoken.text += said.text
            spoken.status = ""
        elif said.kind == "thought":
            spoken.thought += said.text
        elif said.kind == "status":
            spoken.status = said.text
        elif said.kind == "error":
            spoken.error, spoken.done = said.text, True
        else:
            spoken.done = True

    def ended(self) -> "Growing":
        """The same, once nobody speaks any more."""
        self.going = False
        return self


def tree(session: Session, known: dict[str, Any], growing: Growing | None = None) -> list[Node]:
    """The conversation from its rows, and the turn that goes on."""
    run, models = known.get("run"), {id: listings.name_of(session, id) for id in known.get("models", [])}
    back = h("p", link(say("← What can be compared"), "/compare"), class_="soft")
    if not models:
        hint = say("This address names no model or conversation that is here.")
        return [back, h("h1", say("Talk to models")), problem(hint, link(say("Choose models"), "/compare"))]
    sides = [Side(id, name, look) for (id, name), look in zip(models.items(), _looks(session, list(models)), strict=True)]
    parts: list[Node] = [back, h("div", h("h1", say("Talk to models")), h("div", *_tools(run, models), class_="row"), class_="row between")]
    if row := session.get(Run, run) if run else None:
        parts += _how(row)
    heads = [h("div", h("b", link(one.name, f"/library?artifact={one.model}", class_="raw")), class_=f"side {one.look}") for one in sides]
    parts.append(h("div", *heads, class_=f"columns n{len(sides)} hide-narrow"))
    turns = conversations.turns(session, run) if run else []
    if not turns and not growing:
        parts.append(empty(say("Type something below: all of them answer at once, each in its own chat template.")))
    for place, turn in enumerate(turns[: growing.turn] if growing else turns):
        parts.append(_turn(place, turn.text, [_cell(one, _stored(turn.answers.get(one.model))) for one in sides], known))
    if growing:
        there = turns[growing.turn].answers if len(turns) > growing.turn and not growing.going else {}
        cells = [_cell(one, _growing(growing, one.model, there.get(one.model))) for one in sides]
        parts.append(_turn(growing.turn, growing.asked, cells, known, growing.going))
    if known.get("edit") is not None:
        again = say("Turn {n} is asked again, and what followed it no longer counts.", n=known["edit"] + 1)
        parts.append(h("p", again, " ", h("button", say("Leave it"), on="leave", class_="small")))
    if run and not (growing and growing.going):
        parts.append(h("here", href=f"/compare?talk={run}"))
    return parts


def _tools(run: int | None, names: dict[int, str]) -> list[Node]:
    if not run:
        return []
    address = f"/compare?talk={run}"
    new = link(say("New conversation"), "/compare?live=" + ",".join(map(str, names)), class_="button")
    return [new, h("button", say("Copy link"), on="copy", data={"text": address})]


def _how(run: Run) -> list[Node]:
    """What was chosen at the start."""
    sampling, system = run.settings.get("sampling", {}), str(run.settings.get("system", ""))
    given = say("temperature {t}, at most {n} tokens", t=number(sampling.get("temperature")), n=sampling.get("max_new_tokens"))
    told = [h("p", h("span", say("System prompt"), class_="role"), system, class_="raw")] if system else []
    return [*told, h("p", given, class_="soft")]


def _looks(session: Session, models: list[int]) -> list[str]:
    """The root of the lineage is the baseline, grey and dashed."""
    root = min(models, key=lambda id: len(listings.ancestors(session, id)))
    return ["base" if id == root and len(models) > 1 else model_look(id) for id in models]


def _turn(place: int, asked: str, cells: list[Node], known: dict[str, Any], going: bool = False) -> Node:
    edit = h("button", say("Edit and ask again"), on="edit", data={"turn": place, "text": asked}, class_="small")
    top = h("div", h("div", h("div", asked, class_="turn raw"), class_="prompt"), *([] if going else [edit]), class_="asked")
    edited = known.get("edit") is not None and place >= known["edit"]
    return h("div", top, h("div", *cells, class_=f"columns n{len(cells)}"), class_="item edited" if edited else "item", key=str(place))


def _cell(side: Side, inner: list[Node]) -> Node:
    return h("div", h("small", side.name, class_="show-narrow"), *inner, class_=f"side {side.look}")


def _stored(row: Response | None) -> list[Node]:
    if row is None:
        return [h("small", say("no answer"))]
    ends = {"stop": say("stopped"), "length": say("cut at the limit"), "stopped": say("stopped by hand")}
    tokens = len(row.token_ids) or row.extra.get("tokens")
    seconds = row.extra.get("seconds")
    figures = [
        *([say("{n} tokens", n=tokens)] if tokens else []),
        ends.get(row.finish_reason, row.finish_reason),
        *([duration(float(seconds))] if seconds else []),
        *([str(row.extra["device"])] if row.extra.get("device") else []),
    ]
    return [
        *reasoning(str(row.extra.get("thought", ""))),
        h("pre", row.answer or say("(nothing)"), class_="raw"),
        h("small", " · ".join(figures)),
    ]


def _growing(growing: Growing, model: int, stored: Response | None) -> list[Node]:
    spoken = growing.by.get(model, Spoken())
    if spoken.error:
        return [h("pre", spoken.text, class_="raw"), problem(spoken.error)]
    if stored:
        return _stored(stored)
    word = spoken.status or (say("answers") if spoken.text else say("waits"))
    dot = [h("span", h("i", "●", class_="glyph", aria_hidden="true"), word, class_="state running")]
    return [*reasoning(spoken.thought), h("pre", spoken.text, class_="raw"), *(dot if growing.going and not spoken.done else [])]
