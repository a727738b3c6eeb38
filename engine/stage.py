"""A stage is one typed form that knows how to do its work; a recipe is the same kind of form that queues stages.

The fields of a stage are its settings. A field typed `Model`, `Conversations`, ... holds the id of an artifact and is
an input: an integer in JSON, a dropdown in the form, an edge in the lineage. `outputs` names what the stage makes, and
`run(work)` does the work, in a child process, seeing the world only through `work`. The stage's name is the name of
its file. Nothing here imports torch: heavy libraries are imported inside `run`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from engine.work import Work


class Kind(StrEnum):
    """What flows between stages."""

    MODEL = "model"
    DATASET = "dataset"
    RESPONSES = "responses"
    RANKINGS = "rankings"
    SCORES = "scores"
    REPORT = "report"


def _artifact(kind: Kind, *formats: str) -> Any:
    return Field(strict=True, ge=1, json_schema_extra={"artifact": kind.value, "formats": list(formats)})


# Artifact ids by what they must hold. A model that can be trained has weights here, whole ("full") or as an adapter; an
# endpoint is somebody else's server and can only answer; a "reward" model can only score. For datasets the formats name
# the row layouts a stage can read:
# text {"text"}; messages {"messages"}; preference {"prompt", "chosen", "rejected"};
# unpaired {"prompt", "completion", "label"}; tiers {"prompt", "responses", "tiers"}; prompts {"prompt"} and perhaps {"answer", "accept"}.
Model = Annotated[int, _artifact(Kind.MODEL, "full", "adapter")]
AnsweringModel = Annotated[int, _artifact(Kind.MODEL, "full", "adapter", "endpoint")]
RewardModel = Annotated[int, _artifact(Kind.MODEL, "reward")]
Dataset = Annotated[int, _artifact(Kind.DATASET)]
Texts = Annotated[int, _artifact(Kind.DATASET, "text")]
Conversations = Annotated[int, _artifact(Kind.DATASET, "messages")]
Prompts = Annotated[int, _artifact(Kind.DATASET, "prompts", "messages")]
Preferences = Annotated[int, _artifact(Kind.DATASET, "preference")]
Answered = Annotated[int, _artifact(Kind.DATASET, "messages", "preference", "unpaired", "text")]
KnownRankings = Annotated[int, _artifact(Kind.DATASET, "preference", "tiers")]
Responses = Annotated[int, _artifact(Kind.RESPONSES)]
Rankings = Annotated[int, _artifact(Kind.RANKINGS)]
Scores = Annotated[int, _artifact(Kind.SCORES)]
Report = Annotated[int, _artifact(Kind.REPORT)]


@dataclass(frozen=True)
class Input:
    """An artifact as a stage sees it. `summary` is what its maker described it with; empty until it is ready."""

    id: int
    kind: Kind
    name: str
    folder: Path
    summary: dict[str, Any] = field(default_factory=dict)
    ready: bool = True


@dataclass(frozen=True)
class Reference:
    """One artifact id in a form's settings: which field holds it and what that field can read."""

    field: str  # "model", "parts.0.dataset"
    kind: Kind
    formats: tuple[str, ...]
    id: int


@dataclass(frozen=True)
class Estimate:
    """What a run will take, said before Start. Zero means nothing worth saying."""

    seconds: float = 0
    memory: int = 0  # bytes
    disk: int = 0  # bytes
    notes: tuple[str, ...] = ()  # facts a person wants before pressing Start, as ready sentences
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PreviewRow:
    """One row as the model will see it: pieces of text, each with whether it carries loss, and its length."""

    pieces: tuple[tuple[str, bool], ...]
    tokens: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Preview:
    """The first rows of what a form names, shown live beside it."""

    title: str
    rows: tuple[PreviewRow, ...] = ()
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()  # offered where the form asks for a column


