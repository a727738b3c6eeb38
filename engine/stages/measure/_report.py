"""Verdicts as a sentence, and a report as one HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from engine.chat import count_tokens
from engine.exchange import head
from engine.stages.measure import _figures
from engine.statistics import Verdict

Judged = Mapping[str, tuple[float | None, Any]]  # an item's value, and the answer that it judges, where there is one
ORDER = ("learned", "forgot", "kept", "not enough evidence")
PREDICTORS = {  # metrics of a training run that are said to predict what it forgets
    "kl_base_tuned": "KL(before || after) on the new task, nats a token",
    "target_perplexity": "Perplexity of the training targets before",
    "update_norm": "Size of the update",
    "trained_tokens": "Tokens it was trained on",
}


def sentence(verdicts: list[Verdict], margin: float) -> str:
    """ "Learned stopping by itself (8 -> 100 %, n = 64). Kept ... . Not enough evidence: ... ." """
    parts = []
    for word in ORDER:
        told = [figures(verdict) for verdict in verdicts if verdict.verdict == word]
        if told:
            within = f" within {margin:.0%}" if word == "kept" else ""
            parts.append(f"{word.capitalize()}{within}{':' if word == ORDER[-1] else ''} {', '.join(told)}.")
    return " ".join(parts) or "Nothing was measured."


def figures(verdict: Verdict) -> str:
    """ "exact answers (10 -> 45 %, n = 40)". """
    return f"{verdict.ability} ({verdict.before:.0%} → {verdict.after:.0%}, n = {verdict.n})"


def verdict_row(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON, with its sentence and the intervals of both rates."""
    from engine.statistics import wilson

    intervals = {f"{side}_interval": wilson(round(getattr(verdict, side) * verdict.n), verdict.n) for side in ("before", "after")}
    text = f"{verdict.verdict}: {figures(verdict)}, {verdict.lost} lost, {verdict.gained} gained, p = {verdict.p:.2g}"
    return asdict(verdict) | intervals | {"text": text}


def item_rows(ability: str, models: Sequence[int], before: Judged, after: Judged) -> list[dict[str, Any]]:
    """Each item of an ability with both answers, those that changed first."""
    rows = []
    for key in sorted((key for key in before if key in after), key=lambda key: before[key][0] == after[key][0]):
        sides = [
            {
                "model": model,
                "answer": said.answer if said else "",
                "finish_reason": said.finish_reason if said else "",
                "tokens": count_tokens(said.token_ids, said.extra) if said else None,
                "correct": value == 1,
            }
            for model, (value, said) in zip(models, (before[key], after[key]), strict=True)
        ]
        prompt = next((said.prompt for _, said in (before[key], after[key]) if said), [])
        rows.append({"prompt_key": f"{ability}/{key}", "prompt": prompt, "ability": ability, "reference": None, "answers": sides})
    return rows


def page(report: dict[str, Any]) -> str:
    """The report as a self-contained page. Every text is escaped: answers may hold anything."""
    names = [escape(model["name"]) for model in report["models"]]
    facts = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}' for cell in fact)}</tr>" for fact in report["facts"])
    answers = "".join(_answer(row) for row in report["answers"])
    notes = "".join(f"<li>{escape(note)}" for note in report["notes"])
    return f"""{head(" → ".join(model["name"] for model in report["models"]))}
<main><p class="models">{" → ".join(names)}</p><h1>{escape(report["sentence"])}</h1>
{"".join(_verdicts(arm, rows) for arm, rows in by_arm(report["verdicts"]).items())}{_stages(report)}
<table><tr><th><th>Before<th>After</tr>{facts}</table>
<h2>Answers</h2><div class="pair head"><b>{names[0]}</b><b>{names[-1]}</b></div>{answers}
<h2>Notes</h2><ul>{notes}</ul></main></html>"""


def by_arm(verdicts: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Verdicts by the arm they are about; "" where a report has no arms, or only one."""
    arms = dict.fromkeys(verdict.get("arm", "") for verdict in verdicts)
    return {arm if len(arms) > 1 else "": [one for one in verdicts if one.get("arm", "") == arm] for arm in arms}


def _verdicts(arm: str, verdicts: list[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(v['ability'])}<td>{_rate(v, 'before')}<td>{_rate(v, 'after')}<td>{v['lost']}<td>{v['gained']}"
        f"<td>{v['p']:.2g}<td><b>{escape(v['verdict'])}</b></tr>"
        for v in verdicts
    )
    title = f"<h3>{escape(arm)}</h3>" if arm else ""
    return f"{title}<table><tr><th>Ability<th>Before<th>After<th>Lost<th>Gained<th>p<th>Verdict</tr>{rows}</table>"


def _stages(report: dict[str, Any]) -> str:
    """What reports about several stages hold besides: curves, the matrix, and transfer between tasks."""
    told = ""
    for arm in dict.fromkeys(curve["arm"] for curve in report.get("curves", [])):
        told += f"<h2>While it learned: {escape(arm)}</h2>{_figures.curves([c for c in report['curves'] if c['arm'] == arm])}"
    if report.get("matrix"):
        told += f"<h2>Stage by stage</h2>{''.join(map(_figures.matrix, report['matrix']))}"
    if report.get("transfer"):
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}' for cell in row)}" for row in report["transfer"])
        told += f"<table><tr><th><th>Average over the tasks<th>Backward transfer</tr>{rows}</table>"
    return told


def _rate(verdict: dict[str, Any], side: str) -> str:
    low, high = verdict[f"{side}_interval"]
    return f"{verdict[side]:.0%} <small>{low:.0%} to {high:.0%}, n = {verdict['n']}</small>"


def _answer(row: dict[str, Any]) -> str:
    prompt = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in row["prompt"])
    wanted = f" <small>expected: {escape(row['reference'])}</small>" if row["reference"] else ""
    sides = "".join(
        f"<div><pre>{escape(side['answer'])}</pre><small>{_tokens(side)}{escape(side['finish_reason'])}"
        f"{'' if side['correct'] is None else ' · right' if side['correct'] else ' · not exact'}"
        f"{' · ' if side.get('votes') else ''}{escape(side.get('votes', ''))}</small></div>"
        for side in row["answers"]
    )
    return f'<section><p class="prompt">{escape(prompt)}{wanted}</p><div class="pair">{sides}</div></section>'


def _tokens(side: dict[str, Any]) -> str:
    return "" if side["tokens"] is None else f"{side['tokens']} tokens · "
