"""The top of a ranking project's page: what it says in a sentence, its state, and what its owner can do about it."""

from datetime import datetime
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session

from app.pages import run_title
from app.pages.rankings_figures import shared
from app.view import Node, h, link, state
from app.wording import ago, say
from engine import labelling
from engine.errors import UserError
from engine.judging import facts, standing
from engine.labelling import LONGEST
from engine.rankings import OVERALL
from engine.rankings_report import Summary
from storage import labels, queries
from storage.tables import FINAL, Artifact, Project

GLYPHS = {"open": "running", "paused": "cancelled", "closed": "succeeded"}  # states of projects look like those of runs


def tree(session: Session, row: Artifact, project: Project, told: Summary, signs_in: bool) -> list[Node]:
    """The sentence first, then the buttons, then what is folded."""
    if row.summary.get("format") == "judge":
        return _judge(session, row, project, told)
    here, now = {"project": project.artifact}, queries.utc_now()
    name = h("p", h("span", row.name, class_="raw"), " · ", state_of(project), " · ",
             say("asked {when}", when=ago(row.created_at, now)), class_="soft")  # fmt: skip
    buttons: list[Node] = []
    if project.closed_at is None:
        paused = project.paused_at is not None
        rank = link(say("Rank"), f"/label/?project={row.id}", class_="button primary" if not paused else "button")
        word, act = (say("Resume"), "resume") if paused else (say("Pause"), "pause")
        warning = say("Close {name}? Nobody can rank in it any more, and what waits for it goes on.", name=row.name)
        buttons = [rank, h("button", word, on=act, data=here, class_="primary" if paused else ""),
                   h("button", say("Close"), on="close", data={**here, "confirm": warning})]  # fmt: skip
    made = "button primary" if project.closed_at else "button"
    buttons += [link(say("Make a dataset"), f"/new?stage=collect_preferences&rankings={row.id}", class_=made),
                link(say("Let a model judge"), f"/new?stage=judge&rankings={row.id}", class_="button")]  # fmt: skip
    return [
        h("h1", sentence(told), class_="sentence"),
        name,
        h("div", *buttons, class_="row"),
        *waiting(session, row),
        _guideline(session, project, here),
        *([] if project.closed_at else [_invite(here, signs_in)]),
    ]


def _judge(session: Session, row: Artifact, project: Project, told: Summary) -> list[Node]:
    people = session.get_one(Artifact, project.artifact)
    about = [say("{judge}: {standing}", judge=row.summary.get("judge", ""), standing=standing(row.summary)), *facts(row.summary)]
    valid = say("validated") if row.summary.get("validated") else say("not validated")
    return [
        h("h1", preference(told), class_="sentence"),
        h("p", h("span", row.name, class_="raw"), " · ", h("b", valid), " · ", say("{n} items", n=f"{told.done:,}"), " · ",
          say("it judged"), " ", link(people.name, f"/rankings?project={people.id}", class_="raw"), class_="soft"),
        h("ul", *[h("li", one, class_="raw") for one in about]),
        h("div", link(say("Make a dataset"), f"/new?stage=collect_preferences&rankings={row.id}", class_="button primary"), class_="row"),
        *waiting(session, row),
    ]  # fmt: skip


def state_of(project: Project) -> Node:
    """Open, paused or closed."""
    word = "closed" if project.closed_at else "paused" if project.paused_at else "open"
    return state(GLYPHS[word], say(word))


def sentence(told: Summary) -> str:
    """How much is ranked, how far people agree, and which model they prefer."""
    if not told.raters:
        return say("None of {n} items is ranked yet.", n=f"{told.items:,}")
    by = say("1 person") if told.raters == 1 else say("{n} people", n=f"{told.raters:,}")
    done = say("{done} of {items} items ranked by {by}.", done=f"{told.done:,}", items=f"{told.items:,}", by=by)
    by = "" if told.criterion == OVERALL else say("By {criterion}:", criterion=told.criterion)
    return " ".join(filter(None, [done, by, _agreement(told), preference(told)]))


