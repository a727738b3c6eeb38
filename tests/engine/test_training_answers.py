"""Batched answers: the same as one by one, and no trace left in a training run."""

import random
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

from engine.chat import Chat
from engine.settings import SamplingSettings
from engine.stage import Input, Kind
from engine.training.answers import as_finished, batched, generate, undisturbed
from engine.training.models import load_model
from tests.tiny_model import untrained_model

PROMPTS = [[{"role": "user", "content": "say " * (1 + n * 5 % 7) + str(n)}] for n in range(9)]
SHORT = SamplingSettings(max_new_tokens=12)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Chat]:
    folder: Path = tmp_path_factory.mktemp("tiny")
    untrained_model(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), Chat.open(folder)


@pytest.mark.parametrize("sampling", [SHORT, SamplingSettings(max_new_tokens=12, repetition_penalty=1.5)])
def test_greedy_answers_do_not_depend_on_their_batch(tiny: tuple[Any, Chat], sampling: SamplingSettings) -> None:
    model, chat = tiny
    ids = [chat.prompt_ids(prompt) for prompt in PROMPTS]
    alone = [generate(model, chat, [one], sampling, seed=0) for one in ids]
    together = {row: reply for rows, replies in batched(model, chat, ids, sampling, 4) for row, reply in zip(rows, replies, strict=True)}
    assert [[together[row]] for row in range(len(ids))] == alone


def test_a_reply_ends_at_its_stop_token(tiny: tuple[Any, Chat]) -> None:
    model, chat = tiny
    ids = chat.prompt_ids(PROMPTS[0])
    whole = generate(model, chat, [ids], SHORT, seed=0)
    assert whole is not None
    assert whole[0].finish_reason == "length"
    assert len(whole[0].ids) == 12
    chat = Chat.open(Path(model.config._name_or_path))
    object.__setattr__(chat, "stop_ids", frozenset({whole[0].ids[0]}))
    cut = generate(model, chat, [ids, chat.prompt_ids(PROMPTS[3])], SHORT, seed=0)
    assert cut is not None
    assert cut[0].ids == whole[0].ids[:1]
    assert cut[0].finish_reason == "stop"


def test_a_longer_prompt_leaves_less_room(tiny: tuple[Any, Chat]) -> None:
    model, chat = tiny
    context = model.config.max_position_embeddings
    ids = (chat.prompt_ids(PROMPTS[0]) * context)[: context - 3]
    replies = generate(model, chat, [ids], SHORT, seed=0)
    assert replies is not None
    assert len(replies[0].ids) <= 3


def test_sampled_answers_follow_from_the_seed(tiny: tuple[Any, Chat]) -> None:
    model, chat = tiny
    ids = [chat.prompt_ids(prompt) for prompt in PROMPTS]

    def draw(seed: int, **settings: Any) -> list[Any]:
        sampling = SamplingSettings(max_new_tokens=12, temperature=1.0, seed=seed, **settings)
        return list(batched(model, chat, ids, sampling, 4))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw(1) != draw(1, top_k=2) != draw(1, top_p=0.1)
    sampling = SamplingSettings(max_new_tokens=12, temperature=1.0, seed=1)
    assert list(batched(model, chat, ids, sampling, 4, done=lambda rows: len(rows) == 4)) == draw(1)[2:]


def test_an_interrupted_batch_is_not_stored(tiny: tuple[Any, Chat]) -> None:
    model, chat = tiny
    assert generate(model, chat, [chat.prompt_ids(PROMPTS[0])], SHORT, seed=0, interrupted=lambda: True) is None


def test_undisturbed_keeps_every_random_state_and_the_mode(tiny: tuple[Any, Chat]) -> None:
    model, chat = tiny
    model.train()
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist()
    with undisturbed(model):
        assert not model.training
        generate(model, chat, [chat.prompt_ids(PROMPTS[0])], SamplingSettings(max_new_tokens=4, temperature=1.0), seed=5)
        random.random(), numpy.random.rand()
    assert model.training
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert numpy.random.get_state()[1].tolist() == before[2]
    model.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_look_merges_the_adapter_and_gives_the_weights_back(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = untrained_model(tmp_path)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), LoraConfig(r=4, target_modules="all-linear"))
    torch.manual_seed(0)
    for name, part in model.named_parameters():
        if "lora_B" in name:
            part.data += 0.1 * torch.randn_like(part)
    ids = torch.tensor([[5, 6, 7, 8]])
    before = {name: part.clone() for name, part in model.named_parameters()}
    learns = {name: part.requires_grad for name, part in model.named_parameters()}
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        with as_finished(model, dtype):
            found = model(input_ids=ids).logits
            adapted = [part for part in model.modules() if isinstance(part, LoraLayer)]
            assert all(part.disable_adapters for part in adapted)
        assert torch.allclose(found.float(), expected, atol=1e-4 if dtype == torch.float32 else 0.1)
        assert torch.equal(model(input_ids=ids).logits, expected), "as if nobody had looked"
    assert all(torch.equal(part, before[name]) for name, part in model.named_parameters())
    assert {name: part.requires_grad for name, part in model.named_parameters()} == learns


def test_the_head_never_meets_a_slice(tmp_path: Path) -> None:
    model = load_model(Input(1, Kind.MODEL, "m", untrained_model(tmp_path), {"format": "full"}), lambda _: None, torch.bfloat16, "cpu")  # type: ignore[arg-type]
    met = []
    model.get_output_embeddings().register_forward_pre_hook(lambda _, given: met.append(given[0].is_contiguous()))
    ids = torch.tensor([[5, 6, 7], [8, 9, 5]])
    with torch.no_grad():
        last = model(input_ids=ids, logits_to_keep=1).logits[:, 0]
        assert torch.equal(last, model(input_ids=ids).logits[:, -1])
    assert met == [True, True]
