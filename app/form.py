"""A settings class becomes a form, and what a person typed becomes settings, or messages beside the fields.

The only file that knows both pydantic and Gradio. A field's component follows from its type; its words, bounds and
choices stand in the field itself.
"""

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import gradio as gr
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from app.view import h, view
from app.wording import error, say
from engine.errors import UserError
from engine.stage import Form, Group, artifact_kind

REASONS = {  # what pydantic says about a value, in a person's words
    "greater_than_equal": "Must be at least {ge}",
    "greater_than": "Must be more than {gt}",
    "less_than_equal": "Must be at most {le}",
    "less_than": "Must be less than {lt}",
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "Must be a whole number"),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), "Must be a number"),
}
GROUPS = {"lora": "LoRA"}  # where the name of a field is not how people write it
Choices = Callable[[str, list[str]], list[tuple[str, int]]]  # kind, formats -> (name, artifact id)


@dataclass(frozen=True)
class Field:
    """One drawn field: its path in the settings ("training.steps"), its component and the place for its message."""

    path: str
    info: FieldInfo
    component: gr.components.Component
    message: gr.HTML
    upload: gr.UploadButton | None = None


def draw(form: type[Form], values: Mapping[str, Any], choices: Choices) -> list[Field]:
    """Draw the components of a form, filled with `values` or the defaults; groups fold."""
    single = [(name, info) for name, info in form.model_fields.items() if not _group(info) and name != "save_as"]
    groups = [(name, info) for name, info in form.model_fields.items() if _group(info)]
    last = [(name, info) for name, info in form.model_fields.items() if name == "save_as"]
    fields = [_draw(name, info, _value(name, info, values), choices) for name, info in single]
    for name, info in groups:
        given = {**info.default.model_dump(), **(values.get(name) or {})}
        summary = say(type(info.default).__doc__ or "").split("\n")[0]
        with gr.Accordion(f"{say(GROUPS.get(name) or name.replace('_', ' ').capitalize())}: {summary}", open=False):
            inner = type(info.default).model_fields
            for pair in _pairs(list(inner.items())):
                with gr.Row():
                    fields += [_draw(f"{name}.{inside}", about, given[inside], choices) for inside, about in pair]
    return fields + [_draw(name, info, _value(name, info, values), choices) for name, info in last]


def collect(fields: list[Field], typed: list[Any]) -> dict[str, Any]:
    """What stands in the components as settings; an empty optional field is null."""
    settings: dict[str, Any] = {}
    for field, value in zip(fields, typed, strict=True):
        *groups, name = field.path.split(".")
        place = settings
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = _plain(field.info, value)
    return settings


def messages(fields: list[Field], problem: Exception | None) -> tuple[list[Any], str]:
    """An update for every field's message, and a line that says what stands in no field or in one that may be folded."""
    told: dict[str, str] = {}
    if isinstance(problem, ValidationError):
        for one in problem.errors():
            told.setdefault(".".join(str(part) for part in one["loc"] if isinstance(part, str)), _reason(one))
    elif isinstance(problem, UserError):
        told[".".join(part for part in (problem.field or "").split(".") if not part.isdigit())] = error(problem)
    titles = {field.path: say(field.info.title or field.path) for field in fields}
    rest = [f"{titles.get(path, path)}: {text}" if path else text for path, text in told.items() if path not in titles or "." in path]
    return [h("p", told[f.path], class_="fielderror", role="alert") if f.path in told else None for f in fields], " ".join(rest)


def command(form: type[Form], settings: Mapping[str, Any]) -> str:
    """The same run as a shell command."""
    compact = {}
    for name, value in settings.items():
        info = form.model_fields.get(name)
        default = None if info is None or info.default is PydanticUndefined else info.default
        if isinstance(default, Group) and isinstance(value, dict):
            value = {inner: given for inner, given in value.items() if given != getattr(default, inner, None)}
            default = {}
        if value != default:
            compact[name] = value
    return f"dianjing run {form.name()} - <<'END'\n{json.dumps(compact, indent=2, ensure_ascii=False)}\nEND"


