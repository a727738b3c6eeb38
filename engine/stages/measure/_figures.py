"""The figures of a report as HTML that needs nothing else: stage by ability, and abilities against steps."""

from collections.abc import Sequence
from html import escape
from typing import Any

COLOURS = ("#0072B2", "#B36A00", "#009E73", "#B8568F", "#2F8FC4", "#D55E00")  # Okabe and Ito's, dark enough for text on paper
DASHES = ("", "6 3", "2 3")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 320, 40, 210, 10, 30
GAP = 14  # between two labels at the ends of lines


def matrix(told: dict[str, Any]) -> str:
    """A table of rates with their change against the start and their fall from the best so far."""
    head = "".join(f"<th>{escape(name)}" for name in told["abilities"])
    rows = "".join(f"<tr><th>{escape(row['stage'])}{''.join(map(_cell, row['cells']))}" for row in told["rows"])
    return f"<h3>{escape(told['arm'])}</h3><table><tr><th>{head}{rows}</table>"


def curves(told: Sequence[dict[str, Any]]) -> str:
    """Rates against steps of one arm, each line with its interval as a band and its name at its end; "" without any."""
    if not told:
        return ""
    last = max(point[0] for curve in told for point in curve["points"]) or 1

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(rate: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - rate)

    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(rate):.1f}" y2="{y(rate):.1f}" stroke="#ccc" stroke-width="0.5"/>'
        f'<text x="{LEFT - 6}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate:.0%}</text>'
        for rate in (0, 0.25, 0.5, 0.75, 1)
    )
    drawn, ends = "", []
    for place, curve in enumerate(told):
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
        points = curve["points"]
        band = [(x(step), y(high)) for step, _, _, high in points] + [(x(step), y(low)) for step, _, low, _ in reversed(points)]
        line = " ".join(f"{x(step):.1f},{y(rate):.1f}" for step, rate, _, _ in points)
        drawn += f'<polygon points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in band)}" fill="{colour}" opacity="0.08"/>'
        drawn += f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        drawn += "".join(f'<circle cx="{x(step):.1f}" cy="{y(rate):.1f}" r="3" fill="{colour}"/>' for step, rate, _, _ in points)
        ends.append((y(points[-1][1]), colour, f"{curve['ability']} {points[-1][1]:.0%}"))
    labels, below = "", float("-inf")
    for place, colour, text in sorted(ends):
        below = max(place + 4, below + GAP)
        labels += f'<text x="{WIDTH - RIGHT + 8}" y="{below:.1f}"><tspan fill="{colour}">● </tspan>{escape(text)}</text>'
    tall = max(HEIGHT, below + BOTTOM)
    right = f'x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end"'
    steps = f'<text x="{LEFT}" y="{HEIGHT - 8}">step 0</text><text {right}>step {last:g}</text>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {tall:.0f}" width="100%" font-size="12" font-family="system-ui, sans-serif" fill="currentColor" '
        f'role="img" aria-label="Abilities against steps">{grid}{drawn}{labels}{steps}</svg>'
    )


def _cell(cell: dict[str, Any]) -> str:
    change = "" if cell["change"] is None else f"<br><small>{cell['change']:+.0%} since the start</small>"
    fall = f"<br><small>{cell['forgetting']:.0%} below its best</small>" if cell["forgetting"] else ""
    return f"<td>{cell['value']:.0%} <small>{cell['low']:.0%} to {cell['high']:.0%}, n = {cell['n']}</small>{change}{fall}"
