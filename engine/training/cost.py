"""What training or answering will take, said before Start. No torch: the form asks while a person types.

The figures are of two CPU cores with AMX and SmolLM2-135M, scaled by the model's size: rough, and said to be.
"""

import json
from dataclasses import dataclass
from pathlib import Path

PILOT_PARAMETERS = 135e6
TRAINED, WRITTEN = 350, 200  # tokens a second: LoRA training at batch 4, answering in batches
LIBRARIES = 0.7e9  # bytes that torch and its friends take before there is a model
PANEL_TOKENS = 128  # an answer of the prompt panel may have
LARGE = 1_000_000_000  # parameters from which activations are computed again rather than kept
# Bytes that a weight takes: in bfloat16, in float32, in float32 with its gradient and two moments, in 4 bits.
ROUNDED, WHOLE, TRAINED_WHOLE, QUARTER = 2, 4, 16, 0.6


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that its memory depends on."""

    hidden: int
    layers: int
    vocabulary: int

    @classmethod
    def read(cls, folder: Path) -> "Shape":
        """From a model folder's config.json; zeros where it does not say."""
        path = folder / "config.json"
        config = json.loads(path.read_text()) if path.exists() else {}
        config = config | config.get("text_config", {})
        return cls(config.get("hidden_size", 0), config.get("num_hidden_layers", 0), config.get("vocab_size", 0))


def training_speed(parameters: float) -> float:
    """Tokens a second to expect of training before anything was measured here."""
    return TRAINED * PILOT_PARAMETERS / max(parameters, 1)


def answering_speed(parameters: float) -> float:
    """Tokens a second to expect of batched answering before anything was measured here."""
    return WRITTEN * PILOT_PARAMETERS / max(parameters, 1)


def training_memory(shape: Shape, parameters: float, weight: float, batch_tokens: int) -> int:
    """Bytes: the weights at `weight` bytes each, one batch's activations (of a large model one layer's, and what lies
    between the layers) and its logits. What is around 4-bit layers stays in float32."""
    layers, between = (1, 4 * shape.layers) if parameters >= LARGE else (shape.layers, 0)
    activations = (90 * layers + between) * shape.hidden * batch_tokens
    logits = 16 * shape.vocabulary * batch_tokens
    around = 2 * WHOLE * shape.vocabulary * shape.hidden if weight == QUARTER else 0
    return int(LIBRARIES + parameters * weight + around + activations + logits)


def training_disk(shape: Shape, parameters: float, full: bool, rank: int, checkpoints: int) -> int:
    """Bytes of the result and of the checkpoints kept, each with two moments per trained weight; one more while saving."""
    trained = parameters if full else 30 * shape.hidden * shape.layers * rank
    return int(4 * trained * (1 + 3 * (checkpoints + 1)))
