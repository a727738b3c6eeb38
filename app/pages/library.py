"""Library: models, datasets, answers and reports, where each came from and what used it."""

import json
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import gradio as gr
from sqlmodel import Session

from app.pages import Place, asked, asked_id, dataset_card, missing, one_view, reward_figures, run_title, run_view, settings_table
from app.view import Node, empty, go, h, link, problem, table
from app.wording import ago, number, say, size
from engine import corrections, library
from engine.statistics import bootstrap_mean, wilson
from storage import labels, queries
from storage.tables import Artifact, Run

KINDS = ("model", "dataset", "responses", "rankings", "scores", "report")
PAGE = 10
SHOWN = 200
SHOWN_ABOVE = ("measured", "averages", "heldout_pairs")  # of a summary: tables of their own say it


def build(place: Place, demo: gr.Blocks) -> None:
    """Draw the page."""
    one_view(demo, _start, partial(tree, place), lambda data, known, _: _do(place, data, known))


def _start(request: gr.Request) -> dict[str, Any]:
    return {"artifact": asked_id(request, "artifact"), "kind": asked(request, "kind"), "words": asked(request, "words"), "start": 0}


def tree(place: Place, known: dict[str, Any]) -> list[Node]:
    """One artifact, or all of them."""
    with Session(place.database) as session:
        if known["artifact"] is None:
            return _list(session, known)
        row = session.get(Artifact, known["artifact"])
        if row is None:
            return [missing(say("This artifact"), "/library", say("The whole library"))]
        return _one(place, session, row, known)


def _list(session: Session, known: dict[str, Any]) -> list[Node]:
    everything = sorted([*queries.artifacts(session), *labels.open_projects(session)], key=lambda a: -(a.id or 0))
    filters = [
        h("a", f"{say(kind or 'all')} {sum(not kind or a.kind == kind for a in everything)}", href=f"/library?kind={kind}", on="kind",
          data={"kind": kind}, class_="on" if known["kind"] == kind else "")
        for kind in ("", *KINDS)
        if kind in ("", known["kind"]) or any(a.kind == kind for a in everything)
    ]  # fmt: skip
    search = h(
        "input", type="search", placeholder=say("name or note"), value=known["words"], on="words", aria_label=say("Search the library")
    )
    imports = [
        link(say("Import a model"), "/new?stage=import_model", class_="button"),
        link(say("Import data"), "/new?stage=import_dataset", class_="button"),
        link(say("Import rankings"), "/new?stage=import_rankings", class_="button"),
    ]
    head: list[Node] = [
        h("div", h("h1", say("Library")), h("div", *imports, class_="row"), class_="row between"),
        h("div", h("div", *filters, class_="filters row"), search, class_="row between"),
    ]
    words = known["words"].lower().split()
    rows = [
        a for a in everything if (not known["kind"] or a.kind == known["kind"]) and all(w in f"{a.name} {a.note}".lower() for w in words)
    ]
    if not rows:
        hint = say("Nothing here matches.") if everything else say("Nothing here yet: import a model or data, or start the quickstart.")
        return [*head, empty(hint)]
    rest = [h("p", say("The newest {n} of {total} are shown; search for the others.", n=SHOWN, total=len(rows)), class_="soft")]
    rest = rest if len(rows) > SHOWN else []
    now = queries.utc_now()
    cells: list[list[Node]] = [
        [
            h("div", link(a.name, f"/library?artifact={a.id}", class_="raw"), h("div", _about(a), class_="soft raw")),
            say(a.kind),
            h("span", size(a.size), class_="nowrap"),
            h("span", ago(a.created_at, now), class_="soft nowrap"),
        ]
        for a in rows[:SHOWN]
    ]
    return [*head, table([say("Name"), say("Kind"), say("Size"), say("Made")], cells, class_="last-folds"), *rest]


