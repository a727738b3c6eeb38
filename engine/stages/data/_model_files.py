"""What a folder or file on disk is, told without loading it: a model, an adapter or a GGUF file; or why it is none."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.errors import UserError
from engine.stage import Input

ADAPTER = "adapter_model.safetensors"
INDEX = "model.safetensors.index.json"
JUDGE = "ForSequenceClassification"
HEADS = (JUDGE, "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice", "ForMaskedLM", "ForNextSentencePrediction")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Found:
    """A model's files: its kind, its folder, the files of its weights, and the settings field that named it."""

    kind: Literal["folder", "adapter", "gguf"]
    folder: Path
    weights: tuple[Path, ...]
    field: str
    scores: bool = False  # a reward model

    @property
    def size(self) -> int:
        """Bytes of weights."""
        return sum(path.stat().st_size for path in self.weights)

    @property
    def shown(self) -> str:
        """How to name it in a message."""
        return str(self.weights[0] if self.kind == "gguf" else self.folder)


def look_at(path: Path, field: str) -> Found:
    """What lies at `path`. Raises UserError(field) that says what is missing and what to do."""

    def refuse(message: str, **values: object) -> UserError:
        return UserError("{path} " + message, field=field, path=path, **values)

    if not path.exists():
        raise refuse("does not exist: check the spelling, and that the files are on this machine")
    if path.is_file():
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise refuse("is not a GGUF file: give a .gguf file, or the folder that holds the model")
        return Found("gguf", path.parent, (path,), field)
    if (path / "adapter_config.json").exists() and not _weights(path, refuse):
        if not (path / ADAPTER).exists():
            raise refuse("has adapter_config.json but no {name}{hint}", name=ADAPTER, hint=_about_pickles(path))
        if read_json(path / "adapter_config.json").get("task_type") == "SEQ_CLS":
            raise refuse("is the adapter of a model that scores: merge it into its base, save that, and give the folder")
        return Found("adapter", path, (path / ADAPTER,), field)
    if not (path / "config.json").exists():
        if len(files := sorted(path.glob("*.gguf"))) > 0:
            raise refuse("is a folder of GGUF files: give one of them, such as {file}", file=files[0].name)
        raise refuse("has no config.json, so it is not a model: give the folder save_pretrained wrote")
    weights = _weights(path, refuse)
    if not weights:
        raise refuse("has no weights as safetensors{hint}", hint=_about_pickles(path))
    return Found("folder", path, weights, field, _scores(read_json(path / "config.json"), refuse))


def _scores(config: dict[str, Any], refuse: Any) -> bool:
    """Whether it is a reward model: a sequence classifier with one label."""
    kind = (config.get("architectures") or [""])[0]
    if not kind.endswith(HEADS):
        return False
    labels = config.get("num_labels") or len(config.get("id2label") or "01")  # two, where nothing is said
    if kind.endswith(JUDGE) and labels == 1:
        return True
    why = f"its head has {labels} labels" if kind.endswith(JUDGE) else "its head neither writes nor scores answers"
    message = "is a {kind}, and {why}: only language models and reward models ({judge}, one label) are imported"
    raise refuse(message, kind=kind, why=why, judge=JUDGE)


def refuse_unfit_base(found: Found, base: Input | None) -> None:
    """Raise UserError when an adapter has no base, or something else has one."""
    if found.kind == "adapter" and not base:
        known = read_json(found.folder / "adapter_config.json").get("base_model_name_or_path") or "not named in its config"
        message = "{path} is an adapter and base is empty: import the model it was trained on ({known}) and choose it as base"
        raise UserError(message, field="base", path=found.shown, known=known)
    if found.kind != "adapter" and base:
        message = "base is given ({base}) but {path} is a whole model, not an adapter: leave base empty"
        raise UserError(message, field="base", base=base.name, path=found.shown)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model's folder; empty when there is no such file. Raises UserError when it is not one."""
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError("{path} is damaged ({reason}): copy or download it again", path=path, reason=error) from error


def _weights(folder: Path, refuse: Any) -> tuple[Path, ...]:
    """The safetensors files that from_pretrained would read: those of the index, model.safetensors, or the only one."""
    index = read_json(folder / INDEX)
    if index:
        names = sorted({Path(str(name)).name for name in index.get("weight_map", {}).values()})
        if gone := [name for name in names if not (folder / name).exists()]:
            raise refuse("lacks {gone}, which its index names: copy or download it again", gone=", ".join(gone))
        return tuple(folder / name for name in names)
    if (folder / "model.safetensors").exists():
        return (folder / "model.safetensors",)
    others = [path for path in folder.glob("*.safetensors") if path.name != ADAPTER]
    return tuple(others) if len(others) == 1 else ()


def _about_pickles(folder: Path) -> str:
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES and path.name != "training_args.bin")
    if not pickles:
        return ": copy or download the folder again, whole"
    return (
        f", only {pickles[0]}: a pickle can run code when it is loaded, so it is refused. If you trust it, convert it where it "
        "came from: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder), and import the new folder"
    )
