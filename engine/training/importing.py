"""From a model's files to an artifact's folder: copy or convert, give it a chat template, and prove that it works."""

import functools
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GgufConfig,
    PreTrainedTokenizerBase,
)

from engine.chat import TEMPLATES, Chat
from engine.errors import UserError
from engine.stage import Input
from engine.stages.data._model_files import INDEX, Found, read_json
from engine.training.models import copy_tokenizer, load_model

if TYPE_CHECKING:
    from engine.work import Work

# What readers of other people's files raise when a file is not as they expect.
UNLOADABLE = (ValueError, RuntimeError, OSError, LookupError, TypeError, AttributeError, ImportError, SafetensorError)


def import_found(work: "Work", found: Found, base: Input | None, template: str, sha256: str) -> dict[str, Any]:
    """Write the artifact; returns its summary. Raises UserError for files that do not make a working model."""
    output = work.output("model")
    hashes = _hashes(found, sha256)
    work.say(f"reading {found.size / 1e6:,.0f} MB of weights")
    if found.kind == "gguf":
        model, facts = _from_gguf(found, output)
    elif found.kind == "adapter" and base:
        model, facts = _from_adapter(work, found, base, output)
    else:
        model, facts = _from_folder(found, output)
    work.progress(90, 100)
    facts["template"] = _give_template(work, output, template)
    _prove(work, model, output, found)
    config = model.config.get_text_config()
    length = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return {
        "format": "full",
        "parameters": model.num_parameters(),
        "architecture": (model.config.architectures or [type(model).__name__])[0],
        "context_length": length,
        "licence": _licence(found.folder),
        "quantized_from": None,
        "dtype": str(model.dtype).removeprefix("torch."),
        "sha256": hashes,
        "note": "",
    } | facts


def _hashes(found: Found, wanted: str) -> dict[str, str]:
    """SHA-256 by file name. Raises UserError when the one wanted is not the one there."""
    hashes = {}
    for path in found.weights:
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    if wanted and list(hashes.values()) != [wanted]:
        got = ", ".join(f"{value} for {name}" for name, value in hashes.items())
        message = "the weights are not the ones sha256 names (found {got}; wanted {wanted}): fetch them again, or correct sha256"
        raise UserError(message, field="sha256", got=got, wanted=wanted)
    return hashes


def _from_gguf(found: Found, output: Path) -> tuple[Any, dict[str, Any]]:
    """Quantized weights read back into float32, which holds exactly what the file says."""
    folder, name = str(found.folder), found.weights[0].name
    with _parsed_once():
        try:
            reader = gguf.GGUFReader(str(found.weights[0]))
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
            model = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
            )
        except UNLOADABLE as error:
            raise _does_not_load(found, error) from error
    vars(model.config).pop("quantization_config", None)  # it is plain now: with these two, saving refuses
    model.hf_quantizer = None
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    about = {key: field.contents() for key in ("general.license", "general.file_type") if (field := reader.get_field(key))}
    kind = about.get("general.file_type")
    quantized = gguf.LlamaFileType(kind).name.removeprefix("MOSTLY_") if kind is not None else "unknown"
    whole = quantized in ("ALL_F32", "F16", "BF16")
    facts = {"quantized_from": None if whole else quantized, "licence": about.get("general.license", "")}
    return model, facts | ({} if whole else {"note": f"Its weights are {quantized} ones read back into full precision."})


@contextmanager
def _parsed_once() -> Iterator[None]:
    """transformers parses a GGUF header three times and makes its table of names once per layer: remembering both
    halves the time of a conversion."""
    slow = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, function in slow.items():
        setattr(gguf, name, functools.cache(function))
    try:
        yield
    finally:
        for name, function in slow.items():
            setattr(gguf, name, function)


