"""Forgetting: what a chain of trainings cost. The sentence first, then the curves, the verdicts, the matrix and the items."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import gradio as gr
from sqlmodel import Session

from app import charts
from app.live import chart, whole
from app.pages import Place, all_asked, as_id, missing, report
from app.view import Node, empty, h, link, table, view
from app.wording import say
from engine import forgetting, forgetting_export
from engine.forgetting import Axis, Judgement, Measured
from storage import curves, listings, scores
from storage.tables import Artifact

SHOWN = 20
ITEMS = ("lost", "gained", "all")


def build(place: Place, demo: gr.Blocks) -> None:
    """Draw the page."""
    top, lines, rest = view(), chart(visible=False), view()

    def load(request: gr.Request) -> list[Any]:
        head, drawn, body = parts(place, all_asked(request))
        return [head, gr.update(visible=bool(drawn), value=drawn), body]

    demo.load(load, None, [top, lines, rest], queue=False, show_progress="hidden", api_visibility="private")


def parts(place: Place, known: dict[str, str]) -> tuple[list[Node], dict[str, Any] | None, list[Node]]:
    """What stands above the curves, the curves, and what stands below them."""
    with Session(place.database) as session:
        model = as_id(known["model"]) if known.get("model") else scores.newest_model(session)
        if model is None:
            hint = say("Nothing was measured yet. A training run watches itself; an audit compares any two models.")
            actions = [link(say("Start an audit"), "/new?recipe=audit", class_="button primary")]
            return [h("h1", say("Forgetting")), empty(hint, *actions)], None, []
        row = session.get(Artifact, model)
        if row is None or not scores.summary(session, model):
            again = [link(say("Measure it"), f"/new?stage=evaluate&models={model}", class_="button")] if row else []
            return [missing(say("What was measured of model {id}", id=model), "/forgetting", say("Forgetting")), *again], None, []
        chain = forgetting.chain(session, model)
        wanted = session.get(Artifact, as_id(known.get("base", "")))
        before, after = forgetting.measured(session, wanted.id or 0) if wanted else chain[0], chain[-1]
        judged = forgetting.judge(session, before, after)
        left_out = [h("p", note, class_="soft") for note in forgetting.curves(chain)[2]]
        body = [*left_out, *_verdicts(before, after, judged), *_apart(before, after, judged), *_matrix(chain),
                *_noise(session, before), *_predictors(session, after),
                *_against(session, after, known), *_exports(before, after), *_items(session, before, after, judged, known),
                *_others(session, before, after)]  # fmt: skip
        tuned = link(after.name, f"/library?artifact={after.model}")
        alone = [tuned, say(" before its training → now")] if judged.before == after.model else None
        pair = alone or [link(before.name, f"/library?artifact={before.model}"), " → ", tuned]
        head = [h("p", *pair, class_="soft raw"), h("h1", forgetting_export.sentence(judged), class_="sentence")]
        return head, _curves(chain, _bands(session, before)), body


def _others(session: Session, before: Measured, after: Measured) -> list[Node]:
    """Other models that were measured: to look at, to compare with, or beside which to see what was learned against what was kept."""
    others = [(id, name) for id, name in scores.models(session) if id not in (after.model, before.model)]
    links = [
        h("li", link(name, f"/forgetting?model={id}"), " · ", link(say("as the base"), _address(after.model, id)), " · ",
          link(say("learned against kept"), _address(after.model, before.model, **{"with": id})))
        for id, name in others
    ]  # fmt: skip
    return [h("details", h("summary", say("Other models"), h("small", str(len(others)))), h("ul", *links, class_="raw"))] if others else []


def _address(model: int, base: int, **more: object) -> str:
    return f"/forgetting?{urlencode({'model': model, 'base': base, **more})}"


def _curves(chain: list[Measured], bands: Mapping[Axis, list[float]]) -> dict[str, Any] | None:
    """Abilities along the steps of all stages, with their intervals, floors and noise, and where each stage begins."""
    told, begins, _ = forgetting.curves(chain)
    if not told:
        return None
    names = {"/".join(axis): forgetting.title(axis[0]) for axis in told}
    floors = {"/".join(axis): value for axis in told if (value := chain[-1].floor(axis)) is not None}
    points: dict[str, list[list[float | None]]] = {
        "/".join(axis): [[step, point.rate, *point.interval] for step, point in line] for axis, line in told.items()
    }
    marks = [[step, name] for step, name in begins] if len(begins) > 1 else []
    noise = {"/".join(axis): band for axis, band in bands.items() if axis in told}
    return whole(charts.chain(names), points, 0) | {"marks": marks, "floors": floors, "noise": noise, "png": say("Save as PNG")}


def _bands(session: Session, before: Measured) -> dict[Axis, list[float]]:
    """The lowest and highest rate of the base on each axis that moves by itself; what is deterministic has no band."""
    told = scores.noise(session, before.model) or {}
    return {(probe, row["suite_hash"]): [row["low"], row["high"]] for probe, row in told.items() if row["spread"]}


def _verdicts(before: Measured, after: Measured, judged: Judgement) -> list[Node]:
    rows = [
        forgetting_export.verdict_row(one) | {"href": _address(after.model, before.model, probe=axis[0], show="lost") + "#items"}
        for axis, one in judged.verdicts
    ]
    return [report.verdict_table(rows)] if rows else []


def _apart(before: Measured, after: Measured, judged: Judgement) -> list[Node]:
    """What cannot be said and why, with the way to measure both alike."""
    notes = [h("p", note, class_="soft") for note in judged.apart]
    if not judged.verdicts or any("different items" in note for note in judged.apart) or judged.before == after.model:
        again = f"/new?recipe=audit&base={before.model}&tuned={after.model}"
        notes.append(h("p", link(say("Measure both alike, in full"), again, class_="button")))
    return notes


def _matrix(chain: list[Measured]) -> list[Node]:
    """Stage by ability."""
    told = forgetting_export.matrix(chain)
    return report.stage_tables({"matrix": [told]}) if told else []


def _predictors(session: Session, after: Measured) -> list[Node]:
    maker = session.get_one(Artifact, after.model).made_by
    titles = forgetting_export.PREDICTORS
    told = curves.read(session, maker, list(titles)).series if maker else {}
    rows: list[list[Node]] = [[say(titles[name]), f"{points[-1][1]:.4g}"] for name, points in told.items() if points[-1][1] is not None]
    return [h("h2", say("Said to predict forgetting")), table([], rows, class_="narrow")] if rows else []


def _noise(session: Session, before: Measured) -> list[Node]:
    """How far scores of the base move by themselves, where that was measured; else the way to measure it."""
    told = scores.noise(session, before.model)
    title = h("h2", say("How much moves by itself"), h("small", say("hatched in the curves")))
    if told is None:
        return [title, h("p", link(say("Measure it on {name}", name=before.name), f"/new?stage=noise&model={before.model}"), class_="soft")]
    rows: list[list[Node]] = [
        [row["title"], f"{row['low']:.0%} – {row['high']:.0%}" if row["spread"] else say("deterministic"), str(row["n"])]
        for row in told.values()
        if row["rate"]
    ]
    return [title, table([say("Ability"), say("Other batches, another draw, other wordings"), "n"], rows, class_="narrow")]


def _against(session: Session, after: Measured, known: dict[str, str]) -> list[Node]:
    """Learned against kept: this run and others at the highest score of the new task that all of them reach."""
    ids = list(dict.fromkeys([after.model, *(id for part in known.get("with", "").split(",") if (id := as_id(part)))]))
    chosen = {one.name: one for id in ids if session.get(Artifact, id) and (one := forgetting.measured(session, id))}
    score, rows = forgetting_export.learned_against_kept(chosen)
    if len(chosen) < 2 or not rows:
        return []
    head = [say("Model"), say("Score of the new task"), say("Kept there: mean of the abilities watched")]
    told = {name: say("did not learn") if kept is None else f"{kept:.0%}" for name, kept in rows.items()}
    drawn: list[list[Node]] = [[name, f"{score:.0%}", kept] for name, kept in told.items()]
    return [h("h2", say("Learned against kept")), table(head, drawn, class_="narrow")]


def _exports(before: Measured, after: Measured) -> list[Node]:
    query = urlencode({"model": after.model, "base": before.model})
    html = link(say("Download as one HTML file"), f"/download/forgetting.html?{query}", class_="button")
    csv = link(say("CSV"), f"/download/forgetting.csv?{query}", class_="button")
    return [h("div", html, csv, link(say("Correct the refusal scorer"), f"/corrections?model={after.model}"), class_="row")]


def _items(session: Session, before: Measured, after: Measured, judged: Judgement, known: dict[str, str]) -> list[Node]:
    """The items that went from right to wrong, or back, with both answers."""
    axes = {axis[0]: axis for axis, _ in judged.verdicts}
    if not axes:
        return []
    most = max(judged.verdicts, key=lambda one: one[1].lost)[0][0]
    probe = known.get("probe", "") if known.get("probe") in axes else most
    show = known.get("show", "lost") if known.get("show") in ITEMS else "lost"
    start = as_id(known.get("start", "0"))
    rows = forgetting_export.items(session, after, judged, axes[probe])
    counted = {name: [row for row in rows if _fits(row, name)] for name in ITEMS}

    def there(**more: object) -> str:
        return _address(after.model, before.model, probe=probe, show=show, **more) + "#items"

    filters = [h("a", f"{say(name)} {len(some)}", href=_address(after.model, before.model, probe=probe, show=name) + "#items",
                 class_="on" if name == show else "") for name, some in counted.items()]  # fmt: skip
    probes = [h("a", forgetting.title(name), href=_address(after.model, before.model, probe=name, show=show) + "#items",
                class_="on" if name == probe else "") for name in axes]  # fmt: skip
    page = counted[show][start : start + SHOWN]
    moves: list[Node] = [link(say("← Previous"), there(start=max(0, start - SHOWN)))] if start else []
    if start + SHOWN < len(counted[show]):
        moves.append(link(say("Next →"), there(start=start + SHOWN)))
    shown = [report.answer_pair(row, [before.name, after.name]) for row in page] or [empty(say("No items of this sort."))]
    return [h("h2", say("Items"), id="items"), h("div", *probes, class_="filters row"), h("div", *filters, class_="filters row"), *shown,
            h("div", *moves, class_="row")]  # fmt: skip


def _fits(row: dict[str, Any], show: str) -> bool:
    sides = tuple(side["correct"] for side in row["answers"])
    return show == "all" or sides == ((True, False) if show == "lost" else (False, True))


def models_of(session: Session, known: dict[str, str]) -> tuple[Measured, Measured] | None:
    """The two models that an address is about; None where one is not there."""
    ids = [as_id(known.get(name, "")) for name in ("base", "model")]
    if any(session.get(Artifact, id) is None for id in ids):
        return None
    return forgetting.measured(session, ids[0]), forgetting.measured(session, ids[1])


def chain_of(session: Session, model: int) -> list[Measured]:
    """The chain that a file about a model shows."""
    return forgetting.chain(session, model) if listings.ancestors(session, model) else [forgetting.measured(session, model)]
