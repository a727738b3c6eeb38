"""Files of lm-evaluation-harness: `results_<when>.json`, and beside it `samples_<task>_<when>.jsonl` if items were logged."""

from typing import Any

from engine.errors import UserError
from engine.stages.measure._harness import Reader, Scored, is_number, likeliest, number, text

OF_THE_DATA = ("dataset_path", "dataset_name", "dataset_kwargs", "metadata")  # its items say it better, and without paths


class LmEval(Reader):
    """A results file of lm-evaluation-harness."""

    harness = "lm-eval"

    def error(self, key: str) -> str:
        metric, comma, how = key.partition(",")
        return f"{metric}_stderr{comma}{how}"

    def better(self, task: str, key: str) -> bool:
        return self.of("higher_is_better", task, key.partition(",")[0]) is not False

    def settings(self) -> dict[str, Any]:
        return {
            "version": self.held.get("lm_eval_version"),
            "limit": self.of("config", "limit"),
            "few_shot": self.of("n-shot") or {},
            "apply_chat_template": bool(self.held.get("chat_template")),
            "chat_template_sha": self.held.get("chat_template_sha"),
            "system_instruction": self.held.get("system_instruction"),
            "task_versions": self.of("versions") or {},
        }

    def depends(self, task: str, key: str) -> list[Any]:
        told = self.settings()
        config = self.of("configs", task) or {}
        config = {name: value for name, value in config.items() if name not in OF_THE_DATA} if isinstance(config, dict) else {}
        turns = told["apply_chat_template"] and self.held.get("fewshot_as_multiturn")
        asked = [self.of("config", name) or None for name in ("limit", "gen_kwargs", "fewshot_seed")]
        counted = [self.of(name, task) for name in ("versions", "n-shot", "n-samples")]
        chat = [told["apply_chat_template"], turns, told["system_instruction"]]
        return [self.harness, told["version"], task, key, config, asked, counted, chat, sorted(self.keys.get(task, []))]

    def items(self, task: str, key: str) -> list[Scored]:
        path = self.path.parent / f"samples_{task}_{self.when}.jsonl"
        if not path.exists():
            return []
        metric, _, how = key.partition(",")
        chat, keys = self.settings()["apply_chat_template"], []

        def made(row: dict[str, Any]) -> Scored | None:
            if how and row.get("filter", how) != how:
                return None
            # A chat template is the model's own: with one, the prompts of two models that are asked the same differ.
            keys.append([str(row["doc_hash"]), str(row.get("target_hash")), "" if chat else str(row.get("prompt_hash"))])
            if not is_number(row[metric]):  # a metric of the whole, such as BLEU: its items have none
                return None
            prompt, answer = _asked(row, metric)
            choices = 0 if isinstance(row["resps"][0][0], str) else len(row["resps"])
            return Scored(text(row["doc_hash"]), number(row[metric]), text(prompt), answer and text(answer), choices)

        found = list(self.rows(path, made))
        wanted = self.of("n-samples", task, "effective")
        if isinstance(wanted, int) and len(keys) != wanted:
            message = "{name} has {found} items where {results} says {wanted}: it is cut, or of another run. Nothing was imported"
            raise UserError(message, field="path", name=path.name, found=len(keys), wanted=wanted, results=self.path.name)
        self.keys[task] = keys
        return found


def _asked(row: dict[str, Any], metric: str) -> tuple[str, str | None]:
    """What the model was asked, and its answer: what it wrote, or the choice that the metric holds for the likeliest."""
    given = [list(one.values()) for one in row["arguments"].values()]
    prompt, said = str(given[0][0]), [one[0] for one in row["resps"]]
    if all(isinstance(one, str) for one in said):
        return prompt, said[0]
    try:
        likely = [float(one[0]) for one in said]
    except (TypeError, ValueError):
        return prompt, None
    texts = [str(one[1]).strip() for one in given[: len(likely)] if len(one) > 1]
    return prompt, likeliest(texts, likely, "norm" in metric)
