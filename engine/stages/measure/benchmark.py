"""Tasks of lm-evaluation-harness on models here: the harness asks and judges, and what it wrote is read as an import would be.

Tasks come from a folder of yours or from the harness, whose own ones mostly need the hub for their data. All of them are
loaded before the first model is, so that one that cannot work ends the run at once.
"""

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from engine.catalogue import did_you_mean
from engine.errors import UserError
from engine.stage import Estimate, Input, Kind, Model, Stage
from engine.stages.data._read import whole_path

if TYPE_CHECKING:
    from engine.work import Work


class Benchmark(Stage):
    """Measure models by tasks of lm-evaluation-harness, item by item, before and after training."""

    outputs = {"scores": Kind.SCORES}
    online = True

    models: list[Model] = Field(title="Models", description="Each is asked every task.", min_length=1, max_length=64)
    tasks: list[str] = Field([], title="Tasks", description="By name: tasks, groups or tags of the harness, or of the folder below.")
    folder: str = Field(
        "", title="Folder of tasks", description="YAML files of the harness with their data beside them. They can run code: only your own."
    )
    limit: int | None = Field(None, ge=1, title="Limit", description="Items of each task, for testing only. Empty: all.")
    few_shot: int | None = Field(None, ge=0, le=100, title="Examples", description="Shown before each question. Empty: what the task says.")
    apply_chat_template: bool = Field(
        False, title="Use the chat template", description="Ask in the model's own chat format. Scores with and without it never meet."
    )
    metric: str = Field(
        "", title="Metric", description="Such as acc_norm or exact_match,flexible-extract, for tasks that have it. Empty: each one's first."
    )
    batch_size: int = Field(16, ge=1, le=1024, title="Batch size", description="Requests at once.")

    @field_validator("folder")
    @classmethod
    def _path_is_whole(cls, folder: str) -> str:
        return whole_path(folder.strip()) if folder.strip() else ""

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """Whose scores, on which tasks."""
        return f"{', '.join(self.tasks)}: {', '.join(inputs[id].name for id in self.models)}"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """The harness is installed, there are tasks, and the folder has some."""
        if importlib.util.find_spec("lm_eval") is None:
            raise UserError("lm-evaluation-harness is not installed: run pip install 'dianjing[benchmark]', or pip install lm-eval")
        if not self.tasks:
            raise UserError("there is no task yet: name one, such as hellaswag, or one of a folder of your own", field="tasks")
        for field, given in (("tasks", self.tasks), ("models", self.models)):
            if twice := next((one for one in given if given.count(one) > 1), None):
                raise UserError("{one} stands here twice: take one away", field=field, one=twice)
        if self.folder and not any(Path(self.folder).glob("**/*.yaml")):
            message = "there is no task in {folder}: choose a folder with YAML files as the harness describes them"
            raise UserError(message, field="folder", folder=self.folder)

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """What a limit means; how many items there are is known only when the tasks are loaded."""
        return Estimate(warnings=("With a limit the scores are for testing only.",)) if self.limit else None

    def run(self, work: "Work") -> None:
        """Let the harness measure each model, store its items, and keep what it wrote."""
        from engine.stages.measure._harness_files import keep, read_results, write
        from engine.stages.measure.evaluate import steps_of

        os.environ.setdefault("DISABLE_MULTIPROC", "1")  # or the harness forks this process for some standard errors
        models, done = work.inputs("models"), []
        with _hub(), chdir(self.folder) if self.folder else nullcontext():
            manager = self._manager()
            for place, model in enumerate(models):
                written = work.folder / f"harness-{model.id}"
                if not written.exists():
                    work.say(f"Measuring {model.name}")
                    shutil.rmtree(aside := written.with_suffix(".part"), ignore_errors=True)
                    self._measure(work, model, manager, aside, place)
                    aside.rename(written)
                results = read_results(str(written), self.metric.strip())
                keep(work, model, steps_of(model), results)
                shutil.copytree(written, work.output("scores") / f"model-{model.id}")
                done.append((model, results))
        write(work, done)

    def _manager(self) -> Any:
        """The harness's tasks with all that are chosen loaded once. Raises UserError for what cannot be loaded."""
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=self.folder or None, include_defaults=False)
        if not set(self.tasks) <= set(manager.all_subtasks):
            manager = TaskManager(include_path=self.folder or None)  # reads thousands of files
        for name in self.tasks:
            if name not in manager.all_tasks:
                message = "there is no task named {name}; {hint}"
                raise UserError(message, field="tasks", name=repr(name), hint=did_you_mean(name, manager.all_tasks))
            for task in _loaded(manager, name).values():
                if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
                    message = "{name} runs code that a model writes, or needs pictures or sound: it is not measured here"
                    raise UserError(message, field="tasks", name=task.task_name)
        return manager

    def _measure(self, work: "Work", model: Input, manager: Any, aside: Path, place: int) -> None:
        from lm_eval import simple_evaluate
        from lm_eval.loggers import EvaluationTracker
        from transformers import AutoTokenizer

        from engine.training.models import compute_dtype, load_model

        loaded = load_model(model, work.artifact, compute_dtype("auto", work.device), work.device)
        loaded.generation_config.max_new_tokens = None  # it would take precedence over the length that a task asks for
        tokenizer = AutoTokenizer.from_pretrained(model.folder, local_files_only=True)

        def tell(done: int, of: int) -> None:
            work.progress(place * of + done, len(self.models) * of)

        watched = _watched(tell, pretrained=loaded, tokenizer=tokenizer, batch_size=self.batch_size)
        tracker = EvaluationTracker(output_path=str(aside / "results.json"))
        results = simple_evaluate(
            watched,
            tasks=list(self.tasks),
            task_manager=manager,
            num_fewshot=self.few_shot,
            limit=self.limit,
            apply_chat_template=self.apply_chat_template,
            fewshot_as_multiturn=self.apply_chat_template,
            batch_size=self.batch_size,
            bootstrap_iters=1000,
            evaluation_tracker=tracker,
        )
        tell(watched.known, watched.known)
        results.pop("pretty_env_info", None)  # this and the paths below only tell of this machine
        results["config"]["model"] = tracker.general_config_tracker.model_name = model.name
        for config in results["configs"].values():
            (config.get("metadata") or {}).pop("config_source", None)
        samples = results.pop("samples")
        tracker.save_results_aggregated(results=results, samples=samples)
        for task, rows in samples.items():
            tracker.save_results_samples(task_name=task, samples=rows)


