"""The list of runs, the runs of a recipe, and several runs side by side."""

from collections.abc import Sequence
from typing import Any

from sqlmodel import Session

from app import charts
from app.pages import missing, people_awaited, progress, run_title, status, when
from app.view import Node, empty, h, link, table
from app.wording import number, say
from storage import listings, queries
from storage.tables import CANCELLED, FAILED, QUEUED, RUNNING, SKIPPED, SUCCEEDED, Run

STATES = (RUNNING, QUEUED, SUCCEEDED, FAILED, CANCELLED, SKIPPED)


def tree(session: Session, known: dict[str, Any]) -> list[Node]:
    """Every run, newest first, filtered by state and words; or those of one recipe, in order."""
    chosen = known["filter"]
    plan = listings.plan_of(session, known["plan"]) if known.get("plan") else None
    if plan:
        queued = listings.runs_of_plan(session, plan.id or 0)
        title = say(plan.recipe.replace("_", " ").capitalize())
        done = sum(run.status == SUCCEEDED for run in queued)
        clone = link(say("Clone"), f"/new?plan={plan.id}", class_="button")
        head: list[Node] = [
            h("div", h("h1", title), clone, class_="row between"),
            h("p", say("{done} of {n} runs done", done=done, n=len(queued)), class_="soft"),
        ]
        made = [a for run in queued for a in queries.outputs_of(session, run.id or 0).values() if a.kind == "report" and a.ready_at]
        head += [h("a", h("b", str(a.summary.get("sentence", a.name))), h("span", say("Read the report"), class_="soft"),
                   href=f"/report?report={a.id}", class_="card main") for a in made]  # fmt: skip
        return [*head, _table(session, queued, known, pick=False)]
    if known.get("plan") is not None:
        return [missing(say("This recipe's plan"), "/runs", say("All runs"))]
    counts = queries.count_by_status(session)
    everything = h(
        "a", f"{say('all')} {sum(counts.values())}", href="/runs", on="status", data={"status": ""}, class_="" if chosen["status"] else "on"
    )
    filters = [
        h(
            "a",
            f"{say(name)} {counts[name]}",
            href=f"/runs?status={name}",
            on="status",
            data={"status": name},
            class_="on" if chosen["status"] == name else "",
        )
        for name in STATES
        if counts.get(name)
    ]
    search = h(
        "input", type="search", placeholder=say("name, tag or number"), value=chosen["words"], on="words", aria_label=say("Search runs")
    )
    head = [h("h1", say("Runs")), h("div", h("div", everything, *filters, class_="filters row"), search, class_="row between")]
    rows, total = listings.find_runs(session, chosen["status"], chosen["words"])
    picked = known.get("picked", [])
    if len(picked) > 1:
        head.append(
            h("p", link(say("Compare {n} runs", n=len(picked)), f"/runs?compare={','.join(map(str, picked))}", class_="button primary"))
        )
    if not rows:
        hint = say("No runs like this.") if counts else say("Nothing has run yet.")
        return [*head, empty(hint, link(say("Start something"), "/new"))]
    rest = [h("p", say("The newest {n} of {total} are shown; search for the others.", n=len(rows), total=total), class_="soft")]
    return [*head, _table(session, rows, known, pick=True), *(rest if total > len(rows) else [])]


def compared(runs: list[Run], metric: str, silent: list[int]) -> tuple[list[Node], list[Node]]:
    """The head and the settings in which runs differ; `silent` are those that never recorded the metric."""
    if len(runs) < 2:
        return [missing(say("A second run to compare with"), "/runs", say("All runs: tick two or more"))], []
    ids = ",".join(str(run.id) for run in runs)
    metrics = [
        h("a", charts.title(name), href=f"/runs?compare={ids}&metric={name}", class_="on" if name == metric else "")
        for name in ("loss", "eval_loss", "tokens_per_second", "learning_rate", "grad_norm", "memory_gb")
    ]
    head: list[Node] = [h("h1", say("{n} runs compared", n=len(runs))), h("div", *metrics, class_="filters row")]
    if silent:
        without = say(
            "No points yet: {runs}",
            runs=", ".join(f"{run.id} {run_title(run)}" for run in runs if run.id in silent),
        )
        head.append(h("p", without, class_="soft"))
    flat = [_flat(run.settings) | {"stage": run.stage} for run in runs]
    keys = [key for key in dict.fromkeys(k for one in flat for k in one) if len({repr(one.get(key)) for one in flat}) > 1]
    titles = ["", *[f"{run.id} {run_title(run)}" for run in runs]]
    rows: list[list[Node]] = [[h("code", key), *[h("span", number(one.get(key)), class_="raw") for one in flat]] for key in keys]
    same = say("They have the same settings.") if not rows else say("Only what differs is shown.")
    body: list[Node] = [h("h2", say("Settings")), h("p", same, class_="soft"), *([table(titles, rows)] if rows else [])]
    return head, body


def _table(session: Session, runs: Sequence[Run], known: dict[str, Any], pick: bool) -> Node:
    rows: list[list[Node]] = []
    names = listings.results(session, [run.id or 0 for run in runs])
    for run in runs:
        name = names.get(run.id or 0, "")
        picked = run.id in known.get("picked", [])
        box = h("input", type="checkbox", on="pick", data={"run": run.id}, checked=picked, aria_label=say("Compare run {run}", run=run.id))
        reason = [h("div", (run.error or "").split("; ")[0][:160], class_="soft raw")] if run.error else []
        tags = [h("span", tag, class_="tag") for tag in run.tags.split()]
        title = h("div", link(f"{run.id} {run_title(run)}", f"/runs?run={run.id}"), " ", h("span", name, class_="soft raw"), *tags)
        rows.append(
            [
                *([box] if pick else []),
                status(run),
                h("div", title, *reason, h("div", *progress(run), *people_awaited(session, run), class_="row")),
                h("span", when(run), class_="soft nowrap"),
            ]
        )
    return table([*([""] if pick else []), say("State"), say("Run"), say("When")], rows, class_="last-folds")


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{name}.{key}" if key else name: given
        for name, value in settings.items()
        for key, given in (value.items() if isinstance(value, dict) else [("", value)])
    }
