"""A comparison on its way to somebody else: one HTML file, CSV, or the JSON of LLM Comparator. Nothing here reads the home.

Rows are taken one by one, so that ten thousand prompts stream through. Every text may be hostile: in HTML it is escaped
and no script may run, and in CSV a cell that a spreadsheet would take for a formula begins with an apostrophe.
"""

import csv
import io
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from typing import Any

from engine.differences import alike, changed

LONG = 1500  # characters from which on a text folds
FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # what a spreadsheet may take for the beginning of a formula


@dataclass(frozen=True)
class Side:
    """One column: what it is called, and what a reader elsewhere wants to know about it."""

    label: str
    about: dict[str, str]


@dataclass(frozen=True)
class Answered:
    """One side's answer, with what the measures say of it by their titles. `tokens`: None where nobody counted."""

    answer: str
    thought: str
    finish_reason: str
    tokens: int | None
    scores: dict[str, float]


@dataclass(frozen=True)
class Compared:
    """One prompt with the answer of every side, the baseline's first; None where a side was not asked."""

    prompt_key: str
    prompt: list[dict[str, Any]]
    tags: list[str]
    references: list[str]
    answers: list[Answered | None]


def html(
    title: str, sides: Sequence[Side], rows: Iterable[Compared], facts: Sequence[Sequence[str]], notes: Sequence[str]
) -> Iterator[str]:
    """One file that needs nothing else, in pieces."""
    heads = "".join(f"<th>{escape(side.label)}{_about(side)}" for side in sides)
    table = "".join(f"<tr>{''.join(f'<td>{escape(cell)}' for cell in fact)}" for fact in facts)
    told = "".join(f"<li>{escape(note)}" for note in notes)
    yield f"""{head(title)}<main><h1>{escape(title)}</h1>
<table><tr><th>{heads}{table}</table><ul class="notes">{told}</ul>
"""
    for number, row in enumerate(rows, 1):
        yield _item(number, row, sides)
    yield "</main></html>\n"


def head(title: str) -> str:
    """The beginning of a page that needs nothing else, runs nothing and asks nobody for anything."""
    policy = f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{policy}; base-uri 'none'; form-action 'none'">
<title>{escape(title)}</title><style>{STYLE}</style>"""


def csv_rows(sides: Sequence[Side], rows: Iterable[Compared], measures: Sequence[str]) -> Iterator[str]:
    """RFC 4180, one row a prompt: the prompt, its tags and references, then each side's answer, finish reason, length and scores."""
    names = ("answer", "finish_reason", "tokens", *measures)
    yield _line(["prompt_key", "prompt", "tags", "references", *[f"{side.label}: {name}" for side in sides for name in names]])
    for row in rows:
        cells: list[Any] = [row.prompt_key, _prompt(row), ", ".join(row.tags), " | ".join(row.references)]
        for one in row.answers:
            cells += [one.answer, one.finish_reason, one.tokens, *map(one.scores.get, measures)] if one else [None] * len(names)
        yield _line(cells)


def llm_comparator(sides: Sequence[Side], rows: Iterable[Compared]) -> dict[str, Any]:
    """The JSON that LLM Comparator (Kahng et al. 2024, 2402.10524) opens, of two sides. Nobody voted, so scores are null.

    Raises ValueError unless there are exactly two sides. Prompts that one side was not asked are left out.
    """
    if len(sides) != 2:
        raise ValueError(f"LLM Comparator compares two models, not {len(sides)}")
    examples: list[dict[str, Any]] = []
    names: dict[str, None] = {}
    for row in rows:
        left, right = row.answers
        if left is None or right is None:
            continue
        names |= dict.fromkeys([*left.scores, *right.scores])
        examples.append(
            {
                "input_text": _prompt(row),
                "tags": row.tags,
                "output_text_a": left.answer,
                "output_text_b": right.answer,
                "score": None,
                "individual_rater_scores": [],
                "custom_fields": {
                    "expected": " | ".join(row.references) or None,
                    "finish_reason": [left.finish_reason or None, right.finish_reason or None],
                    "tokens": [left.tokens, right.tokens],
                    **{name: [left.scores.get(name), right.scores.get(name)] for name in {**left.scores, **right.scores}},
                },
            }
        )
    for example in examples:  # the viewer reads every field of every example, and stops at one that is not there
        example["custom_fields"] = {name: [None, None] for name in names} | example["custom_fields"]
    types = {"expected": "string", "finish_reason": "per_model_category", "tokens": "per_model_number"}
    schema = [{"name": name, "type": type} for name, type in (types | dict.fromkeys(names, "per_model_number")).items()]
    return {
        "metadata": {"source_path": "Dianjing", "custom_fields_schema": schema},
        "models": [{"name": side.label} for side in sides],
        "examples": examples,
    }


