"""A model leaves: one whole folder that plain transformers loads, perhaps a GGUF file, perhaps on the hub.

An adapter is merged into its base first. Before the run succeeds, a fresh process that knows nothing of this project
reads every form back and must give the same tokens and the same logits; and a card says where the model comes from.
"""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from engine.errors import UserError
from engine.stage import Estimate, Input, Kind, Model, Stage
from engine.stages.data._gguf import BITS, refuse_unfit_for_gguf
from engine.stages.data._model_files import read_json

if TYPE_CHECKING:
    from engine.work import Work

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
LIBRARIES = 1_000_000_000  # bytes two processes with transformers take before they load anything
INHERITED = ("architecture", "context_length", "template", "licence", "quantized_from", "note")


class ExportModel(Stage):
    """Take a model home: whole, with its card, for plain transformers, as GGUF and on the hub."""

    outputs = {"model": Kind.MODEL}
    heavy = False
    online = True

    model: Model = Field(title="Model to export", description="An adapter is merged into its base.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", title="Precision", description="How the weights are kept. auto: as the model, or the base of an adapter, has them."
    )
    gguf: Literal["none", "f32", "f16", "bf16", "q8_0"] = Field(
        "none", title="GGUF file too", description="For llama.cpp, Ollama and LM Studio. q8_0 is a quarter of f32 and close to it."
    )
    push_to_hub: str = Field("", title="Push to the hub as", description="Such as your-name/my-model. Empty: it stays on this machine.")
    private: bool = Field(True, title="Private on the hub", description="Only you and whom you invite can see it.")
    licence: str = Field("", title="Licence", description="For the card, such as apache-2.0. Empty: the one of the model it comes from.")
    notes: str = Field("", title="Notes for the card", description="What it is for, and what a person should know before using it.")

    @field_validator("push_to_hub")
    @classmethod
    def _is_a_repository(cls, name: str) -> str:
        from huggingface_hub.utils import HFValidationError, validate_repo_id

        name = name.strip()
        try:
            validate_repo_id(name or "owner/name")
        except HFValidationError as error:
            raise ValueError(f"push_to_hub cannot be {name!r}: {error}") from None
        if name and "/" not in name:
            raise ValueError(f"push_to_hub is {name!r}, and whose it is must be said: write it as owner/name")
        return name

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """The model's name, exported."""
        return f"{inputs[self.model].name}, exported"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Refuse an adapter without its base, a GGUF file nobody could read, and a push without a token."""
        from engine.stages.data._push import require_token

        model = inputs[self.model]
        if self.push_to_hub:
            require_token()
        if not model.ready:
            return
        whole = _whole(model, inputs.__getitem__)
        if self.gguf != "none":
            refuse_unfit_for_gguf(whole.folder, model.folder)

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """The weights on disk; in memory, twice in float32 while they are read back."""
        whole = _whole(inputs[self.model], inputs.__getitem__)
        parameters = whole.summary.get("parameters", 0)
        disk = parameters * BYTES[self._precision(whole)] + (parameters * BITS[self.gguf] / 8 if self.gguf != "none" else 0)
        seconds = 12 + parameters / (2e7 if self.gguf == "none" else 5e6)
        return Estimate(seconds, 9 * parameters + LIBRARIES, int(disk))

    def run(self, work: "Work") -> None:
        """Merge, write, prove, describe, and push last."""
        from engine.stages.data._card import card, licence_of, notice
        from engine.stages.data._push import Push
        from engine.training.exporting import Exporter

        push = Push.open(self.push_to_hub, self.private) if self.push_to_hub else None
        source, output = work.input("model"), work.output("model")
        licence = self.licence.strip() or source.summary.get("licence", "")
        exporter, precision = Exporter(work, source, output), self._precision(_whole(source, work.artifact))
        parameters = exporter.safetensors(precision)
        work.progress(40, 100)
        summary = {name: source.summary[name] for name in INHERITED if name in source.summary}
        summary |= {"format": "full", "parameters": parameters, "dtype": precision, "licence": licence}
        summary["source"] = f"{source.name}, exported"
        if self.gguf != "none":
            name = re.sub(r"[^\w.-]+", "-", source.name)[:100].strip("-.") or "model"
            summary["gguf"] = f"gguf/{name}-{self.gguf.upper()}.gguf"
            exporter.gguf(self.gguf, summary["gguf"], source.name, licence_of(licence).id)
        exporter.prove()
        summary["read_back"] = {one.what: one.cost for one in exporter.written}
        place = self.push_to_hub or "path/to/this/folder"
        lineage = work.lineage(source.id)
        (output / "README.md").write_text(card(lineage, summary, place, self.notes.strip()), encoding="utf-8")
        if told := notice(lineage, licence):
            (output / "NOTICE").write_text(told, encoding="utf-8")
        if push:
            summary["pushed"] = push.send(work, output, f"{source.name}, exported by Dianjing")
        work.describe("model", **summary)
        work.progress(100, 100)

    def _precision(self, whole: Input) -> str:
        kept = str(read_json(whole.folder / "config.json").get("dtype", "float32"))
        return (kept if kept in BYTES else "float32") if self.precision == "auto" else self.precision


def _whole(model: Input, artifact: Callable[[int], Input]) -> Input:
    """What an adapter stands on in the end. Raises UserError when a part of it is not there any more."""
    chain = [model]
    while chain[-1].summary.get("format") == "adapter":
        chain.append(artifact(chain[-1].summary["base"]))
    for adapter, base in pairwise(chain):
        if not base.folder.exists():
            message = "the base of {adapter}, {base} (artifact {id}), was deleted: import that base again, and the adapter on it"
            raise UserError(message, field="model", adapter=adapter.name, base=base.name, id=base.id)
    return chain[-1]
