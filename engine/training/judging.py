"""How likely a model's answer begins with each of a few words: what a judge says without writing anything."""

from collections.abc import Iterator, Sequence
from math import exp
from typing import Any

from engine.chat import Chat
from engine.errors import UserError
from engine.judging import log_sum
from engine.training.answers import context
from engine.training.batches import by_length
from engine.training.measuring import log_probabilities
from engine.training.rewards import Head

NOTICED = 0.01  # probability of a blank before the word from which on it is followed


def precise(model: Any) -> Any:
    """The same model with a head that makes logits in float32: in bfloat16 log-odds come in steps of an eighth, and tie."""
    found = model.get_output_embeddings()
    if found.bias is None:
        head = Head(found.in_features, found.out_features, bias=False, device="meta")
        head.weight = found.weight
        model.set_output_embeddings(head)
    return model


def beginnings(
    model: Any, chat: Chat, prompts: Sequence[list[int]], words: Sequence[str], batch_size: int
) -> Iterator[tuple[list[int], list[list[float]]]]:
    """(places, log-probability of each word at the beginning of the answer, nats), batch by batch.

    A word counts with and without a blank before it, whether the tokenizer makes one token of both or two. Prompts that
    do not fit the model's context are left out. Raises UserError if the tokenizer has no such tokens.
    """
    alone, blanks = _forms(chat, words)
    firsts = [[token] for tokens in alone for token in tokens] + [[blank] for blank in blanks]
    owners = [place for place, tokens in enumerate(alone) for _ in tokens]
    room = context(model) - 1
    fitting = [n for n, ids in enumerate(prompts) if len(ids) <= room]
    for batch in by_length([len(ids) for ids in prompts], batch_size, fitting):
        told = log_probabilities(model, chat.pad_id, [prompts[n] for n in batch], [firsts] * len(batch))
        found = [[log_sum([one for one, owner in zip(row, owners, strict=False) if owner == n]) for n in range(len(words))] for row in told]
        for place, (blank, follow) in enumerate(blanks.items()):
            before = [row[len(owners) + place] for row in told]
            rows = [n for n, one in enumerate(before) if exp(one) >= NOTICED]
            if rows:
                longer = [prompts[batch[n]] + [blank] for n in rows]
                then = log_probabilities(model, chat.pad_id, longer, [[[token] for token in follow]] * len(rows))
                for n, logs in zip(rows, then, strict=True):
                    found[n] = [log_sum([one, before[n] + more]) for one, more in zip(found[n], logs, strict=True)]
        yield batch, found


def _forms(chat: Chat, words: Sequence[str]) -> tuple[list[list[int]], dict[int, list[int]]]:
    """The single tokens of each word; and for a token that is only the blank before all of them, the tokens that follow it."""
    forms = []
    for word in words:
        found = {tuple(chat.tokenizer.encode(text, add_special_tokens=False).ids) for text in (word, f" {word}")}
        found |= {(bare,) for bare in [chat.tokenizer.token_to_id(word)] if bare is not None}
        # Not what stands for all that is unknown; a tokenizer may write all in small letters.
        forms.append({form for form in found if chat.decode(form).strip().casefold() == word.casefold()})
    alone = [sorted(form[0] for form in some if len(form) == 1) for some in forms]
    follow: dict[int, list[int]] = {}
    for some in forms:
        for form in some:
            if len(form) == 2:
                follow.setdefault(form[0], []).append(form[1])
    blanks = {blank: tokens for blank, tokens in follow.items() if len(tokens) == len(words)}
    told = [token for tokens in alone for token in tokens]
    if len(set(told)) < len(told) or not (all(alone) or blanks):
        message = "the tokenizer of this model has no tokens for {words}: take another model as judge"
        raise UserError(message, field="model", words=", ".join(words))
    return alone, blanks

