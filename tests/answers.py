"""A home with answers of several models to one set of prompts, written through the real tables."""

from collections.abc import Callable

from sqlalchemy import Engine
from sqlmodel import Session

from engine.chat import prompt_key
from storage import queries
from storage.tables import SUCCEEDED, Artifact, Consumed, Response, Run

Say = Callable[[int, int], str]  # number of the model, number of the prompt -> answer


def add_answers(
    database: Engine,
    models: int,
    prompts: int,
    answer: Say = lambda model, prompt: f"answer {prompt} of model {model}",
    ask: Callable[[int], str] = lambda prompt: f"question {prompt}",
) -> list[str]:
    """One base and its children answer the same prompts, each in a run of its own; the keys of their columns."""
    now, keys = queries.utc_now(), []
    with Session(database) as session:
        asked = _artifact(session, "dataset", "Questions", format="prompts")
        base = None
        for model in range(models):
            trained = _run(session, "finetune")
            if base:
                session.add(Consumed(run=trained, artifact=base, field="model"))
            child = _artifact(session, "model", f"model {model}", trained, "model", format="full")
            base = base or child
            run = _run(session, "generate")
            session.add_all([Consumed(run=run, artifact=asked, field="prompts"), Consumed(run=run, artifact=child, field="models.0")])
            told = {"models": [child], "prompts": prompts, "answers": prompts}
            made = _artifact(session, "responses", f"Answers of model {model}", run, "responses", **told)
            session.flush()
            rows = []
            for n in range(prompts):
                prompt = [{"role": "user", "content": ask(n)}]
                extra = {"answer": f"answer {n} of model 0", "tags": ["even" if n % 2 == 0 else "odd", *(["third"] if n % 3 == 0 else [])]}
                told_ = {"prompt_key": prompt_key(prompt), "prompt": prompt, "answer": answer(model, n), "extra": extra}
                ended = "length" if (n + model) % 5 == 0 else "stop"
                rows.append(Response(run=run, at=now, artifact=child, token_ids=list(range(n % 7 + 1)), finish_reason=ended, **told_))
            session.add_all(rows)
            keys.append(f"{made}-{child}")
        session.commit()
    return keys


def _run(session: Session, stage: str) -> int:
    now = queries.utc_now()
    run = Run(stage=stage, status=SUCCEEDED, queued_at=now, started_at=now, ended_at=now)
    session.add(run)
    session.flush()
    return run.id or 0


def _artifact(session: Session, kind: str, name: str, made_by: int | None = None, field: str = "", **summary: object) -> int:
    now = queries.utc_now()
    row = Artifact(kind=kind, name=name, folder="artifacts/0", made_by=made_by, field=field, summary=summary, created_at=now, ready_at=now)
    session.add(row)
    session.flush()
    return row.id or 0
