"""A model as one GGUF file, written with ggml's own `gguf` package.

llama.cpp's converter is not published as a package by those who keep it, and what is published under its name replaces
`gguf`, or takes the name of llama-cpp-python. So names, special tokens, number formats and the file come from `gguf`, and
only what it does not know is said here: what a Llama and a Gemma 3 keep differently in a GGUF file, and the vocabulary.
Whatever else is refused by name, before a run starts.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.stages.data._gguf_vocabulary import Vocabulary
from engine.stages.data._model_files import read_json

if TYPE_CHECKING:
    import gguf
    import numpy as np

ARCHITECTURES = {"LlamaForCausalLM": "LLAMA", "Gemma3ForCausalLM": "GEMMA3"}
FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
BLOCK = 32  # weights that share one scale in q8_0
BITS = {"f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5}


def refuse_unfit_for_gguf(folder: Path, tokenizer_folder: Path) -> None:
    """Raise UserError(field="gguf") for a model this cannot write, or that GGUF could not say exactly."""
    config = read_json(folder / "config.json")
    kind = (config.get("architectures") or [config.get("model_type", "model of no stated type")])[0]
    if kind not in ARCHITECTURES:
        known = " and ".join(ARCHITECTURES)
        message = (
            "{kind} cannot be written as GGUF here, only {known}: choose none, and convert the exported folder with "
            "convert_hf_to_gguf.py of llama.cpp"
        )
        raise UserError(message, field="gguf", kind=kind, known=known)
    if odd := next((f"{name} {config[name]}" for name, fit in FITS[kind].items() if name in config and not fit(config)), ""):
        message = "this {kind} has {odd}, which cannot be said in its GGUF file here: choose none"
        raise UserError(message, field="gguf", kind=kind, odd=odd)
    Vocabulary.read(tokenizer_folder)


def write_gguf(target: Path, folder: Path, weights: Mapping[str, "np.ndarray"], kind: str, name: str, licence: str) -> Iterator[int]:
    """Write `target` from an exported folder's config and tokenizer and its weights in float32; yields the bytes each tensor took."""
    import gguf

    config = read_json(folder / "config.json")
    architecture = config["architectures"][0]
    arch = gguf.MODEL_ARCH[ARCHITECTURES[architecture]]
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    if licence:
        writer.add_license(licence)
    _describe(writer, config)
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[kind]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    Vocabulary.read(folder).write(writer, folder, config["vocab_size"])
    for key, weight in weights.items():
        told = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if told is None:
            raise UserError("{key} has no name in GGUF's {kind}: choose none", field="gguf", key=key, kind=architecture)
        stored = storage_type(weight, kind)
        writer.add_tensor_info(told, weight.shape, weight.dtype, _bytes(weight, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for key, weight in weights.items():
        data = _quantized(_as_ggml_has_it(architecture, config, key, weight), storage_type(weight, kind))
        writer.write_tensor_data(data)
        yield data.nbytes
    writer.close()


def storage_type(weight: "np.ndarray", kind: str) -> "gguf.GGMLQuantizationType":
    """How a tensor is kept: vectors stay float32, and a matrix whose rows do not fill blocks of q8_0 is float16."""
    import gguf

    types = gguf.GGMLQuantizationType
    if weight.ndim < 2:
        return types.F32
    return types.F16 if kind == "q8_0" and weight.shape[-1] % BLOCK else types[kind.upper()]


def rounded(weight: "np.ndarray", kind: str) -> "np.ndarray":
    """What a reader of the file gets back for a tensor."""
    import gguf

    stored = storage_type(weight, kind)
    return gguf.quants.dequantize(_quantized(weight, stored), stored)


def _quantized(weight: "np.ndarray", stored: "gguf.GGMLQuantizationType") -> "np.ndarray":
    import gguf
    import numpy as np

    with np.errstate(over="ignore"):  # infinities are found where the model is asked
        return gguf.quants.quantize(weight, stored)


def _bytes(weight: "np.ndarray", stored: "gguf.GGMLQuantizationType") -> int:
    import gguf

    values, size = gguf.GGML_QUANT_SIZES[stored]
    return int(weight.size // values * size)


def _describe(writer: Any, config: dict[str, Any]) -> None:
    """The shape of the model, under the keys llama.cpp reads."""
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(_rope(config)["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    if config["architectures"][0] == "Gemma3ForCausalLM":
        writer.add_sliding_window(config["sliding_window"])
    else:
        writer.add_rope_dimension_count(width)


def _as_ggml_has_it(architecture: str, config: dict[str, Any], key: str, weight: "np.ndarray") -> "np.ndarray":
    """llama.cpp rotates pairs of neighbours where transformers rotates halves, and adds Gemma's one to the norms beforehand."""
    if architecture == "Gemma3ForCausalLM":
        return weight + 1 if key.endswith("norm.weight") else weight
    heads = {"q_proj.weight": config["num_attention_heads"], "k_proj.weight": config.get("num_key_value_heads")}
    for end, count in heads.items():
        if key.endswith(end):
            count = count or config["num_attention_heads"]
            return weight.reshape(count, 2, -1, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)
    return weight


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    rope = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 10_000.0)}
    return dict(rope.get("full_attention", rope))


def _local_rope(config: dict[str, Any]) -> dict[str, Any]:
    return dict((config.get("rope_parameters") or {}).get("sliding_attention", {}))


def _plain(rope: dict[str, Any]) -> bool:
    return rope.get("rope_type", "default") == "default"


# Settings of a config that a GGUF file cannot carry, and the values at which nothing is lost.
FITS = {
    "LlamaForCausalLM": {
        "hidden_act": lambda c: c["hidden_act"] == "silu",
        "attention_bias": lambda c: not c["attention_bias"],
        "mlp_bias": lambda c: not c["mlp_bias"],
        "rope_scaling": lambda c: not c["rope_scaling"] or _plain(c["rope_scaling"]),
        "rope_parameters": lambda c: _plain(_rope(c)),
    },
    "Gemma3ForCausalLM": {
        "hidden_activation": lambda c: c["hidden_activation"] == "gelu_pytorch_tanh",
        "attention_bias": lambda c: not c["attention_bias"],
        "final_logit_softcapping": lambda c: c["final_logit_softcapping"] is None,
        "attn_logit_softcapping": lambda c: c["attn_logit_softcapping"] is None,
        "query_pre_attn_scalar": lambda c: c["query_pre_attn_scalar"] == c.get("head_dim", 256) == 256,
        "use_bidirectional_attention": lambda c: not c["use_bidirectional_attention"],
        "layer_types": lambda c: all((kind == "full_attention") == (n % 6 == 5) for n, kind in enumerate(c["layer_types"])),
        "rope_parameters": lambda c: _plain(_rope(c)) and _plain(_local_rope(c)) and _local_rope(c).get("rope_theta", 1e4) == 1e4,
    },
}  # fmt: skip
