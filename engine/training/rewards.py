"""Reward models in memory: made from a language model, loaded back, and asked for scores.

One is a language model's decoder with a head that makes one number of its last state. Training and scoring read a
conversation alike, as `engine.training.preferences.encode_answer` writes it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import linear
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from trl.trainer.reward_trainer import suppress_seqcls_warning

from engine.chat import Chat
from engine.stage import Input
from engine.training.answers import context
from engine.training.batches import by_length
from engine.training.models import load_model, round_weights
from engine.training.preferences import Messages, whole


def with_reward_head(language: PreTrainedModel) -> PreTrainedModel:
    """A reward model on a language model's own decoder, shared and not copied, with a new head. The language model stays
    usable: its head on the decoder as it is trained. Raises ValueError for an architecture that has no such form."""
    config = type(language.config).from_dict(language.config.to_dict())
    config.num_labels = 1
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    setattr(model, model.base_model_prefix, language.base_model)
    width = model.score.in_features
    model.score = Head(width, 1, bias=False, device=language.device)
    torch.nn.init.normal_(model.score.weight, std=1 / (width + 1))  # rewards begin near 0 (Stiennon et al. 2020, 2009.01325)
    return model


class Head(torch.nn.Linear):
    """Makes the reward in float32, also of states in bfloat16: in that format, rewards near each other would tie."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Rewards (batch, positions, 1) of states (batch, positions, width)."""
        with torch.autocast(states.device.type, enabled=False):
            return linear(states.float(), self.weight.float())


def keep_head(language: PreTrainedModel) -> None:
    """Give a language model an output head of its own where it shares the decoder's embeddings, which will be trained."""
    head = language.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)


def load_reward_model(source: Input, artifact: Callable[[int], Input], dtype: torch.dtype, device: str) -> PreTrainedModel:
    """The reward model of an artifact, whole, in eval mode. `artifact` finds the base of an adapter by its id."""
    chat = Chat.open(source.folder)
    if "base" in source.summary:
        judge = with_reward_head(load_model(artifact(source.summary["base"]), artifact, torch.float32, device))
        model = PeftModel.from_pretrained(judge, str(source.folder)).merge_and_unload()
        model.config.get_text_config().pad_token_id = chat.pad_id  # as TRL trained it
    else:
        model = load_reward_folder(source.folder)
        _tell_padding(model, chat)
    round_weights(model, dtype)
    if isinstance(found := getattr(model, "score", None), torch.nn.Linear) and found.bias is None:
        model.score = Head(found.in_features, 1, bias=False)
        model.score.weight = found.weight
    return model.to(device).eval()


def load_reward_folder(folder: Path) -> PreTrainedModel:
    """Any folder of a sequence classification model with one label, in float32."""
    with suppress_seqcls_warning():
        return AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )


def _tell_padding(model: PreTrainedModel, chat: Chat) -> None:
    """Such a model looks at the last token that is no padding: where its config names none, at the last token of all. So
    padding becomes a token that ends no conversation."""
    config = model.config.get_text_config()
    if config.pad_token_id is None:
        config.pad_token_id = chat.pad_id if chat.pad_id not in chat.stop_ids else min(set(range(99)) - chat.stop_ids)


def score(model: PreTrainedModel, chat: Chat, rows: Sequence[tuple[Messages, str]], batch_size: int) -> list[float]:
    """The reward of each (prompt, answer); not a number where the two do not fit the model's context."""
    read = [whole(chat, prompt, [{"role": "assistant", "content": answer}], context(model), "everything") for prompt, answer in rows]
    return score_ids(model, model.config.get_text_config().pad_token_id, [[] if one.cut else one.ids for one in read], batch_size)


@torch.no_grad()
def score_ids(model: Any, pad_id: int, rows: Sequence[list[int]], batch_size: int) -> list[float]:
    """The reward of each tokenised conversation, in float32; not a number for an empty one."""
    rewards = [float("nan")] * len(rows)
    for batch in by_length([len(ids) for ids in rows], batch_size, [n for n, ids in enumerate(rows) if ids]):
        found = model(**padded([rows[n] for n in batch], pad_id, model.device)).logits[:, 0].float().tolist()
        for n, reward in zip(batch, found, strict=True):
            rewards[n] = reward
    return rewards


def padded(rows: Sequence[list[int]], pad_id: int, device: Any = None) -> dict[str, torch.Tensor]:
    """Rows of token ids as one batch, filled up on the right."""
    width = max(map(len, rows))
    ids = torch.tensor([ids + [pad_id] * (width - len(ids)) for ids in rows], device=device)
    return {"input_ids": ids, "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in rows], device=device)}
