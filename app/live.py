"""The chart: drawn once, then only new points arrive.

Gradio's own plot is built anew with every payload, which loses zoom and legend. This one keeps its points in the
browser around the plotly.js that the plotly package ships; a payload says after which row it goes on, and one that does
not fit is answered by asking for the whole again.
"""

from pathlib import Path
from typing import Any

import gradio as gr
import plotly

from app.charts import Line
from app.view import ASSETS, script
from app.wording import say
from storage.curves import Curves

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def chart(**options: Any) -> gr.HTML:
    """Lines over steps, in groups that share the x axis. Its `resync` event asks for `whole(...)` again."""
    return gr.HTML(
        html_template="<div class='dj-chart'></div>",
        js_on_load="dianjing.chart(element, props, watch, () => trigger('resync', {}))",
        head=script(PLOTLY, ASSETS / "chart.js"),
        apply_default_css=False,
        **options,
    )


def whole(lines: list[Line], curves: dict[str, list[list[float | None]]], cursor: int) -> dict[str, Any]:
    """Everything there is to draw: the lines' looks and their points by line name."""
    words = {"step": say("step"), "gap": say("not a number")}
    return {"lines": [vars(line) for line in lines], "points": curves, "after": None, "cursor": cursor, "words": words}


def more(told: Curves, after: int) -> dict[str, Any]:
    """Only what came after row `after`."""
    return {"points": points(told), "after": after, "cursor": told.cursor}


def points(told: Curves) -> dict[str, list[list[float | None]]]:
    """Curves as JSON."""
    return {name: [list(point) for point in series] for name, series in told.series.items()}