def _from_folder(found: Found, output: Path) -> tuple[Any, dict[str, Any]]:
    """Weights and settings copied as they are: the source may change later, an artifact may not."""
    config = read_json(found.folder / "config.json")
    if config.get("model_type") not in CONFIG_MAPPING:
        message = "{path} is a {kind}, which transformers does not know by itself; code that comes with a model is never run here"
        raise UserError(message, field=found.field, path=found.shown, kind=config.get("model_type", "model of no stated type"))
    for path in found.weights:
        shutil.copyfile(path, output / (path.name if (found.folder / INDEX).exists() else "model.safetensors"))
    for name in ("config.json", "generation_config.json", INDEX):
        if (found.folder / name).exists():
            shutil.copyfile(found.folder / name, output / name)
    _bring_tokenizer(found, found.folder, output)
    try:
        loader = AutoModelForSequenceClassification if found.scores else AutoModelForCausalLM
        model, told = loader.from_pretrained(
            output, dtype="auto", local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except UNLOADABLE as error:
        raise _does_not_load(found, error) from error
    if missing := sorted(told["missing_keys"]):
        message = "{path} lacks {count} of the weights its config asks for, such as {first}: it is not whole, or not a language model"
        raise UserError(message, field=found.field, path=found.shown, count=len(missing), first=missing[0])
    if found.scores:
        return model, {"format": "reward"}
    if not (output / "generation_config.json").exists():
        model.generation_config.save_pretrained(output)
    return model, {}


def _from_adapter(work: "Work", found: Found, base: Input, output: Path) -> tuple[Any, dict[str, Any]]:
    """An adapter, tried on its base: every tensor must have its place there, with the same shape."""
    whole = load_model(base, work.artifact, torch.float32, "cpu")
    try:
        model = PeftModel.from_pretrained(whole, str(found.folder))
        with safe_open(str(found.weights[0]), "pt") as file:
            given = set(file.keys())
    except UNLOADABLE as error:
        message = "the adapter {path} does not fit base {base} ({reason}): choose the model it was trained on"
        raise UserError(message, field="base", path=found.shown, base=base.name, reason=_first_line(error)) from error
    wanted = get_peft_model_state_dict(model, save_embedding_layers=False)
    if odd := sorted(name for name in given ^ set(wanted) if "embed" not in name and "lm_head" not in name):
        message = "the adapter {path} does not fit base {base}: {count} tensors have no counterpart, such as {first}"
        raise UserError(message, field="base", path=found.shown, base=base.name, count=len(odd), first=odd[0])
    for name in ("adapter_config.json", found.weights[0].name):
        shutil.copyfile(found.folder / name, output / name)
    own = (found.folder / "tokenizer.json").exists()
    _bring_tokenizer(found, found.folder if own else base.folder, output)
    if not (output / "chat_template.jinja").exists():
        shutil.copyfile(base.folder / "chat_template.jinja", output / "chat_template.jinja")
    inherited = {name: base.summary[name] for name in ("licence", "quantized_from") if name in base.summary}
    trained = sum(tensor.numel() for tensor in wanted.values())
    return model, inherited | {"format": "adapter", "base": base.id, "parameters": trained}


def _bring_tokenizer(found: Found, source: Path, output: Path) -> None:
    """The tokenizer as it is; a tokenizer.json is made when there are only older files."""
    copy_tokenizer(source, output)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except UNLOADABLE as error:
        message = "{path} has no tokenizer that can be read ({reason}): put the model's tokenizer.json beside its weights"
        raise UserError(message, field=found.field, path=found.shown, reason=_first_line(error)) from error
    if not (output / "tokenizer.json").exists():
        tokenizer.save_pretrained(output)
    if not (output / "tokenizer.json").exists():
        message = "{path} has no tokenizer.json and none could be made: save it with AutoTokenizer.from_pretrained(...).save_pretrained"
        raise UserError(message, field=found.field, path=found.shown)
    _keep_special_tokens(tokenizer, output / "tokenizer_config.json")
    if own := _own_template(tokenizer):
        (output / "chat_template.jinja").write_text(own)


def _keep_special_tokens(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Older models name their special tokens in another file; `engine.chat` and transformers both read this one."""
    settings = read_json(path)
    known = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    known.setdefault("eos_token", known.get("sep_token", ""))  # how an encoder's texts end
    path.write_text(json.dumps({**known, **{key: value for key, value in settings.items() if value is not None}}, indent=2))


def _own_template(tokenizer: PreTrainedTokenizerBase) -> str:
    own = tokenizer.chat_template or ""
    return own.get("default", "") if isinstance(own, dict) else own


def _give_template(work: "Work", output: Path, choice: str) -> str:
    """Write chat_template.jinja, the only place it is read from afterwards; returns "own" or the built-in's name."""
    path = output / "chat_template.jinja"
    settings = output / "tokenizer_config.json"
    settings.write_text(json.dumps({key: value for key, value in read_json(settings).items() if key != "chat_template"}, indent=2))
    if choice == "auto" and path.exists():
        return "own"
    name = "plain" if choice == "auto" else choice
    if path.exists():
        work.warn(f"the model's own chat template is replaced by {name}")
    elif choice == "auto":
        work.warn(f"the model has no chat template; it gets {name}")
    path.unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(output, local_files_only=True)
    begins = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    path.write_text(("{{ bos_token }}" if begins else "") + TEMPLATES[name])
    return name


def _prove(work: "Work", model: Any, output: Path, found: Found) -> None:
    """Four tokens must give finite logits."""
    chat = Chat.open(output)
    rows = model.get_input_embeddings().num_embeddings
    if chat.tokenizer.get_vocab_size() > rows:
        work.warn(f"the tokenizer has {chat.tokenizer.get_vocab_size():,} tokens, the model only {rows:,}: do they belong together?")
    ids = [id for id in chat.prompt_ids([{"role": "user", "content": "Hello, who are you?"}]) if id < rows][-4:]
    with torch.inference_mode():
        logits = model.eval()(torch.tensor([ids])).logits
    if not torch.isfinite(logits).all():
        message = "{path} gives logits that are not finite numbers: its weights are damaged; copy or download it again"
        raise UserError(message, field=found.field, path=found.shown)


def _licence(folder: Path) -> str:
    """What the model's card says, where there is one."""
    card = folder / "README.md"
    front = re.match(r"---\n(.*?)\n---", card.read_text(errors="replace"), re.DOTALL) if card.exists() else None
    named = re.search(r"(?m)^license:\s*(\S+)", front.group(1)) if front else None
    return named.group(1) if named else ""


def _does_not_load(found: Found, error: Exception) -> UserError:
    message = "{path} does not load as a language model ({reason}): it is damaged, or of a kind transformers {version} cannot read"
    from transformers import __version__

    return UserError(message, field=found.field, path=found.shown, reason=_first_line(error), version=__version__)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")[:300]
