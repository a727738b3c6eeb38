"""A model from outside becomes an artifact: a starter, a model on the hub, or files on this machine.

Whatever the source, the result is one kind of folder: safetensors, config, tokenizer.json and chat_template.jinja, read
back and asked for a few logits before it counts as imported. No pickle is loaded and no code of a model is run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from engine.stage import Estimate, Input, Kind, Model, Stage
from engine.stages.data._model_files import Found, look_at, refuse_unfit_base
from engine.stages.data._starters import STARTERS, fetch_starter

if TYPE_CHECKING:
    from engine.work import Work


class ImportModel(Stage):
    """Bring in a model: a starter, a model on the hub, or a folder, adapter or GGUF file on this machine."""

    outputs = {"model": Kind.MODEL}
    heavy = False
    online = True

    source: Literal["starter", "hub", "path"] = Field(
        "starter", title="From", description="path: a model folder, a PEFT adapter folder or a GGUF file on this machine."
    )
    starter: Literal["SmolLM2-135M-Instruct", "gemma-3-270m"] = Field(
        "SmolLM2-135M-Instruct", title="Starter", description="Small models that come with the Python packages: no hub needed."
    )
    accept_gemma_terms: bool = Field(
        False, title="I accept the Gemma terms", description="Needed for gemma-3-270m. Read them at https://ai.google.dev/gemma/terms"
    )
    hub_id: str = Field("", title="Hub id", description="Such as HuggingFaceTB/SmolLM2-360M-Instruct.")
    revision: str = Field("", title="Revision", description="A branch, tag or commit on the hub. Empty: the newest.")
    path: str = Field("", title="Path", description="The folder or the .gguf file.")
    base: Model | None = Field(None, title="Base of the adapter", description="The model a PEFT adapter was trained on.")
    template: Literal["auto", "chatml", "plain", "alpaca"] = Field(
        "auto", title="Chat template", description="auto keeps the model's own; a model without one gets plain."
    )
    sha256: str = Field("", title="SHA-256", pattern="^([0-9a-fA-F]{64})?$", description="Of the weights' file, checked when given.")

    @field_validator("path")
    @classmethod
    def _path_is_whole(cls, path: str) -> str:
        """The run works in a folder of its own, so the path must not depend on where we stand."""
        return str(Path(path.strip()).expanduser().absolute()) if path.strip() else ""

    @model_validator(mode="after")
    def _fields_belong_to_the_source(self) -> "ImportModel":
        for source, field in (("hub", "hub_id"), ("path", "path")):
            if self.source == source and not getattr(self, field):
                raise ValueError(f"source is {source} but {field} is empty: fill in {field}, or choose another source")
        for source, field in (("hub", "hub_id"), ("hub", "revision"), ("path", "path")):
            if self.source != source and getattr(self, field):
                raise ValueError(f"{field} is given but source is {self.source}: set source to {source}, or leave {field} empty")
        if self.base and self.source == "starter":
            raise ValueError("base is given but source is starter, which is a whole model: leave base empty")
        if self.source == "starter" and self.starter == "gemma-3-270m" and not self.accept_gemma_terms:
            raise ValueError(
                "starter is gemma-3-270m but accept_gemma_terms is off: read https://ai.google.dev/gemma/terms and switch it on, "
                "or choose another starter"
            )
        return self

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """The starter's, the hub's or the file's own name."""
        if self.source == "starter":
            return self.starter
        return self.hub_id.rsplit("/", 1)[-1] if self.source == "hub" else Path(self.path).name.removesuffix(".gguf")

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Refuse files that cannot be imported, and a base that does not go with them."""
        base = inputs[self.base] if self.base else None
        if self.source == "path":
            refuse_unfit_base(look_at(Path(self.path), "path"), base)

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """Known for starters; read from the files on this machine; unknown for the hub."""
        if self.source == "starter":
            starter = STARTERS[self.starter]
            note = f"Fetches {starter.download / 1e6:.0f} MB, once. {starter.note}"
            return Estimate(starter.seconds, starter.memory, starter.disk, (note,))
        if self.source == "hub":
            return None
        found = look_at(Path(self.path), "path")
        return Estimate(5 + found.size / 1e8, int(1.2 * found.size), found.size)

    def run(self, work: "Work") -> None:
        """Fetch, read, check, save."""
        from engine.training.importing import import_found

        found, facts = self._found(work)
        base = work.input("base") if self.base else None
        refuse_unfit_base(found, base)
        work.progress(50, 100)
        summary = import_found(work, found, base, self.template, self.sha256.lower())
        work.describe("model", **(summary | facts))
        work.progress(100, 100)

    def _found(self, work: "Work") -> tuple[Found, dict[str, str]]:
        """The files, on this machine by now, and what is known about them beyond what they say."""
        if self.source == "starter":
            starter = STARTERS[self.starter]
            file = fetch_starter(work, starter)
            return look_at(file, "starter"), {"source": starter.source, "licence": starter.licence, "note": starter.note}
        if self.source == "hub":
            from engine.stages.data._hub_models import fetch_model

            folder, commit = fetch_model(work, self.hub_id, self.revision)
            return look_at(folder, "hub_id"), {"source": f"{self.hub_id} at {commit[:12]}"}
        return look_at(Path(self.path), "path"), {"source": self.path}
