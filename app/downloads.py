"""Addresses of files: our own scripts and pictures, and what a person takes along: reports, and comparisons as they are streamed."""

import json
from collections.abc import Iterator

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, StreamingResponse
from sqlmodel import Session

from app.live import PLOTLY
from app.pages import Place, compare_figures, compare_sides, compare_view, forgetting
from app.pages.compare_address import measures_of, read
from app.pages.compare_sides import Shown
from app.view import ASSETS
from app.wording import error, say
from engine import comparison, exchange, forgetting_export
from engine.errors import UserError
from engine.forgetting import judge
from storage import answers
from storage.tables import Artifact

ASSET_FILES = {path.name: path for path in (*ASSETS.glob("*.js"), *ASSETS.glob("*.svg"), PLOTLY)}
TYPES = {"html": "text/html", "csv": "text/csv", "json": "application/json"}


def routes(place: Place) -> APIRouter:
    """All of them. Whoever mounts them checks the role."""
    router = APIRouter(include_in_schema=False)

    @router.get("/look/{name}")
    def asset(name: str) -> FileResponse:
        if name not in ASSET_FILES:
            raise HTTPException(404)
        return FileResponse(ASSET_FILES[name])

    @router.get("/download/report/{id}")
    def report(id: int) -> FileResponse:
        with Session(place.database) as session:
            row = session.get(Artifact, id)
        path = place.home.root / row.folder / "report.html" if row and row.kind == "report" and row.ready_at else None
        if row is None or path is None or not path.exists():
            raise HTTPException(404, say("there is no report {id}", id=id))
        return FileResponse(path, filename=f"{row.name}.html")

    @router.get("/download/forgetting.{kind}")
    def forgot(kind: str, request: Request) -> StreamingResponse:
        if kind not in ("html", "csv"):
            raise HTTPException(404, say("a forgetting curve leaves as html or csv, not as {kind}", kind=kind))
        with Session(place.database) as session:
            models = forgetting.models_of(session, dict(request.query_params))
            if models is None:
                raise HTTPException(404, say("these models are not here: open the page again"))
            chain = forgetting.chain_of(session, models[1].model)
            if kind == "csv":
                written = forgetting_export.csv_rows(chain)
            else:
                judged = judge(session, *models)
                written = iter([forgetting_export.html(session, chain, *models, judged)])
        named = {"Content-Disposition": f'attachment; filename="forgetting.{kind}"'}
        return StreamingResponse(written, media_type=f"{TYPES[kind]}; charset=utf-8", headers=named)

    @router.get("/download/compare.{kind}")
    def compare(kind: str, request: Request) -> StreamingResponse:
        if kind not in TYPES:
            raise HTTPException(404, say("a comparison leaves as {kinds}, not as {kind}", kinds=", ".join(TYPES), kind=kind))
        known = read(request.query_params)
        with Session(place.database) as session:
            columns = [column for key in known["answers"] if (column := answers.column_named(session, key)[0])]
            if not columns:
                raise HTTPException(404, say("these answers are not here: open the comparison again"))
            try:
                shown = compare_sides.look(place, session, known, columns, measures_of(known))
            except UserError as refused:
                raise HTTPException(422, error(refused)) from None
            keys = compare_view.chosen(shown)
            written = _written(kind, shown, keys)
        named = {"Content-Disposition": f'attachment; filename="compare.{kind}"'}
        return StreamingResponse(written, media_type=f"{TYPES[kind]}; charset=utf-8", headers=named)

    return router


def _written(kind: str, shown: Shown, keys: list[str]) -> Iterator[str]:
    columns = [side.column for side in shown.sides]
    sides = [exchange.Side(side.name, compare_figures.about(shown, side)) for side in shown.sides]
    rows = comparison.rows(shown.place.database, columns, shown.measures, keys, shown.known["sample"])
    if kind == "csv":
        return exchange.csv_rows(sides, rows, [one.title() for one in shown.measures])
    if kind == "json":
        return iter([json.dumps(exchange.llm_comparator(sides, rows), ensure_ascii=False)])
    title = " · ".join(side.name for side in shown.sides)
    return exchange.html(title, sides, rows, compare_figures.facts(shown, keys), compare_figures.notes(shown))
