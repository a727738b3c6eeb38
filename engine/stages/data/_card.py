"""The card of an exported model: where it comes from, what it was taught and what is known of it, for people who were not there.

Plain data in, Markdown out, with the front matter the hub reads. Names of files on this machine stay on this machine.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from engine.lineage import Ancestor
from engine.statistics import wilson

# The hub knows these by name; anything else is "other" with its own name.
KNOWN_LICENCES = {
    "apache-2.0", "mit", "gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "openrail", "bigscience-openrail-m",
    "creativeml-openrail-m", "bsl-1.0", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "unknown", "other",
}  # fmt: skip
GEMMA_TERMS = "https://ai.google.dev/gemma/terms"
GEMMA_NOTICE = f"Gemma is provided under and subject to the Gemma Terms of Use found at {GEMMA_TERMS}\n"  # what section 3.1 asks for
PASSED_ON = ("model", "models", "base")  # fields of a stage whose weights go into what it makes


@dataclass(frozen=True)
class Licence:
    """A licence as the hub wants it: an id it knows, and a name where that is "other"."""

    id: str
    name: str = ""


def licence_of(text: str) -> Licence:
    """What a model's row says of its licence, in the hub's words; an empty id when nothing is known."""
    text = " ".join(text.split())
    if text.lower().startswith("gemma"):
        return Licence("gemma")
    if not text or text.lower() in KNOWN_LICENCES:
        return Licence(text.lower())
    return Licence("other", text)


def notice(lineage: Sequence[Ancestor], licence: str) -> str:
    """What must lie beside the weights whatever licence the result is given; empty for most."""
    given = (licence, *(one.summary.get("licence", "") for one in _roots(lineage)))
    return GEMMA_NOTICE if any(licence_of(text).id == "gemma" for text in given) else ""


def card(lineage: Sequence[Ancestor], summary: dict[str, Any], place: str, notes: str) -> str:
    """README.md of an exported model. `lineage` ends with the model; `place` is where it will be loaded from."""
    from huggingface_hub import ModelCardData

    model, roots = lineage[-1], _roots(lineage)
    licence = licence_of(summary.get("licence", ""))
    bases = [found.group() for one in roots if (found := re.match(r"[\w.-]+/[\w.-]+(?=,| at |$)", str(one.summary.get("source", ""))))]
    data = ModelCardData(
        base_model=bases[0] if len(bases) == 1 else bases or None,
        license=licence.id or None,
        license_name=licence.name or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["dianjing", *(["gguf"] if summary.get("gguf") else [])],
    )
    parts = [f"---\n{data.to_yaml()}\n---", f"# {_line(model.name)}", _about(model, roots, summary)]
    for title, lines in (
        ("Notes", [notes] if notes else []),
        ("How to load it", _loading(summary, place)),
        ("What it was trained on", _trained_on(lineage)),
        ("Settings", _settings(lineage)),
        ("Scores", _scores(lineage)),
        ("Where it comes from", list(_made(lineage))),
        ("Licence", _licence(lineage, summary)),
        ("How it was checked", list(_checked(summary))),
    ):
        if lines:
            parts += [f"## {title}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _about(model: Ancestor, roots: list[Ancestor], summary: dict[str, Any]) -> str:
    bases = " and ".join(f"{_line(one.name)} ({_public(one.summary['source'])})" if one.summary.get("source") else _line(one.name)
                         for one in roots if one.id != model.id)  # fmt: skip
    told = [f"A language model of {summary['parameters'] / 1e6:,.0f} million parameters ({summary.get('architecture', 'unknown kind')})"]
    told[0] += f", made from {bases}." if bases else "."
    told += [_line(note) for note in dict.fromkeys(one.summary.get("note") for one in roots) if note]
    if summary.get("quantized_from") and not any("read back" in line for line in told):
        told.append(f"Its weights descend from {summary['quantized_from']} ones read back into full precision.")
    return " ".join(told) + f" Made with Dianjing {_version()}."


def _loading(summary: dict[str, Any], place: str) -> list[str]:
    lines = [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'place = "{place}"',
        "tokenizer = AutoTokenizer.from_pretrained(place)",
        'model = AutoModelForCausalLM.from_pretrained(place, dtype="auto")',
        'messages = [{"role": "user", "content": "Hello, who are you?"}]',
        'inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")',
        'print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
        "```",
    ]
    if name := summary.get("gguf"):
        lines += ["", f"`{name}` is the same model for llama.cpp: `llama-cli -m {name}`."]
    return lines


def _trained_on(lineage: Sequence[Ancestor]) -> list[str]:
    known = {one.id: one for one in lineage}
    rows = []
    for one in _taught(lineage):
        for field, id in one.inputs.items():
            if id in known and known[id].kind != "model":
                told = known[id].summary
                source = _public(told.get("source", "")) or known[id].stage.replace("_", " ")
                counts = [told.get("rows", "?"), told.get("heldout", 0)]
                rows.append([known[id].name, field, *counts, told.get("format", known[id].kind), source, told.get("licence", "")])
    return _table(["Dataset", "Used as", "Rows", "Held out", "Format", "Source", "Licence"], rows)


def _settings(lineage: Sequence[Ancestor]) -> list[str]:
    lines: list[str] = []
    for one in _taught(lineage):
        flat = {name: _public(value) for name, value in _flat(one.settings).items() if name.split(".")[0] not in {*one.inputs, "save_as"}}
        lines += ["", f"**{_line(one.stage.replace('_', ' ').capitalize())}**, which made {_line(one.name)}", ""]
        lines += _table(["Setting", "Value"], [[name, value] for name, value in flat.items() if value not in ("", None)])
    return lines[1:]


def _scores(lineage: Sequence[Ancestor]) -> list[str]:
    rows = []
    for one in (one for one in lineage if one.kind == "model"):
        for score in one.scores:
            low, high = wilson(round(score.mean * score.n), score.n) if score.rate else (None, None)
            told = f"{score.mean:.1%} ({low:.1%} to {high:.1%})" if score.rate else f"{score.mean:.4g}"
            rows.append([one.name, score.probe, told, score.n, score.suite_hash[:12]])
    if not rows:
        return ["None were measured."]
    return [*_table(["Model", "Probe", "Score", "Items", "Suite"], rows), "", "Rates carry their 95 % Wilson interval."]


def _made(lineage: Sequence[Ancestor]) -> Iterator[str]:
    names = {one.id: one.name for one in lineage}
    for place, one in enumerate(lineage, start=1):
        used = ", ".join(f"{field.split('.')[0]}: {_line(names[id])}" for field, id in one.inputs.items() if id in names)
        by = one.stage.replace("_", " ") or "hand"
        used = used or _line(_public(one.summary.get("source", "")))
        yield f"{place}. {_line(one.name)} ({one.kind}), by {by}{f' from {used}' if used else ''}{'; deleted since' if one.deleted else ''}"


def _licence(lineage: Sequence[Ancestor], summary: dict[str, Any]) -> list[str]:
    own, unknown = summary.get("licence", ""), "not known; ask where it comes from before passing it on"
    lines = [f"This model: {_line(own or unknown)}.", "", "What it was made from:", ""]
    lines += [f"- {_line(one.name)}: {_line(one.summary.get('licence') or unknown)}" for one in _roots(lineage)]
    if terms := notice(lineage, own):
        lines += ["", f"{terms.strip()}. They hold for this model and for whatever is made from it; its weights were modified."]
    return lines


def _checked(summary: dict[str, Any]) -> Iterator[str]:
    yield (
        "A fresh process with plain transformers read this folder and gave the same tokens for a conversation and several texts, and the "
        "same logits as the model it was made from, rounded the same way, within 0.0001 of the largest logit."
    )
    yield ""
    for what, cost in summary.get("read_back", {}).items():
        yield f"- {what}: {cost}"


def _taught(lineage: Sequence[Ancestor]) -> list[Ancestor]:
    """Models that were made from another one and something else: what learned."""
    kinds = {one.id: one.kind for one in lineage}
    return [one for one in lineage if one.kind == "model" and any(kinds.get(id) != "model" for id in one.inputs.values())]


def _roots(lineage: Sequence[Ancestor]) -> list[Ancestor]:
    """The models whose weights, changed by training and merging, became these."""
    weights, roots = {lineage[-1].id}, []
    for one in reversed(lineage):  # effects before causes
        if one.id in weights:
            before = {id for field, id in one.inputs.items() if field.split(".")[0] in PASSED_ON}
            weights |= before
            roots += [] if before else [one]
    return roots[::-1]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _public(value: Any) -> Any:
    """The same, but of a path only its last part."""
    if not isinstance(value, str):
        return value
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(value).is_absolute() or value.startswith("~"):
            return kind(value).name
    return value


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    """A Markdown table; nothing without rows."""
    cells = [head, ["---"] * len(head), *rows] if rows else []
    return ["| " + " | ".join(_line(cell).replace("|", "\\|") for cell in row) + " |" for row in cells]


def _line(value: Any) -> str:
    """Somebody's text on one line, where it cannot become markup."""
    return re.sub(r"([<`*\[\]])", r"\\\1", " ".join(str(value).split()))


def _version() -> str:
    from engine.submit import code_version

    return code_version()