def _one(place: Place, session: Session, row: Artifact, known: dict[str, Any]) -> list[Node]:
    maker = session.get(Run, row.made_by) if row.made_by else None
    by = link(f"{maker.id} {run_title(maker)}", f"/runs?run={maker.id}") if maker else say("hand")
    if row.deleted_at:
        text = say("{name} was deleted {when}. It was made by ", name=row.name, when=ago(row.deleted_at, queries.utc_now()))
        note = h("p", row.note, class_="soft raw") if row.note else None
        return [problem(text, h("div", h("p", by), note)), link(say("The whole library"), "/library")]
    if row.ready_at is None and not labels.is_open(session, row.id or 0):
        return [h("h1", row.name, class_="raw"), problem(say("It is not ready yet. It is being made by "), h("p", by))]
    needed = library.needed_by(session, row.id or 0)
    children = queries.made_from(session, row.id or 0)
    users = queries.users_of(session, row.id or 0)
    used = [h("li", link(f"{run.id} {run_title(run)}", f"/runs?run={run.id}")) for run in users] or [h("li", say("nothing"))]
    made = [h("li", link(a.name, f"/library?artifact={a.id}")) for a in children]
    sources = (
        [
            h("li", h("code", field), " ", link(a.name, f"/library?artifact={a.id}"))
            for field, a in queries.consumed_by(session, maker.id or 0)
        ]
        if maker
        else []
    )
    told = {"artifact": row.id}
    warning = say("Delete {name} ({size})? What was made from it stays.", name=row.name, size=size(row.size))
    delete = h("button", say("Delete"), on="delete", data={**told, "confirm": warning})
    kept = h("small", say("Cannot be deleted: needed by {what}.", what=", ".join(needed))) if needed else delete
    note = h("input", type="text", value=row.note, placeholder=say("a note"), on="note", data=told, aria_label=say("Note"))
    name = h("input", type="text", value=row.name, on="rename", data=told, aria_label=say("Name"))
    card = dataset_card.card(place.home.root / row.folder)
    above = (*SHOWN_ABOVE, *(dataset_card.TOLD if card else ()))
    return [
        h("p", link(say("← Library"), "/library"), class_="soft"),
        h("div", h("h1", row.name, class_="raw"), h("div", *_next(row), class_="row"), class_="row between"),
        h("p", say(row.kind), " · ", size(row.size), " · ", ago(row.created_at, queries.utc_now()), class_="soft"),
        *(_scores(session, place, row) if row.kind == "scores" else _rows(place, row, known)),
        *reward_figures.quality(row),
        *card, h("h2", say("What is known of it")), settings_table({name: told for name, told in row.summary.items() if name not in above}),
        h("h2", say("Made by")), h("p", by), *([h("ul", *sources)] if sources else []),
        *(run_view.checkpoints(place.home, maker) if maker and row.kind == "model" else []),
        h("h2", say("Used by")), h("ul", *used), *([h("p", say("Made from it"), class_="soft"), h("ul", *made)] if made else []),
        h("h2", say("Keep in order")), h("div", name, note, kept, class_="row"),
        h("p", h("small", say("Folder: {path}", path=place.home.root / row.folder))),
    ]  # fmt: skip


def _next(row: Artifact) -> list[Node]:
    if row.kind == "model":
        endpoint = row.summary.get("format") == "endpoint"
        if row.summary.get("format") == "reward":
            return []
        return [
            *([] if endpoint else [link(say("Fine-tune"), f"/new?stage=finetune&model={row.id}", class_="button")]),
            link(say("Ask it"), f"/new?stage=generate&models={row.id}", class_="button"),
            *([] if endpoint else [link(say("Export"), f"/new?stage=export_model&model={row.id}", class_="button")]),
        ]
    if row.kind == "report":
        return [link(say("Read the report"), f"/report?report={row.id}", class_="button primary")]
    if row.kind == "dataset":
        tune = link(say("Fine-tune on it"), f"/new?stage=finetune&data={row.id}", class_="button")
        first = [tune] if row.summary.get("format") == "messages" else []
        return [*first, link(say("Curate"), f"/curate?dataset={row.id}", class_="button")]
    if row.kind == "responses" and not row.summary.get("row_losses"):
        return [link(say("Rank"), f"/new?stage=rank_answers&responses={row.id}", class_="button")]
    if row.kind == "rankings":
        read = link(say("See the rankings"), f"/rankings?project={row.id}", class_="button primary")
        stages = {"collect_preferences": say("Collect preferences"), "export_rankings": say("Export")}
        return [read, *[link(words, f"/new?stage={stage}&rankings={row.id}", class_="button") for stage, words in stages.items()]]
    if told := row.summary.get("row_losses"):
        return [link(say("See the rows by loss"), f"/curate?dataset={told['data']}&by={row.id}", class_="button")]
    return []


def _rows(place: Place, row: Artifact, known: dict[str, Any]) -> list[Node]:
    files = {"dataset": ("train", "heldout", "rejected"), "responses": ("responses",)}.get(row.kind, ())
    chosen = known.get("file") if known.get("file") in files else next(iter(files), "")
    path = place.home.root / row.folder / f"{chosen}.jsonl"
    if not chosen or not path.exists():
        return []
    start = known.get("start", 0)
    shown, more = _page(path, start)
    present = [name for name in files if (place.home.root / row.folder / f"{name}.jsonl").exists()]
    tabs = [h("a", say(name), href="#", on="file", data={"file": name}, class_="on" if name == chosen else "") for name in present]
    moves: list[Node] = []
    if start:
        moves.append(h("button", say("← Previous"), on="page", data={"start": start - PAGE}))
    if more:
        moves.append(h("button", say("Next →"), on="page", data={"start": start + PAGE}))
    body = [h("div", *_row(one), class_="item") for one in shown] or [empty(say("No rows."))]
    return [
        h("div", h("h2", say("Rows")), h("div", *tabs, class_="filters row") if len(tabs) > 1 else None, class_="row"),
        *body,
        h("div", *moves, class_="row"),
    ]


