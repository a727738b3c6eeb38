"""Words that give away which model is speaking: whoever ranks answers blind must not read them.

What is a word of other things too is not masked: a llama in a field stays one, and what a prompt speaks of itself may be
answered. A claim to be a model is masked whatever the prompt says.
"""

import re
from collections.abc import Iterable
from typing import Any

MASK = "▇▇▇"
NAMES = (
    "ChatGPT", "GPT-4o", "GPT-4", "GPT-3.5", "GPT-3", "SmolLM", "Qwen", "Mixtral", "DeepSeek", "Vicuna", "OLMo", "ChatGLM", "InternLM",
    "Baichuan", "Zephyr-7B", "Gemma", "Phi-3", "Phi-4", "Yi-34B",
)  # fmt: skip
WORDS_TOO = ("Claude", "Gemini", "Llama", "Mistral", "Alpaca", "Falcon", "Zephyr", "Tulu", "Bard", "Copilot")
MAKERS = ("OpenAI", "Anthropic", "Google DeepMind", "DeepMind", "Google", "Meta AI", "Meta", "Hugging Face", "HuggingFace", "Alibaba Cloud",
          "Alibaba", "Mistral AI", "Microsoft", "Cohere", "xAI")  # fmt: skip
# What of a model's name is no word of a language: SmolLM2, olmo2, and zephyrus of zephyrus-7b.
OWN = re.compile(r"[A-Za-z]*[a-z][A-Z]\w*|[A-Za-z]+\d\w*|^[A-Za-z]{4,}(?=[-_ ]v?\d)")
I_AM = r"\b(?:I am|I'm|I’m|my name is|call me|I was|this is)\b[^.!?\n]{0,60}?"


def names_in(answer: str, models: Iterable[str], prompt: list[dict[str, Any]]) -> list[str]:
    """The words of an answer that give away one of these models, a family or a maker, in the order of their kinds.

    The same models are looked for in every answer of an item: a mask in one of them alone would tell them apart.
    """
    asked = " ".join(str(turn["content"]) for turn in prompt)
    own = [word for model in models for word in OWN.findall(model) if len(word) > 3]
    found = [name for name in (*own, *NAMES) if _stands(name, answer, re.IGNORECASE) and not _stands(name, asked, re.IGNORECASE)]
    found += [name for name in WORDS_TOO if _stands(name, answer) and not _stands(name, asked, re.IGNORECASE)]
    claimed = (*own, *NAMES, *WORDS_TOO, *MAKERS)
    found += [name for name in claimed if re.search(I_AM + _word(name), answer, re.IGNORECASE)]
    made = r"(?:trained|created|developed|made|built|designed)\s+(?:by|at)\s+(?:the team at\s+)?"
    found += [name for name in MAKERS if re.search(made + _word(name), answer, re.IGNORECASE)]
    return list(dict.fromkeys(found))


def masked(answer: str, names: Iterable[str]) -> str:
    """The answer with these names blacked out, with whatever of a word or version hangs on them."""
    words = "|".join(_word(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(rf"(?:{words})[\w.-]*\b", MASK, answer, flags=re.IGNORECASE) if words else answer


def _stands(name: str, text: str, flags: int = 0) -> bool:
    return re.search(_word(name), text, flags) is not None


def _word(name: str) -> str:
    """The name where it stands for itself: SmolLM in SmolLM2, not Meta in metal."""
    return rf"(?<!\w){re.escape(name)}(?![A-Za-z])"
