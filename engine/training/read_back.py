"""What plain transformers makes of an exported model: `python -I read_back.py QUESTIONS.json ANSWERS.safetensors`.

It runs in a process of its own and knows nothing of this project, so that what it reads anybody can read.
"""

import json
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(questions: str, answers: str) -> None:
    """For each exported model: the tokens of a conversation and of some texts, and the logits of the first tokens."""
    with open(questions, encoding="utf-8") as file:  # noqa: PTH123  (nothing here is more than it needs)
        asked = json.load(file)
    told = {}
    for n, one in enumerate(asked["models"]):
        where = {"gguf_file": one["gguf_file"]} if one["gguf_file"] else {}
        tokenizer = AutoTokenizer.from_pretrained(one["folder"], **where)
        chat = tokenizer.apply_chat_template(asked["messages"], add_generation_prompt=True)["input_ids"]
        texts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in asked["texts"]]
        told |= {f"{n} tokens {place}": torch.tensor(ids) for place, ids in enumerate([chat, *texts])}
        model = AutoModelForCausalLM.from_pretrained(one["folder"], dtype=torch.float32, **where).eval()
        with torch.inference_mode():
            told[f"{n} logits"] = model(torch.tensor([asked["ids"]])).logits[0].contiguous()
        del model
    save_file(told, answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