class Group(BaseModel):
    """Settings that several stages share: one accordion in the form, one nested object in JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Form(BaseModel):
    """What stages and recipes have in common: identity, words, and validated, immutable settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def name(cls) -> str:
        """The word that names it in code, on the command line and in the database: its file's name."""
        return cls.__module__.rsplit(".", 1)[-1]

    @classmethod
    def title(cls) -> str:
        """The same, for people: "Import model"."""
        return cls.name().replace("_", " ").capitalize()

    @classmethod
    def summary(cls) -> str:
        """The first sentence of its docstring."""
        return " ".join(re.split(r"\n\s*\n", cls.__doc__ or "")[0].split())

    @model_validator(mode="before")
    @classmethod
    def _lay_groups_over_their_defaults(cls, data: Any) -> Any:
        """`{"training": {"steps": 10}}` changes the steps and keeps this stage's other defaults."""
        if not isinstance(data, dict):
            return data
        laid = dict(data)
        for name, info in cls.model_fields.items():
            if isinstance(info.default, Group) and isinstance(laid.get(name), dict):
                laid[name] = info.default.model_dump() | laid[name]
        return laid

    def references(self) -> list[Reference]:
        """Every artifact id among the settings."""
        return list(_references(self, ""))


class Stage(Form):
    """One kind of work. Subclass it in a file of its own under engine/stages/."""

    outputs: ClassVar[dict[str, Kind]] = {}
    heavy: ClassVar[bool] = True  # takes a device slot; light stages overlap with everything
    online: ClassVar[bool] = False  # may ask a hub; all others run with the hub switched off

    save_as: str = Field("", title="Name of the result", description="Empty: a name is made from what goes in.")

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """The name of what comes out, unless the person gave one."""
        return " + ".join(dict.fromkeys(inputs[r.id].name for r in self.references())) or self.name()

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Raise UserError for settings that cannot work on these inputs. Called before the run is queued, with the
        inputs that are ready by then, and again when all of them are."""

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """What the run will take; `tokens_per_second` is what this stage last reached here with this model."""
        return None

    def preview(self, inputs: Mapping[int, Input]) -> Preview | None:
        """The first rows as the model will see them."""
        return None

    def processes(self) -> int:
        """How many processes, each with a device of its own, share the work. All of them call `run`; see engine.worker."""
        return 1

    def run(self, work: "Work") -> None:
        """Do the work."""
        raise TypeError(f"{type(self).__name__} does not say how it runs")


Queue = Callable[[Stage], dict[str, int]]


class Recipe(Form):
    """An end-to-end plan: a form that queues stages. Subclass it in a file of its own under engine/recipes/."""

    def plan(self, queue: Queue) -> None:
        """Queue stages. `queue(stage)` returns the ids reserved for its outputs, by name, for later stages to use."""
        raise TypeError(f"{type(self).__name__} does not say what it queues")


def artifact_kind(info: FieldInfo) -> dict[str, Any] | None:
    """What a settings field can hold when it holds artifacts ({"artifact": "model", "formats": [...]}), else None.
    Sees through `X | None` and `list[X]`."""
    if isinstance(info.json_schema_extra, dict) and "artifact" in info.json_schema_extra:
        return dict(info.json_schema_extra)
    return _annotated_kind(info.annotation)


def _annotated_kind(annotation: Any) -> dict[str, Any] | None:
    for inner in getattr(annotation, "__metadata__", ()):
        if isinstance(inner, FieldInfo) and isinstance(inner.json_schema_extra, dict):
            return dict(inner.json_schema_extra)
    return next((kind for arg in get_args(annotation) if (kind := _annotated_kind(arg))), None)


def _references(form: BaseModel, prefix: str) -> Iterator[Reference]:
    for name, info in type(form).model_fields.items():
        kind, value = artifact_kind(info), getattr(form, name)
        for place, one in enumerate(value) if isinstance(value, list | tuple) else [(None, value)]:
            path = f"{prefix}{name}" if place is None else f"{prefix}{name}.{place}"
            if isinstance(one, BaseModel):
                yield from _references(one, path + ".")
            elif kind and isinstance(one, int):
                yield Reference(path, Kind(kind["artifact"]), tuple(kind["formats"]), one)
