"""A model from nothing: random weights of a given size, with a tokenizer that is borrowed or learned from the text."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine.chat import TEMPLATES
from engine.errors import UserError
from engine.settings import ArchitectureSettings
from engine.training.models import copy_tokenizer

END = "<|endoftext|>"


def learn_tokenizer(texts: Iterable[str], vocabulary: int, folder: Path) -> None:
    """A byte-level BPE tokenizer of at most `vocabulary` tokens, which can spell anything; asked in the plain chat template."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[END], initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, pad_token=END)
    tokenizer.chat_template = TEMPLATES["plain"]
    tokenizer.save_pretrained(folder)


def create(
    folder: Path, wanted: ArchitectureSettings, context: int, texts: Iterable[str], tokenizer: Path | None, seed: int
) -> dict[str, object]:
    """Write a Llama of the wanted size with random weights into a folder; what its row shall say of it.

    Raises UserError if the heads do not divide the hidden size.
    """
    if wanted.hidden_size % (2 * wanted.heads):
        message = "hidden size {hidden} cannot be shared by {heads} heads of even size: make it a multiple of {step}"
        raise UserError(message, "architecture.hidden_size", hidden=wanted.hidden_size, heads=wanted.heads, step=2 * wanted.heads)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if tokenizer:
        copy_tokenizer(tokenizer, folder)
    else:
        learn_tokenizer(texts, wanted.vocabulary, folder)
    reader = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    config = LlamaConfig(
        vocab_size=len(reader), hidden_size=wanted.hidden_size, intermediate_size=-(-wanted.hidden_size * 8 // 3 // 16) * 16,
        num_hidden_layers=wanted.layers, num_attention_heads=wanted.heads, num_key_value_heads=wanted.heads,
        max_position_embeddings=context, tie_word_embeddings=True, bos_token_id=reader.bos_token_id, eos_token_id=reader.eos_token_id,
        pad_token_id=reader.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=reader.eos_token_id, pad_token_id=reader.pad_token_id)
    model.save_pretrained(folder)
    return {
        "format": "full", "architecture": "LlamaForCausalLM", "context_length": context, "parameters": model.num_parameters(),
        "template": "borrowed" if tokenizer else "plain", "dtype": "float32",
    }  # fmt: skip
