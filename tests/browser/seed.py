"""A home as it looks after some days of work, written through the real tables: all six states, curves, answers, a report."""

import json
import math
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlmodel import Session

from engine.processes import identity
from engine.stages.measure import _report
from engine.statistics import verdicts
from storage import queries
from storage.curves import Recorder
from storage.database import open_database
from storage.files import Home
from storage.tables import Artifact, Consumed, Event, Response, Run

HOSTILE = (
    '${1+1} {{value}} <img src=x onerror="window.hacked=1"> \\frac{1}{2} C:\\users\\x \u202eright-to-left\u202c zero\u200bwidth 😀'
    " </script><script>window.hacked=1</script>"
)
FINETUNE = {"model": 1, "data": 2, "training": {"learning_rate": 2e-4, "steps": 60}, "method": "lora"}


def seed(home: Home) -> None:
    """Fill an empty home."""
    database, now = open_database(home), queries.utc_now()
    with Session(database) as session:

        def run(stage: str, status: str, settings: dict[str, Any], **more: Any) -> int:
            row = Run(stage=stage, status=status, settings=settings, queued_at=now - timedelta(hours=3), **more)
            session.add(row)
            session.flush()
            assert row.id
            return row.id

        def artifact(kind: str, name: str, made_by: int | None, field: str, ready: bool = True, **summary: Any) -> int:
            row = Artifact(kind=kind, name=name, folder="", made_by=made_by, field=field, created_at=now, summary=summary, size=12345678)
            row.ready_at = now if ready else None
            session.add(row)
            session.flush()
            assert row.id
            folder = home.artifact_folder(row.id)
            folder.mkdir(parents=True)
            row.folder = str(folder.relative_to(home.root))
            return row.id

        began, ended = now - timedelta(hours=2), now - timedelta(hours=1, minutes=57)
        over = {"started_at": began, "ended_at": ended}
        base = artifact(
            "model", "SmolLM2-135M-Instruct", run("import_model", "succeeded", {}, **over), "model", format="full", parameters=134515008
        )
        read = run("import_dataset", "succeeded", {"source": "x"}, **over)
        data = artifact("dataset", "Short answers", read, "dataset", format="messages",
                        rows=1, heldout=0, columns=["messages"])  # fmt: skip
        talk = {"messages": [{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": HOSTILE}], "note": HOSTILE}
        (home.artifact_folder(data) / "train.jsonl").write_text(json.dumps(talk) + "\n")
        tuned = run("finetune", "succeeded", FINETUNE, step=60, total=60, tags="first", **over)
        child = artifact("model", f"tuned {HOSTILE[:20]}", tuned, "model", format="adapter", base=base, note=HOSTILE)
        mine = {"pid": os.getpid(), "pid_started": identity(os.getpid()), "device": "cpu"}
        live = run("finetune", "running", FINETUNE, step=30, total=60, started_at=now - timedelta(minutes=1), **mine)
        artifact("model", "in the making", live, "model", ready=False)
        failed = run("finetune", "failed", FINETUNE, step=12, total=60, error=f"out of memory: lower batch size {HOSTILE}", **over)
        run("generate", "cancelled", {"models": [base], "prompts": data}, error="stopped; what was saved can be resumed", **over)
        run("generate", "skipped", {"models": [base], "prompts": data}, error="its input will not be made", **over)
        run("finetune", "queued", FINETUNE)
        run("gone_stage", "succeeded", {"old": HOSTILE}, **over)
        compared = run("compare_answers", "succeeded", {"before": 1, "after": 1}, **over)
        for user in (tuned, live, failed):
            session.add_all([Consumed(run=user, artifact=base, field="model"), Consumed(run=user, artifact=data, field="data")])
        session.add(Event(run=tuned, at=now, level="warning", message=HOSTILE))
        for one in (tuned, live):
            recorder = Recorder(session, one)
            for step in range(1, 61 if one == tuned else 31):
                loss = math.nan if step == 20 else 3 * math.exp(-step / 25) + 0.2 * math.sin(step)
                recorder.record(
                    session, now, step, {"loss": loss, "learning_rate": 2e-4 * (1 - step / 61), "tokens_per_second": 400 + step}
                )
                if step % 20 == 0:
                    recorder.record(session, now, step, {"eval_loss": 3 * math.exp(-step / 30)})
            for step in (0, 20, 40):
                for place, text in enumerate((HOSTILE, "What is the capital of France?")):
                    prompt = [{"role": "user", "content": text}]
                    answer = (
                        f"{HOSTILE} at step {step}"
                        if place == 0
                        else ("Paris" if step else "The capital of France is the city of Paris. " * 4)
                    )
                    session.add(Response(run=one, at=now, artifact=child, step=step, prompt_key=f"key{place}", prompt=prompt, answer=answer,
                                         token_ids=[1, 2, 3], finish_reason="stop" if step else "length"))  # fmt: skip
        report = artifact("report", "Quickstart report", compared, "report", sentence=_write_report(home, base, child, len_of=40))
        _move(home.artifact_folder(0), home.artifact_folder(report))
        for place, model in enumerate((base, child)):
            asked = run("generate", "succeeded", {"models": [model], "prompts": data}, step=24, total=24, **over)
            session.add_all([Consumed(run=asked, artifact=data, field="prompts"), Consumed(run=asked, artifact=model, field="models.0")])
            artifact("responses", f"Answers {'after' if place else 'before'}", asked, "responses", models=[model], prompts=24, answers=24)
            for n in range(24):
                question = HOSTILE if n == 0 else f"What is {n} and {n}?"
                reply = HOSTILE if n % 6 == 0 else f"{2 * n}" if place else f"The sum of {n} and {n} is {2 * n}. " * 3
                extra = {"answer": str(2 * n), "tags": ["sum" if n else HOSTILE[:12]], **({"thought": HOSTILE} if n == 6 else {})}
                ended = "stop" if place or n % 2 else "length"
                told = {"prompt_key": f"sum{n}", "prompt": [{"role": "user", "content": question}], "answer": reply, "extra": extra}
                session.add(Response(run=asked, at=now, artifact=model, token_ids=[1] * (len(reply) // 4 + 1), finish_reason=ended, **told))
        session.commit()


def _write_report(home: Home, base: int, child: int, len_of: int) -> str:
    told = verdicts(
        {"stopping by itself": [(False, True)] * 30 + [(True, True)] * 10, "exact answers": [(True, False)] * 9 + [(True, True)] * 31}
    )
    sentence = _report.sentence(told, 0.05)
    answers = [
        {
            "prompt_key": f"k{n}", "prompt": [{"role": "user", "content": f"Question {n} {HOSTILE if n == 0 else ''}"}], "tags": ["fact"],
            "reference": str(n),
            "answers": [
                {"model": base, "answer": HOSTILE if n == 0 else str(n), "finish_reason": "length", "tokens": 50, "correct": n != 0},
                {"model": child, "answer": str(n) if n % 3 else HOSTILE, "finish_reason": "stop", "tokens": 3, "correct": bool(n % 3)},
            ],
        }
        for n in range(len_of)
    ]  # fmt: skip
    report = {
        "sentence": sentence, "verdicts": [_report.verdict_row(v) for v in told],
        "models": [{"id": base, "name": "SmolLM2-135M-Instruct"}, {"id": child, "name": f"tuned {HOSTILE}"}],
        "facts": [["Median length", "50 tokens", "3 tokens"]], "answers": answers, "notes": ["One seed."],
    }  # fmt: skip
    folder = home.artifact_folder(0)
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "report.html").write_text(_report.page(report))
    return sentence


def _move(source: Path, target: Path) -> None:
    for path in source.iterdir():
        path.rename(target / path.name)
    source.rmdir()
