"""Answers that name the model that gave them: whoever ranks them would know."""

import re
from typing import Any

MASK = "▇▇▇"
FAMILIES = (
    "ChatGPT", "GPT-4o", "GPT-4", "GPT-3.5", "GPT-3", "Claude", "Gemini", "Gemma", "Llama", "SmolLM", "Qwen", "Mistral", "Mixtral",
    "DeepSeek", "Phi-3", "Phi-4", "Vicuna", "OLMo", "Tulu", "Command R", "ChatGLM", "Yi-34B", "InternLM", "Baichuan",
)  # fmt: skip
MAKERS = "OpenAI|Anthropic|Google(?: DeepMind)?|DeepMind|Meta(?: AI)?|Hugging ?Face|Alibaba(?: Cloud)?|Mistral AI|Microsoft|Cohere|xAI"
# Words of models' names that are words of answers too.
COMMON = {
    "instruct", "model", "tuned", "short", "answers", "style", "house", "trained", "learned", "chat", "large", "small", "lessons", "after",
    "before", "preferred", "rankings",
}  # fmt: skip
MADE_BY = re.compile(rf"(?:trained|created|developed|made|built|designed) by (?:the team at )?({MAKERS})\b", re.IGNORECASE)


def self_named(answer: str, model: str, prompt: list[dict[str, Any]]) -> list[str]:
    """The words by which an answer gives its model away: its name, a family's, its maker's; not what the prompt speaks of itself."""
    asked = " ".join(str(turn["content"]) for turn in prompt).lower()
    own = [word for word in (model, *re.split(r"[^A-Za-z]+", model)) if len(word) >= 5 and word.lower() not in COMMON]
    names = [name for name in own if re.search(rf"(?<!\w){re.escape(name)}", answer, re.IGNORECASE)]
    names += [name for name in FAMILIES if re.search(rf"(?<!\w){re.escape(name)}", answer)]  # a llama in a field is none
    names += [found.group(1) for found in MADE_BY.finditer(answer)]
    return [name for name in dict.fromkeys(names) if name.lower() not in asked]


def masked(answer: str, names: list[str]) -> str:
    """The answer with these names blacked out, with whatever of a word or version hangs on them."""
    words = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{words})[\w.-]*\b", MASK, answer, flags=re.IGNORECASE)