def _draw(path: str, info: FieldInfo, value: Any, choices: Choices) -> Field:
    with gr.Column(scale=1, min_width=240):
        component = _component(info, value, choices)
        upload = None
        extra = info.json_schema_extra
        if isinstance(extra, dict) and "upload" in extra:
            upload = gr.UploadButton(say("Choose a file"), file_types=list(extra["upload"]), file_count="single", size="sm")  # type: ignore[arg-type]
        if isinstance(extra, dict) and "preset" in extra:
            gr.Button(str(extra["preset"]), size="sm").click(None, None, component, js=f"() => {json.dumps(extra['preset'])}", queue=False)
        message = view()
    return Field(path, info, component, message, upload)


def _component(info: FieldInfo, value: Any, choices: Choices) -> gr.components.Component:
    words = {"label": say(info.title or ""), "info": say(info.description or "") or None, "interactive": True}
    kind, inner = artifact_kind(info), _without_none(info.annotation)
    if kind:
        offered = choices(kind["artifact"], kind["formats"])
        many = get_origin(inner) is list
        known = {id for _, id in offered}
        kept = [v for v in value or [] if v in known] if many else (value if value in known else None)
        if not many and kept is None and inner is info.annotation and offered:
            kept = offered[0][1]
        none = [] if many or inner is info.annotation else [(say("none"), 0)]
        return gr.Dropdown(none + offered, value=kept if kept or many else (0 if none else None), multiselect=many, **words)
    if get_origin(inner) is Literal:
        options = [(say(str(option)), option) for option in get_args(inner)]
        return gr.Radio(options, value=value, **words) if len(options) <= 4 else gr.Dropdown(options, value=value, **words)
    if inner is bool:
        return gr.Checkbox(value=bool(value), **words)
    if inner in (int, float) and inner is info.annotation:
        return _number(info, int if inner is int else float, value, words)
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    lines = info.json_schema_extra.get("lines", 1) if isinstance(info.json_schema_extra, dict) else 1
    return gr.Textbox(value=text, lines=lines, **words)  # an optional number too: Gradio's number box sends 0 when it is empty


def _number(info: FieldInfo, kind: type, value: Any, words: dict[str, Any]) -> gr.components.Component:
    low, high = _bound(info, "ge", "gt"), _bound(info, "le", "lt")
    whole = kind is int
    span = high - low if low is not None and high is not None else None
    if (
        span is not None
        and info.annotation is kind
        and span <= (100 if whole else 2)
        and (whole or info.default in (None, 0) or value >= 0.01)
    ):
        return gr.Slider(low, high, value=value, step=1 if whole else 0.01, **words)
    return gr.Number(value=value, precision=0 if whole else None, **words)


def _bound(info: FieldInfo, *names: str) -> float | None:
    return next((getattr(m, name) for m in info.metadata for name in names if getattr(m, name, None) is not None), None)


def _plain(info: FieldInfo, value: Any) -> Any:
    inner = _without_none(info.annotation)
    if artifact_kind(info):
        return value or ([] if get_origin(inner) is list else None)
    if get_origin(inner) is list:
        return [_as_number(part) for part in str(value or "").replace(";", ",").split(",") if part.strip()]
    if inner in (int, float) and isinstance(value, str):
        return _as_number(value) if value.strip() else None
    return value


def _as_number(text: str) -> Any:
    """The number a text means; the text itself, for pydantic to refuse, if it means none."""
    try:
        number = float(text)
    except ValueError:
        return text.strip()
    return int(number) if number.is_integer() else number


def _reason(one: Any) -> str:
    if one["type"] == "missing" or one.get("input") in (None, "", []):
        return say("Choose or type something here")
    template = REASONS.get(one["type"])
    text = say(template, **one.get("ctx", {})) if template else say(str(one["msg"]).removeprefix("Value error, "))
    given = one.get("input")
    shown = f" ({say('given: {given}', given=str(given)[:60])})" if isinstance(given, str | int | float) else ""
    return text[:1].upper() + text[1:] + shown


def _value(name: str, info: FieldInfo, values: Mapping[str, Any]) -> Any:
    default = None if info.default is PydanticUndefined else info.default
    return values.get(name, default)


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _group(info: FieldInfo) -> bool:
    return isinstance(info.default, BaseModel)


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [arg for arg in get_args(annotation) if arg is not type(None)]
        annotation = rest[0] if len(rest) == 1 else annotation
    return annotation if not hasattr(annotation, "__metadata__") else get_args(annotation)[0]


def _pairs(items: list[Any]) -> list[list[Any]]:
    return [items[i : i + 2] for i in range(0, len(items), 2)]