def _line(cells: Sequence[Any]) -> str:
    file = io.StringIO()
    csv.writer(file).writerow(["'" + cell if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in cells])
    return file.getvalue()


def _prompt(row: Compared) -> str:
    if len(row.prompt) == 1:
        return str(row.prompt[0]["content"])
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in row.prompt)


def _about(side: Side) -> str:
    return "".join(f"<small>{escape(name)}: {escape(text)}</small>" for name, text in side.about.items())


def _item(number: int, row: Compared, sides: Sequence[Side]) -> str:
    tags = "".join(f"<i>{escape(tag)}</i>" for tag in row.tags)
    wanted = f"<small>expected: {escape(' | '.join(row.references))}</small>" if row.references else ""
    base = row.answers[0].answer if row.answers[0] else ""
    cells = "".join(_cell(side.label, one, base if place else "") for place, (side, one) in enumerate(zip(sides, row.answers, strict=True)))
    asked = _prompt(row)
    prompt = f'<div class="prompt"><a href="#{number}">{number}</a>{_folded(asked, escape(asked))}</div>'
    return f'<section id="{number}">{prompt}{tags}{wanted}<div class="n{len(sides)}">{cells}</div></section>\n'


def _cell(label: str, one: Answered | None, base: str) -> str:
    if one is None:
        return f"<div><b>{escape(label)}</b><small>not asked</small></div>"
    text = escape(one.answer)
    if base and alike(base, one.answer):
        text = "".join(f"<ins>{escape(piece)}</ins>" if new else escape(piece) for piece, new in changed(base, one.answer))
    thought = f'<details><summary>Reasoning</summary><pre dir="auto">{escape(one.thought)}</pre></details>' if one.thought else ""
    length = [] if one.tokens is None else [f"{one.tokens} tokens"]
    figures = " · ".join(filter(None, [*length, one.finish_reason, *[f"{name}: {value:.4g}" for name, value in one.scores.items()]]))
    return f"<div><b>{escape(label)}</b>{thought}{_folded(one.answer, text)}<small>{escape(figures)}</small></div>"


def _folded(text: str, marked: str) -> str:
    """A text as it was written, folded when it is long. Its direction is its own."""
    shown = f'<pre dir="auto">{marked}</pre>'
    return shown if len(text) <= LONG else f"<details><summary>{len(text):,} characters</summary>{shown}</details>"


STYLE = """
:root{--paper:#FBFAF7;--ink:#1B1D21;--soft:#5D6269;--line:#E4E1DA;--learned:#2F6DB5}
@media screen and (prefers-color-scheme:dark){:root{--paper:#14161A;--ink:#ECEAE4;--soft:#A3A7AE;--line:#2C3038;--learned:#6FA8E6}}
body{background:var(--paper);color:var(--ink);margin:0;font:15px/1.5 ui-sans-serif,system-ui,"Noto Sans","Noto Sans CJK SC",sans-serif}
main{max-width:1180px;margin:0 auto;padding:32px 16px}
h1{font-size:24px;line-height:1.35;font-weight:600}h2{font-size:18px;margin-top:40px}
.models,small{color:var(--soft)}
table{border-collapse:collapse;margin:16px 0;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}
th,td{text-align:left;padding:6px 16px 6px 0;border-bottom:1px solid var(--line);font-weight:inherit;vertical-align:top}
th{color:var(--soft)}td b{font-weight:600}th small{display:block}
section{border-top:1px solid var(--line);padding:12px 0;break-inside:avoid;content-visibility:auto;contain-intrinsic-size:auto 240px}
section i{font:12px/1 inherit;border:1px solid var(--line);border-radius:99px;padding:1px 8px;margin-right:6px;color:var(--soft)}
.prompt{margin:0 0 8px;white-space:pre-wrap;font-weight:600;overflow-wrap:anywhere}
.prompt small,.prompt a,summary{font-weight:400}.prompt a,summary{color:var(--soft)}
.pair,.n1,.n2,.n3,.n4{display:grid;grid-template-columns:1fr 1fr;gap:16px}
.n1{grid-template-columns:1fr}.n3{grid-template-columns:repeat(3,1fr)}.n4{grid-template-columns:repeat(4,1fr)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;font:inherit}ins{text-decoration:none;border-bottom:2px solid var(--learned)}
section div div{min-width:0}section div b{display:block;font-size:13px;color:var(--soft)}section small{display:block}
@media screen and (max-width:600px){.pair,.n2,.n3,.n4{grid-template-columns:1fr}}
@media print{body{font-size:11px}summary{display:none}details::details-content{content-visibility:visible;block-size:auto}}
"""
