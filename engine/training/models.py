"""Models in memory: how they are loaded, in which precision, and what is written beside them.

A model artifact is either whole or an adapter on another artifact, which may be an adapter itself. The loader merges
such a chain in float32, so that nobody downstream ever meets an adapter, and only then casts.
"""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from engine.devices import in_words
from engine.errors import UserError
from engine.settings import LoraSettings
from engine.stage import Input

disable_progress_bar()  # stdout is a log file

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "tokenizer.model", "generation_config.json",
)  # fmt: skip


def compute_dtype(precision: Literal["auto", "bfloat16", "float32"], device: str) -> torch.dtype:
    """The number format to compute in; "auto" is bfloat16 where this device is fast at it, else float32."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    return torch.bfloat16 if _fast_bfloat16(device) else torch.float32


def precision_in_words(dtype: torch.dtype, device: str) -> str:
    """ "bfloat16: this CPU computes it fast (AMX)"."""
    return in_words(str(dtype).removeprefix("torch."), device, _fast_bfloat16(device))


def load_model(source: Input, artifact: Callable[[int], Input], dtype: torch.dtype, device: str) -> PreTrainedModel:
    """The model of an artifact, whole, in eval mode. `artifact` finds the base of an adapter by its id."""
    adapters = []
    while source.summary.get("format") == "adapter":
        adapters.append(source)
        source = artifact(source.summary["base"])
    model = AutoModelForCausalLM.from_pretrained(
        source.folder,
        dtype=torch.float32 if adapters else dtype,
        attn_implementation=_attention(dtype, device),
        local_files_only=True,
        use_safetensors=True,
    )
    for adapter in reversed(adapters):
        model = PeftModel.from_pretrained(model, str(adapter.folder)).merge_and_unload()
    round_weights(model, dtype)
    model.get_output_embeddings().register_forward_pre_hook(_in_one_piece)
    return model.to(device).requires_grad_(True).eval()  # merging left it frozen


def _in_one_piece(_head: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Every prompt's last state is a slice, and on a CPU a bfloat16 product with a slice takes hundreds of times longer."""
    return tuple(states.contiguous() for states in given)


def load_quantized(source: Input, dtype: torch.dtype, device: str) -> PreTrainedModel:
    """A whole model with its frozen weights in 4 bits, for QLoRA (Dettmers et al. 2023, 2305.14314). CUDA only."""
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(
        source.folder,
        quantization_config=config,
        dtype=dtype,
        attn_implementation=_attention(dtype, device),
        device_map={"": device},
        local_files_only=True,
        use_safetensors=True,
    )
    return prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})


def round_weights(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Cast what was learned and nothing else: rotary frequencies in bfloat16 lose their place in long texts."""
    for part in model.parameters():
        part.data = part.data.to(dtype)


def lora_config(lora: LoraSettings, model: PreTrainedModel) -> LoraConfig:
    """The adapter these settings ask for on this model; of a reward model its head is trained with it. Raises UserError when
    it has no such layers."""
    targets: str | list[str] = "all-linear"
    if lora.targets == "attention":
        targets = sorted({name.rsplit(".", 1)[-1] for name, part in model.named_modules() if _in_attention(name, part)})
        if not targets:
            message = "{model} has no attention layers known by that name: choose all-linear"
            raise UserError(message, field="lora.targets", model=type(model).__name__)
    task = "SEQ_CLS" if type(model).__name__.endswith("ForSequenceClassification") else "CAUSAL_LM"
    return LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type=task)


def decoder_of(model: Any) -> torch.nn.Module:
    """The part that makes hidden states, under an adapter or not."""
    whole = model.get_base_model() if isinstance(model, PeftModel) else model
    return whole.base_model


def decoder_and_head(model: Any) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The part that makes hidden states and the part that makes logits of them, under an adapter or not."""
    whole = model.get_base_model() if isinstance(model, PeftModel) else model
    return decoder_of(model), whole.get_output_embeddings()


def copy_tokenizer(source: Path, target: Path) -> None:
    """Put a model's tokenizer, chat template and stop tokens, as they are, beside its new weights."""
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def _fast_bfloat16(device: str) -> str:
    """What makes it fast there; "" if nothing does. Apple's GPUs have it too, but nobody has measured it here."""
    if device.startswith("cuda"):
        major, minor = torch.cuda.get_device_capability(device)
        return f"compute capability {major}.{minor}" if torch.cuda.is_bf16_supported(including_emulation=False) else ""
    able = torch.cpu.get_capabilities() if device == "cpu" else {}
    return "AMX" if able.get("amx_tile") else "AVX512-BF16" if able.get("avx512_bf16") else ""


def _attention(dtype: torch.dtype, device: str) -> str:
    flash = device.startswith("cuda") and dtype == torch.bfloat16 and importlib.util.find_spec("flash_attn")
    return "flash_attention_2" if flash else "sdpa"


def _in_attention(name: str, part: torch.nn.Module) -> bool:
    matrix = isinstance(part, torch.nn.Linear) or type(part).__name__ == "Conv1D"
    return matrix and any("attn" in word or "attention" in word for word in name.lower().split("."))