def _scores(session: Session, place: Place, row: Artifact) -> list[Node]:
    """Each model's probes with how many items they have, and what was measured."""
    path = place.home.root / row.folder / "scores.jsonl"
    found: dict[tuple[int, str], list[float | None]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        one = json.loads(line)
        found.setdefault((one["model"], one["probe"]), []).append(one["value"])
    shown = [(model, task, str(len(values)), *_measured(values)) for (model, task), values in found.items()]
    for model, tasks in row.summary.get("averages", {}).items():
        bare = [(task, told) for task, told in tasks.items() if not told["n"]]
        shown += [(int(model), task, say("averages only"), number(told["value"]), "") for task, told in bare]
    if not shown:
        return [empty(say("No scores."))]
    names = {id: one.name if (one := session.get(Artifact, id)) else str(id) for id in {model for model, *_ in shown}}
    cells: list[list[Node]] = [
        [link(names[model], f"/library?artifact={model}", class_="raw"), _probe(task, model), items,
         h("span", value, " ", h("small", spread), class_="nowrap")]
        for model, task, items, value, spread in shown
    ]  # fmt: skip
    return [h("h2", say("Scores")), table([say("Model"), say("Probe"), say("Items"), say("Value, 95 % interval")], cells)]


def _probe(name: str, model: int) -> Node:
    return link(name, f"/corrections?model={model}") if name in corrections.PROBES else h("span", name, class_="raw")


def _measured(values: list[float | None]) -> tuple[str, str]:
    """What is measured by items, and its interval: a share of right ones, where they are right or wrong, else a mean."""
    known = [value for value in values if value is not None]
    if set(known) <= {0, 0.5, 1}:
        right = known.count(1)
        told = (right / len(values), *wilson(right, len(values)))
        return f"{told[0]:.1%}", f"{told[1]:.1%} – {told[2]:.1%}"
    mean, low, high = bootstrap_mean(known)
    return number(mean), f"{number(low)} – {number(high)}"


def _page(path: Path, start: int) -> tuple[list[dict[str, Any]], bool]:
    with path.open(encoding="utf-8") as file:
        lines = list(islice(file, start, start + PAGE + 1))
    return [json.loads(line) for line in lines[:PAGE]], len(lines) > PAGE


def _row(row: dict[str, Any]) -> list[Node]:
    parts: list[Node] = []
    for name in ("prompt", "messages", "chosen", "rejected", "completion"):
        turns = row.get(name)
        if isinstance(turns, list):
            parts += [
                h(
                    "div",
                    h("span", f"{name}: {t['role']}" if name != "messages" else str(t["role"]), class_="role"),
                    str(t["content"]),
                    class_="turn raw",
                )
                for t in turns
            ]
    rest = {k: v for k, v in row.items() if k not in ("prompt", "messages", "chosen", "rejected", "completion", "token_ids")}
    texts = [
        h(
            "div",
            h("span", name, class_="role"),
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
            class_="turn raw",
        )
        for name, value in rest.items()
    ]
    return [*parts, *texts]


def _about(row: Artifact) -> str:
    told = row.summary
    if row.kind == "dataset":
        rows = say(
            "{format}, {rows} rows, {heldout} held out", format=told.get("format"), rows=told.get("rows"), heldout=told.get("heldout")
        )
        return ": ".join(filter(None, [rows, str(told.get("changes", ""))]))
    if row.kind == "model":
        parameters = say("{n:.0f} M parameters", n=told["parameters"] / 1e6) if told.get("parameters") else ""
        return ", ".join(filter(None, [str(told.get("format", "")), parameters, row.note or str(told.get("note", ""))]))
    if row.kind == "rankings" and told.get("format") == "judge":
        return f"{told.get('judge', '')}, {say('validated') if told.get('validated') else say('not validated')}"
    if row.kind == "rankings":
        items = say("{n} items", n=f"{told['items']:,}") if "items" in told else ""
        return ", ".join(filter(None, [say("closed") if row.ready_at else say("open"), items, *map(str, told.get("by", []))]))
    if row.kind == "scores" and "row_losses" in told:
        return say("the loss of {n} rows", n=f"{told['row_losses']['rows']:,}")
    if row.kind == "scores":
        return say("{n} probes", n=len({task for tasks in told.get("measured", {}).values() for task in tasks}))
    return str(told.get("sentence", "")) or (say("{n} answers", n=told["answers"]) if "answers" in told else row.note)


def _do(place: Place, data: dict[str, Any], known: dict[str, Any]) -> Node | None:
    name, id, value = str(data.get("name", "")), int(data.get("artifact", 0)), str(data.get("value", ""))
    if name == "delete":
        library.delete(place.database, place.home, id)
        return go("/library")
    if name == "promote":
        made = library.promote(place.database, place.home, int(data.get("run", 0)), int(data.get("step", 0)))
        return go(f"/library?artifact={made}")
    if name in ("rename", "note"):
        with Session(place.database) as session:
            row = library.existing(session, id)
        library.rename(place.database, id, value if name == "rename" else row.name, value if name == "note" else row.note)
    elif name == "page":
        known["start"] = max(0, int(data.get("start", 0)))
    elif name == "file":
        known |= {"file": str(data.get("file", "")), "start": 0}
    elif name in ("kind", "words"):
        known[name] = str(data.get("kind", "")) if name == "kind" else value
    return None