def _loaded(manager: Any, name: str) -> dict[str, Any]:
    """The tasks that a name stands for. Raises UserError when they or their data cannot be loaded."""
    try:
        return dict(manager.load([name])["tasks"])
    except ConnectionError as error:
        message = "{name} needs data from the hub, which does not answer ({why}): bring the data here, and name it in a task of your own"
        raise UserError(message, field="tasks", name=name, why=error) from None
    except Exception as error:  # a task is a program: it may fail in any way
        why = f"{type(error).__name__}: {error}"
        raise UserError("the task {name} cannot be loaded ({why}): mend its files", field="tasks", name=name, why=why[:500]) from error


def _watched(tell: Any, **options: Any) -> Any:
    """The harness's model, telling requests done and known before each batch; `tell` may end it by raising."""
    from lm_eval.models.huggingface import HFLM

    class Watched(HFLM):
        done = known = 0

        def _loglikelihood_tokens(self, requests: Any, *args: Any, **kwargs: Any) -> Any:
            self.known += len(requests)
            return super()._loglikelihood_tokens(requests, *args, **kwargs)

        def generate_until(self, requests: Any, *args: Any, **kwargs: Any) -> Any:
            self.known += len(requests)
            return super().generate_until(requests, *args, **kwargs)

        def _model_call(self, inps: Any, *args: Any, **kwargs: Any) -> Any:
            self._tell(len(inps))
            return super()._model_call(inps, *args, **kwargs)

        def _model_generate(self, context: Any, *args: Any, **kwargs: Any) -> Any:
            self._tell(len(context))
            return super()._model_generate(context, *args, **kwargs)

        def _tell(self, rows: int) -> None:
            self.done += rows
            tell(self.done, self.known)

    return Watched(**options)


@contextmanager
def _hub() -> Iterator[None]:
    """Where the hub does not answer it is switched off, so that a task which needs it fails at once, not after many tries."""
    from datasets import config
    from huggingface_hub import constants

    from engine.hub import require_hub

    try:
        require_hub()
        off = False
    except UserError:
        off = True
    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before[0] or off, before[1] or off
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before
