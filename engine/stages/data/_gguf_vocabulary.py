"""A tokenizer as a GGUF file holds it: either bytes merged in a listed order, or sentencepiece's tokens with scores."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UserError

# How a byte-level vocabulary cuts text before it merges, and llama.cpp's name for it.
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer.json says, in llama.cpp's words: "gpt2" merges bytes as listed, "llama" by each token's score."""

    model: dict[str, Any]
    added: list[dict[str, Any]]
    pre: str  # "" for a sentencepiece vocabulary
    space_first: bool

    @classmethod
    def read(cls, folder: Path) -> "Vocabulary":
        """Raises UserError(field="gguf") for a tokenizer of another kind."""
        try:
            told = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            message = "{folder} has no readable tokenizer.json ({reason}), which a GGUF file needs: choose none"
            raise UserError(message, field="gguf", folder=folder.name, reason=error) from error
        model, added = told["model"], told.get("added_tokens") or []
        if model.get("type") == "BPE" and model.get("byte_fallback"):
            first = "prepend" in json.dumps([told.get("normalizer"), told.get("pre_tokenizer")]).lower()
            never = '"prepend_scheme": "never"' in json.dumps(told.get("pre_tokenizer"))
            return cls(model, added, "", first and not never)
        pre = _pre_tokenizer(told.get("pre_tokenizer"))
        if model.get("type") != "BPE" or not pre or told.get("normalizer"):
            message = (
                "its tokenizer ({kind}, cutting text by {cut}) has no name in GGUF that is known here: choose none, and convert the "
                "exported folder with convert_hf_to_gguf.py of llama.cpp"
            )
            cut = (told.get("pre_tokenizer") or {}).get("type", "nothing")
            raise UserError(message, field="gguf", kind=model.get("type"), cut=cut)
        return cls(model, added, pre, False)

    def write(self, writer: Any, folder: Path, rows: int) -> None:
        """Tokens, how they merge, which are special, and the chat template; `rows` is how many the embedding has."""
        import gguf

        kinds = gguf.TokenType
        ids = {id: text for text, id in self.model["vocab"].items()} | {token["id"]: token["content"] for token in self.added}
        special = {token["id"]: kinds.CONTROL if token["special"] else kinds.USER_DEFINED for token in self.added}
        tokens, types = [], []
        for id in range(rows):
            text = ids.get(id, f"[PAD{id}]")
            kind = special.get(id, kinds.NORMAL if id in ids else kinds.UNUSED)
            if not self.pre and len(text) == 6 and text.startswith("<0x"):
                kind = kinds.BYTE
            tokens.append(text.replace("▁", " ") if kind == kinds.USER_DEFINED and not self.pre else text)
            types.append(kind)
        writer.add_tokenizer_model("gpt2" if self.pre else "llama")
        writer.add_tokenizer_pre(self.pre or "default")
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        if not self.pre:
            writer.add_token_scores(self._scores(tokens))
            writer.add_add_space_prefix(self.space_first)
        known = gguf.SpecialVocab(folder, load_merges=bool(self.pre), n_vocab=len(tokens))
        known.add_special_token.setdefault("bos", False)
        known.add_to_gguf(writer, quiet=True)

    def _scores(self, tokens: list[str]) -> list[float]:
        """The earlier a token's merge, the higher its score; what no merge makes comes last."""
        merges = [merge if isinstance(merge, str) else "".join(merge) for merge in self.model["merges"]]
        first = {text.replace(" ", ""): -float(place) for place, text in reversed(list(enumerate(merges)))}
        return [first.get(token, -float(len(merges))) for token in tokens]


def _pre_tokenizer(told: dict[str, Any] | None) -> str:
    """llama.cpp's name for this way of cutting text; "" if it has none that is known here."""
    steps = (told or {}).get("pretokenizers", [told])
    if steps == [BYTES]:
        return "gpt-2"
    if steps == [{"type": "Digits", "individual_digits": True}, BYTES]:
        return "smollm"
    splits = [(step or {}).get("pattern", {}).get("Regex") for step in steps]
    return "llama-bpe" if splits == [LLAMA_3, None] else ""
