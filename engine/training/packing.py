"""Plain text in blocks: documents one after the other, none of which sees another.

A block is a row whose only positions without loss are the beginnings of documents. The collator numbers the positions of
each document from 0 and gives no attention mask: from that transformers builds a mask in which documents do not see
each other, with any kind of attention.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from engine.chat import NO_LOSS, Chat, Encoded


def pack(chat: Chat, texts: Iterable[str], length: int) -> list[Encoded]:
    """Blocks of `length` tokens, the last one shorter; a document that does not fit goes on in the next as one of its own."""
    blocks: list[Encoded] = []
    ids, labels, told = list[int](), list[int](), list[str]()
    for text in texts:
        document = chat.encode_text(text)
        start = 0
        while start < len(document.ids):
            room = length - len(ids)
            part = slice(start, start + room)
            ids += document.ids[part]
            labels += [NO_LOSS, *document.ids[part][1:]]
            told += document.texts[part]
            start += room
            if len(ids) == length:
                blocks.append(Encoded(ids, labels, False, told))
                ids, labels, told = [], [], []
    if any(label != NO_LOSS for label in labels):
        blocks.append(Encoded(ids, labels, False, told))
    return blocks


class Packed:
    """Makes a batch of blocks: padding is documents of one token, which carry no loss and see nothing."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors (rows, longest block): input_ids, labels, position_ids."""
        width = max(len(row["input_ids"]) for row in rows)
        ids = [[*row["input_ids"], *[self.pad_id] * (width - len(row["input_ids"]))] for row in rows]
        labels = [[*row["labels"], *[NO_LOSS] * (width - len(row["labels"]))] for row in rows]
        made = {"input_ids": ids, "labels": labels, "position_ids": [positions(some) for some in labels]}
        return {name: torch.tensor(values) for name, values in made.items()}


def positions(labels: Sequence[int]) -> list[int]:
    """Each token's place in its document, which begins where a token carries no loss."""
    told: list[int] = []
    for label in labels:
        told.append(0 if label == NO_LOSS else told[-1] + 1)
    return told
