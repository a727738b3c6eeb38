"""One component draws everything that is not an input: a tree of plain values becomes DOM in the browser.

Gradio's HTML component evaluates what stands in its template, and model output must never be evaluated. Here the
template is constant, the value is JSON, and assets/view.js makes elements with textContent only. It also keeps what did
not change, so that nothing moves unless something happened.
"""

from pathlib import Path
from typing import Any

import gradio as gr

ASSETS = Path(__file__).parent.parent / "assets"
Node = dict[str, Any] | str
Tree = Node | list[Node]


def h(tag: str, *children: Node | list[Node] | None, on: str = "", key: str = "", **attributes: object) -> Node:
    """An element. `class_` is the class; `on` names the action that a click or change triggers, with `data` beside it.

    None among the children is left out; lists are flattened. Tags and attributes that view.js does not know are dropped.
    """
    flat: list[Node] = []
    for child in children:
        flat.extend(child if isinstance(child, list) else [] if child is None else [child])
    named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value not in (None, False, "")}
    return {"t": tag, "a": named, "c": flat, **({"on": on} if on else {}), **({"k": key} if key else {})}


def script(*paths: Path) -> str:
    """What loads these files before a component starts."""
    return "".join(f'<script src="{served(path)}"></script>' for path in paths)


def served(path: Path) -> str:
    """The address of one of our scripts or pictures."""
    return f"/look/{path.name}"


def go(address: str) -> Node:
    """Not a picture but an order: the browser opens this page."""
    return {"t": "go", "a": {"href": address}, "c": []}


def view(value: Tree | None = None, **options: Any) -> gr.HTML:
    """A component that shows a tree made with `h`; its `act` event carries {"name": ..., **data, "value": ...}.

    A function and not a subclass: Gradio writes a stub file beside every module that subclasses a component.
    """
    return gr.HTML(
        value=value,
        html_template="<div class='dj'></div>",
        js_on_load="dianjing.view(element, props, watch, (data) => trigger('act', data))",
        head=script(ASSETS / "view.js", ASSETS / "notify.js"),
        apply_default_css=False,
        **options,
    )


def action(event: gr.EventData) -> dict[str, Any]:
    """What `act` carried, as far as it is a plain object."""
    data = getattr(event, "_data", None)
    return data if isinstance(data, dict) else {}


# Pieces that several pages use.

GLYPHS = {"queued": "○", "running": "●", "succeeded": "✓", "failed": "✕", "cancelled": "❙", "skipped": "┄"}


def state(status: str, word: str, **data: object) -> Node:
    """A run's state as a glyph and a word, with what notify.js tells of its end."""
    return h("span", h("i", GLYPHS.get(status, "?"), class_="glyph", aria_hidden="true"), word, class_=f"state {status}", data=data or None)


def link(text: str, address: str, class_: str = "", download: str = "") -> Node:
    """A link within the dashboard."""
    return h("a", text, href=address, class_=class_, download=download)


def table(head: list[str], rows: list[list[Node]], class_: str = "") -> Node:
    """A table that scrolls sideways by itself on a narrow screen."""
    body = [h("tr", *[h("td", cell) for cell in row]) for row in rows]
    parts = [h("thead", h("tr", *[h("th", cell) for cell in head]))] if head else []
    return h("div", h("table", *parts, h("tbody", *body)), class_=f"table {class_}".strip())


def interval(value: float, low: float, high: float, class_: str) -> Node:
    """A share on a line from 0 to 1: its mark within its interval."""
    ends: dict[str, Any] = {"from": low, "to": high}
    return h("span", h("i", class_="band", **ends), h("i", class_="mark", at=value), class_=f"bar {class_}", aria_hidden="true")


def problem(text: str, what_to_do: Node | None = None) -> Node:
    """An error state: what happened, and what to do."""
    return h("div", h("p", text), what_to_do, class_="problem", role="alert")


def empty(text: str, *actions: Node) -> Node:
    """An empty state: what would be here, and the next step."""
    return h("div", h("p", text), *actions, class_="empty")
