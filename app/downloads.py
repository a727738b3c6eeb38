"""What leaves the Compare page as a file: the prompts that fit what was searched for, streamed."""

import json
from collections.abc import Iterator

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse
from sqlmodel import Session

from app.pages import Place, compare_figures, compare_sides, compare_view
from app.pages.compare_address import measures_of, read
from app.pages.compare_sides import Shown
from app.wording import error, say
from engine import comparison, exchange
from engine.errors import UserError
from storage import answers

TYPES = {"html": "text/html", "csv": "text/csv", "json": "application/json"}


def routes(place: Place) -> APIRouter:
    """The addresses under /download. Whoever mounts them checks the role."""
    router = APIRouter(prefix="/download", include_in_schema=False)

    @router.get("/compare.{kind}")
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
