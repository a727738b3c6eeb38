"""The card that lies in a dataset's folder, on its page: how people or a judge made it, and what was left out."""

from pathlib import Path

from app.view import Node, h
from app.wording import say

# What the card says of a dataset's row, in better words than the row itself.
TOLD = ("figures", "bias", "gold", "left_out", "rows_by_rater", "labels", "guideline", "guideline_versions", "settled", "skipped", "judge")


def card(folder: Path) -> list[Node]:
    """Its headings, lists and paragraphs; nothing where there is no card."""
    path = folder / "card.md"
    if not path.exists():
        return []
    made: list[Node] = [h("h2", say("Card"))]
    items: list[Node] = []
    for line in [*path.read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("- "):
            items.append(h("li", line[2:], class_="raw"))
            continue
        if items:
            made, items = [*made, h("ul", *items)], []
        if line.startswith("#"):
            made.append(h("h3", line.lstrip("#").strip(), class_="raw"))
        elif line.strip():
            made.append(h("p", line, class_="raw"))
    return [h("div", *made, class_="card")]