def _agreement(told: Summary) -> str:
    figure = told.agreement
    if figure.value is None or figure.interval is None:
        return say("{why} to say how far people agree.", why=say(figure.why).capitalize())
    low, high = figure.interval
    text = "They agree on {share:.0%} of pairs (n = {n} pairs of {items} items; {low:.0%} to {high:.0%})."
    return say(text, share=figure.value, n=f"{figure.n:,}", items=f"{figure.n_items:,}", low=low, high=high)


def preference(told: Summary) -> str:
    """Which model is preferred, if that can be told."""
    if len(told.models) < 2:
        return say("All answers are of one model.") if told.models else say("Not enough labels to say which model is preferred.")
    if told.preferred is None:
        return say("Not enough labels to say which model is preferred.")
    best, worst = told.preferred
    interval = worst.behind.interval or (0.0, 0.0)
    gap, low, high = (shared(value) for value in (worst.behind.value, *interval))
    values = {"best": best.model, "worst": worst.model, "gap": gap, "low": low, "high": high}
    if interval[0] <= 0:
        text = "Not enough labels to say whether {best} is preferred over {worst}: strength difference {gap} ({low} to {high})."
        return say(text, **values)
    if len(told.models) == 2:
        return say("{best} is preferred over {worst}: strength difference {gap} ({low} to {high}).", **values)
    return say("{best} is preferred most and {worst} least: strength difference {gap} ({low} to {high}).", **values)


def waiting(session: Session, row: Artifact) -> list[Node]:
    """The runs that wait for these rankings, and what was made of them."""
    users = queries.users_of(session, row.id or 0)
    parts: list[Node] = []
    for word, ended in ((say("Waiting for it:"), False), (say("Used by:"), True)):
        if some := [run for run in users if (run.status in FINAL) == ended]:
            links: list[Node] = [part for run in some for part in (" ", link(f"{run.id} {run_title(run)}", f"/runs?run={run.id}"))]
            parts.append(h("p", word, *links, class_="soft"))
    return parts


def _guideline(session: Session, project: Project, here: dict[str, Any]) -> Node:
    newest = labels.guideline(session, project.artifact)
    label = h("small", say("Version {n}. Raters must read a new one before they go on.", n=newest.version))
    if project.closed_at:
        return h("details", h("summary", say("Guideline")), h("div", newest.text, class_="raw"), label)
    text = h("textarea", name="guideline", value=newest.text, rows="8", aria_label=say("Guideline"))
    save = h("button", say("Save as version {n}", n=newest.version + 1), on="guideline", data={**here, "form": True})
    return h("details", h("summary", say("Guideline")), h("div", text, h("div", save, label, class_="row"), class_="typed"))


def change_guideline(database: Engine, project: int, text: str, person: str, now: datetime) -> None:
    """A new version, unless it says the same. Raises UserError for one that is too long."""
    if len(text) > LONGEST:
        raise UserError("the guideline has {n:,} characters, and at most {most:,} are kept: shorten it", n=len(text), most=LONGEST)
    with Session(database) as session:
        same = text.strip() == labels.guideline(session, project).text.strip()
    if not same:
        labelling.change_guideline(database, project, text.strip(), person, now)


def _invite(here: dict[str, Any], signs_in: bool) -> Node:
    how = say("They get a link that works once, within a day, set a password, and see nothing but what they rank.")
    field = h("input", type="text", name="rater", placeholder=say("a name"), aria_label=say("The rater's name"))
    button = h("button", say("Make a link"), on="invite", data={**here, "form": True})
    others = "" if signs_in else say(
        "Only this machine is served, and nobody signs in: people can rank here, each under a name of their own. For others, make "
        "yourself an owner with `dianjing user add NAME --role owner`, and start `dianjing ui --host 0.0.0.0`."
    )  # fmt: skip
    return h("details", h("summary", say("Invite a rater")), h("p", how), h("div", field, button, class_="row typed"), h("small", others))


def invited(token: str, origin: str) -> list[Node]:
    """A one-time link, shown once, beginning with the address under which its owner reaches this page."""
    address = f"{origin}/welcome?token={token}"
    copy = h("button", say("Copy the link"), on="copy", data={"text": address}, class_="primary")
    text = say("This link is shown once. It works once, within a day, behind the address under which others reach this page.")
    return [h("div", h("p", text), h("p", h("code", address, class_="raw")), copy, class_="card", role="status")]
