"""Files of lighteval: `results_<when>.json`, and `details_<task>_<when>.parquet` in a folder beside it if details were saved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.stages.measure._harness import DEEP, Reader, Scored, hashed, is_number, likeliest, number, text


class Lighteval(Reader):
    """A results file of lighteval."""

    harness = "lighteval"

    def error(self, key: str) -> str:
        return f"{key}_stderr"

    def better(self, task: str, key: str) -> bool:
        told = self._config(task).get("metrics") or []
        return not any(one.get("metric_name") == key and one.get("higher_is_better") is False for one in told if isinstance(one, dict))

    def settings(self) -> dict[str, Any]:
        general, tasks = self.of("config_general"), [task for task in self.held["results"] if task != "all"]
        template = self.of("config_general", "model_config", "override_chat_template")
        return {
            "version": general.get("lighteval_sha"),
            "limit": general.get("max_samples"),
            "few_shot": {task: self._few_shot(task) for task in tasks},
            "apply_chat_template": "where the model has one" if template is None else bool(template),
            "system_instruction": self.of("config_general", "model_config", "system_prompt"),
            "task_versions": {task: self._config(task).get("version", self.of("versions", task)) for task in tasks},
        }

    def depends(self, task: str, key: str) -> list[Any]:
        told, config = self.settings(), self._config(task)
        config = {name: value for name, value in config.items() if not name.startswith("hf_")}
        asked = self.of("config_general", "model_config", "generation_parameters")
        told = {name: told[name] for name in ("version", "limit", "apply_chat_template", "system_instruction")}
        return [self.harness, task, key, config, told, asked, self._few_shot(task), sorted(self.keys.get(task, []))]

    def items(self, task: str, key: str) -> list[Scored]:
        path = self._details(task)
        if path is None:
            return []

        def made(row: dict[str, Any]) -> Scored | None:
            doc, scores, reply = (row[name] if name in row else row[f"__{name}__"] for name in ("doc", "metric", "model_response"))
            if not is_number(scores[key]):
                return None
            item = hashed([doc[name] for name in ("query", "choices", "gold_index")])
            said, likely = (reply.get("text") or []), (reply.get("logprobs") or [])
            answer = said[0] if said else likeliest([str(one).strip() for one in doc["choices"]], likely, "norm" in key)
            return Scored(item, number(scores[key]), text(doc["query"]), answer and text(answer), 0 if said else len(doc["choices"]))

        found = list(self.rows(path, made))
        self.keys[task] = [item.key for item in found]
        return found

    def _config(self, task: str) -> Mapping[str, Any]:
        """Its settings; older files leave the number of examples out of the name."""
        found = self.of("config_tasks", task) or self.of("config_tasks", task.rpartition("|")[0])
        return found if isinstance(found, dict) else {}

    def _few_shot(self, task: str) -> int | None:
        shots = self._config(task).get("num_fewshots", task.rpartition("|")[2])
        return int(shots) if str(shots).isdecimal() else None

    def _details(self, task: str) -> Path | None:
        """Below the folder given, or in details/ beside the results/ that the file is in."""
        roots = [self.root, *(parent.with_name("details") for parent in self.path.parents if parent.name == "results")]
        found = (path for root in roots for deep in range(DEEP + 3) for path in root.glob("*/" * deep + f"details_*_{self.when}.parquet"))
        return next((path for path in found if path.name == f"details_{task}_{self.when}.parquet"), None)
