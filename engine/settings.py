"""Groups of settings that several stages share: the same words everywhere, one accordion each."""

from typing import Literal

from pydantic import Field, model_validator

from engine.chat import Thinking
from engine.stage import Group


class TrainingSettings(Group):
    """How long and how fast to train."""

    epochs: float = Field(1.0, gt=0, le=100, title="Epochs", description="Passes over the data. Ignored when steps are given.")
    steps: int | None = Field(None, ge=1, title="Steps", description="Optimizer steps. Empty: as many as the epochs make.")
    batch_size: int = Field(4, ge=1, le=512, title="Batch size", description="Conversations at once. More is faster and needs more memory.")
    processes: int = Field(
        1, ge=1, le=64, title="GPUs", description="GPUs of this machine that share each batch. The batch size stays what it is."
    )
    accumulation: int = Field(
        1, ge=1, le=512, title="Gradient accumulation", description="Batches per optimizer step: a larger batch in the same memory."
    )
    learning_rate: float = Field(2e-4, gt=0, le=1, title="Learning rate", description="Higher learns faster and forgets more.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", title="Schedule", description="How the learning rate falls towards the end."
    )
    warmup: float = Field(0.05, ge=0, le=0.5, title="Warm-up", description="Share of the steps over which the learning rate rises from 0.")
    weight_decay: float = Field(0.0, ge=0, le=1, title="Weight decay", description="Pulls weights towards 0.")
    max_length: int = Field(
        1024, ge=8, le=131072, title="Max length", description="Tokens per conversation; the rest is cut, with its stop token."
    )
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", title="Precision", description="auto: bfloat16 where this machine computes it fast."
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", title="Compile", description="auto: only when the run is long enough to repay the minutes it takes."
    )
    checkpoints: int = Field(
        4, ge=1, le=100, title="Checkpoints", description="Evenly spaced; each evaluates the held-out rows and answers the panel."
    )
    keep_checkpoints: int = Field(
        2, ge=1, le=100, title="Checkpoints kept", description="The best and the last stay, then the newest ones."
    )
    tracker: Literal["none", "tensorboard", "trackio", "wandb"] = Field(
        "none", title="Tracker", description="Send the numbers to another tool too, if it is installed. wandb without a key stays offline."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="The same seed gives the same run on the same machine.")

    @model_validator(mode="after")
    def _each_process_gets_the_same_share(self) -> "TrainingSettings":
        if self.batch_size % self.processes:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be shared equally by processes {self.processes}: set batch_size to a multiple of it"
            )
        return self


class LoraSettings(Group):
    """Train a small adapter instead of all weights."""

    rank: int = Field(16, ge=1, le=512, title="Rank", description="Size of the adapter. Higher can learn more and forget more.")
    alpha: int = Field(32, ge=1, le=1024, title="Alpha", description="Strength of the adapter; usually once or twice the rank.")
    dropout: float = Field(0.0, ge=0, le=0.9, title="Dropout", description="Share of adapter inputs switched off while training.")
    targets: Literal["all-linear", "attention"] = Field("all-linear", title="Layers", description="Which layers get an adapter.")
    quantize: Literal["none", "4bit"] = Field(
        "none", title="Frozen weights", description="4bit: QLoRA, a quarter of the memory; needs CUDA and the extra gpu."
    )


class ArchitectureSettings(Group):
    """The size of a model made from nothing."""

    hidden_size: int = Field(256, ge=16, le=16384, title="Hidden size", description="Width of the model; a multiple of twice the heads.")
    layers: int = Field(4, ge=1, le=256, title="Layers", description="Depth of the model.")
    heads: int = Field(4, ge=1, le=256, title="Heads", description="Attention heads of each layer.")
    vocabulary: int = Field(4096, ge=300, le=262144, title="Vocabulary", description="Tokens to learn from the text, unless borrowed.")


class SamplingSettings(Group):
    """How a model picks its words."""

    max_new_tokens: int = Field(
        256, ge=1, le=32768, title="Max new tokens", description="An answer that reaches this is cut and counts as not stopped."
    )
    temperature: float = Field(
        0.0, ge=0, le=2, title="Temperature", description="0 takes the likeliest token every time; higher varies more."
    )
    top_p: float = Field(1.0, gt=0, le=1, title="Top p", description="Sample from the likeliest tokens that together reach this share.")
    top_k: int | None = Field(None, ge=1, le=1000, title="Top k", description="Sample from this many likeliest tokens. Empty: no limit.")
    repetition_penalty: float = Field(1.0, ge=0.5, le=2, title="Repetition penalty", description="Above 1 discourages words already used.")
    thinking: Thinking = Field(
        "default", title="Reasoning first", description="on, off: where the chat template can switch it. Kept apart, never scored."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="The same seed gives the same answers on the same machine.")

    @model_validator(mode="after")
    def _greedy_has_no_nucleus(self) -> "SamplingSettings":
        if self.temperature == 0 and (self.top_p < 1 or self.top_k):
            raise ValueError("top_p and top_k reach nothing while temperature is 0: set temperature above 0, or leave both")
        return self


class SuiteSettings(Group):
    """What is measured: the probes, and how many items of each."""

    size: Literal["full", "watch"] = Field(
        "full", title="Size", description="full: 200 items a probe, or all that were written. watch: 32, quick, never enough to say kept."
    )
    probes: list[str] = Field([], title="Probes", description="Empty: all of them. `dianjing probes` lists them.")
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Draws the items. Only what was drawn alike is compared.")


class RetentionSettings(Group):
    """What is watched while it trains: which abilities stay."""

    suite: Literal["watch", "off"] = Field("watch", title="Watch", description="32 items a probe, before the first step and on the way.")
    probes: list[str] = Field([], title="Probes", description="Empty: those that are quick. `dianjing probes` lists them.")
    every: int | None = Field(
        None, ge=1, title="Steps between", description="Empty: as often as a tenth of the time allows; always start, middle and end."
    )
    scorer: str = Field(
        "", title="Scorer of the task", description="How held-out answers count as right, such as exact_match. Empty: their loss counts."
    )
    margin: float = Field(0.05, gt=0, le=0.5, title="Margin", description="The share an ability may drop in the checkpoint called best.")
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Draws the items.")
