"""The style sheet's tokens are those of the design, and text on them can be read."""

import re
from pathlib import Path

import pytest

STYLE = (Path(__file__).parents[2] / "assets" / "style.css").read_text()
# text on background, as the pages use them
PAIRS = [(text, ground) for text in ("ink", "soft", "learned", "kept", "lost", "base") for ground in ("paper", "card")] + [
    ("on-vermilion", "vermilion")
]


def tokens(selector: str) -> dict[str, str]:
    """The colours a rule defines, by name."""
    block = STYLE.split(f"{selector} {{", 1)[1].split("}", 1)[0]
    return dict(re.findall(r"--dj-([a-z-]+): (#[0-9A-Fa-f]{6})", block))


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("selector", [":root", ".dark"])
@pytest.mark.parametrize("text, ground", PAIRS)
def test_text_stands_out_from_its_ground(selector: str, text: str, ground: str) -> None:
    colours = tokens(selector)
    assert contrast(colours[text], colours[ground]) >= 4.5


def test_contrast_is_computed_as_it_should_be() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


def test_no_rule_brings_a_colour_of_its_own() -> None:
    rules = re.sub(r"/\*.*?\*/", "", STYLE, flags=re.S)
    for selector in (":root", ".dark"):
        rules = rules.replace(rules.split(f"{selector} {{", 1)[1].split("}", 1)[0], "", 1)
    assert re.findall(r"#[0-9A-Fa-f]{3,6}\b|rgba?\(", rules) == []


def test_vermilion_is_for_the_primary_action_and_the_running_dot_alone() -> None:
    users = [line for line in STYLE.splitlines() if "var(--dj-vermilion)" in line]
    assert all(re.search(r"primary|\.running \.glyph", line) for line in users), users


def test_nothing_is_fetched_from_elsewhere() -> None:
    assert "url(" not in STYLE
    assert "@import" not in STYLE
