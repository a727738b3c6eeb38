"""Results of lm-evaluation-harness and lighteval, found, read and kept.

A task's suite hash is made of what the files say its scores depend on besides the model: version, settings and items. So
scores of another version, limit or number of examples never meet.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.catalogue import did_you_mean
from engine.chat import prompt_key
from engine.errors import UserError
from engine.stage import Input
from engine.stages.data._read import readable
from engine.stages.measure._harness import DEEP, Reader, Results, Task, hashed, is_number, number, text
from engine.stages.measure._lighteval import Lighteval
from engine.stages.measure._lm_eval import LmEval

if TYPE_CHECKING:
    from engine.work import Measurement, Work

APART = 1e-6  # by how much a mean of items may miss the average reported


def find(given: str) -> Path:
    """The results file that is meant by a file or a folder. Raises UserError when there is none, or more than one."""
    path = Path(given)
    if not path.is_dir():
        path = readable(path, "path")
        if not (path.name.startswith("results") and path.suffix == ".json"):
            message = "{name} is no results file: choose results_….json, or the folder that it is in"
            raise UserError(message, field="path", name=path.name)
        return path
    found = sorted(one for deep in range(DEEP) for one in path.glob("*/" * deep + "results*.json"))
    if not found:
        message = "there is no results_….json in {path}: run the harness with an output path, and choose that folder"
        raise UserError(message, field="path", path=path)
    if len(found) > 1:
        names = ", ".join(str(one.relative_to(path)) for one in found[:5])
        message = "{path} holds {count} results: {names}. Choose one of these files"
        raise UserError(message, field="path", path=path, count=len(found), names=names)
    return found[0]


def read_results(given: str, metric: str = "", items: bool = True) -> Results:
    """The tasks of a results file, with their items if they are asked for and there. Raises UserError, naming file and line."""
    path = find(given)
    root = Path(given) if Path(given).is_dir() else None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise UserError("{name} is not UTF-8 text: it is no results file", field="path", name=path.name) from None
    except (ValueError, RecursionError) as error:
        raise UserError("{name} is not JSON: {why}", field="path", name=path.name, why=error) from None
    if not isinstance(held, dict) or not isinstance(held.get("results"), dict):
        message = "{name} has no results: it was written by neither lm-evaluation-harness nor lighteval"
        raise UserError(message, field="path", name=path.name)
    reader: Reader = Lighteval(path, held, root) if isinstance(held.get("config_general"), dict) else LmEval(path, held, root)
    averages = {name: _averages(told) for name, told in held["results"].items() if name != "all"}
    averages = {name: some for name, some in averages.items() if some}
    if not averages:
        raise UserError("{name} reports no average of any task: it is empty, or cut", field="path", name=path.name)
    known = list(dict.fromkeys(key for some in averages.values() for key in some))
    if metric and not any(_matches(key, metric) for key in known):
        message = "no task of {name} has the metric {metric}; {hint}"
        raise UserError(message, field="metric", name=path.name, metric=repr(metric), hint=did_you_mean(metric, known))
    tasks = []
    for name, some in averages.items():
        key = next((key for key in some if metric and _matches(key, metric)), next(iter(some)))
        rows = reader.items(name, key) if items else []
        error = number(held["results"][name].get(reader.error(key)))
        suite_hash, better = hashed(reader.depends(name, key)), reader.better(name, key)
        tasks.append(Task(text(name), key, some[key], error, suite_hash, better, tuple(rows)))
    return Results(path, reader.harness, reader.settings(), tasks)


def _averages(told: Any) -> dict[str, float | None]:
    """The metrics of a task, in the order of the file."""
    words = ("alias", "name", "sample_len", "sample_count")
    some = told.items() if isinstance(told, dict) else ()
    return {key: number(value) for key, value in some if key not in words and "_stderr" not in key and is_number(value)}


def _matches(key: str, metric: str) -> bool:
    return metric in (key, key.partition(",")[0])


def keep(work: "Work", model: Input, step: int, results: Results) -> None:
    """Store a model's items that are not stored yet by this run, all at once, and say what the file does not say of items."""
    from engine.work import Answer, ItemScore

    rows: list[Measurement] = []
    for task in results.tasks:
        known = work.values(model.id, step, task.suite_hash, own=True)
        for item in task.items:
            if item.key in known:
                continue
            asked = [{"role": "user", "content": item.prompt}]
            said = Answer(model.id, prompt_key(asked), asked, item.answer, [], "", step) if item.answer is not None else None
            rows.append((said, [ItemScore(model.id, task.suite_hash, task.name, item.key, item.value, step)]))
    work.measured(rows)
    if bare := [task.name for task in results.tasks if not task.items]:
        work.warn(f"of {', '.join(bare)} there are only averages: they are kept, and nothing can be tested item by item")
    for task in results.tasks:
        if task.mean is not None and task.average is not None and abs(task.mean - task.average) > APART:
            work.warn(f"{task.name}: {task.average:.4g} is reported, and the mean of its items is {task.mean:.4g}; its items count here")
    if results.settings["limit"] is not None:
        work.warn(f"measured with a limit of {results.settings['limit']} items a task, which is for testing only: nothing to report")


def write(work: "Work", models: Sequence[tuple[Input, Results]]) -> None:
    """The artifact: its rows, and what its summary says."""
    with (work.output("scores") / "scores.jsonl").open("w", encoding="utf-8") as file:
        for model, results in models:
            for task in results.tasks:
                for item in task.items:
                    row = {"model": model.id, "probe": task.name, "suite_hash": task.suite_hash, "item_key": item.key, "value": item.value}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
    first = models[0][1]
    measured = {model.id: {task.name: _told(task) for task in results.tasks if task.items} for model, results in models}
    averages = {model.id: {task.name: _reported(task) for task in results.tasks} for model, results in models}
    kept = {"harness": first.harness, "settings": first.settings, "measured": measured, "averages": averages}
    work.describe("scores", models=[model.id for model, _ in models], **kept)


def _told(task: Task) -> dict[str, Any]:
    unreadable = sum(item.value is None for item in task.items)
    told = {"title": task.name, "rate": task.rate, "floor": task.floor, "suite_hash": task.suite_hash, "metric": task.metric}
    return told | {"n": len(task.items), "value": task.mean, "unreadable": unreadable}


def _reported(task: Task) -> dict[str, Any]:
    return {"metric": task.metric, "value": task.average, "error": task.error, "n": len(task.items)}
