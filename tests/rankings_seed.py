"""A ranking project as it looks after some days: three raters, ties, repeats, known answers, comments and disagreements."""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session

from engine import rankings
from engine.rankings import Asked, Choice, Said
from storage import labels, queries
from storage.tables import Artifact

ASK = Path(__file__).parent.parent / "assets" / "datasets" / "rankings" / "ask.jsonl"
MODELS = ("SmolLM2-135M-Instruct", "SmolLM2 after 200 short answers", "gemma-3-270m")
WORDS = (
    "Yes. ", "It depends on the season and on how much of it you have. ", "Keep it dry and cool, and look at it once a week. ",
    "No, but many think so. ",
)  # fmt: skip
RATERS = ("Mara", "Jonas", "李雷")


def seed_project(
    database: Engine, items: int = 24, raters: Sequence[str] = RATERS, name: str = "Which answer helps more", criteria: Sequence[str] = (),
    noise: float = 0.8, answers: int = 3, hostile: str = "", wanted: int = 0,
) -> int:  # fmt: skip
    """Write it; its id. The model later in MODELS is better, and raters see that but for their noise."""
    chance, now = Random(1), queries.utc_now()
    prompts = [[{"role": "user", "content": json.loads(line)["prompt"]}] for line in ASK.read_text(encoding="utf-8").splitlines()]
    with Session(database) as session:
        told = {"format": "project", "by": list(MODELS[:answers])}
        made = now - timedelta(days=2)
        artifact = Artifact(kind="rankings", name=name + hostile, folder="", created_at=made, summary=told)
        session.add(artifact)
        session.flush()
        assert artifact.id
        artifact.folder = f"artifacts/{artifact.id}"
        asked: list[Asked] = []
        for place in range(items + 12):
            kind = "normal" if place < items else "gold"
            texts = [f"{''.join(chance.choices(WORDS, k=chance.randint(1, 4)))}({n}-{place}){hostile}" for n in range(answers)]
            choices = tuple(Choice(f"{place}-{n}", text, MODELS[n] if kind == "normal" else "known") for n, text in enumerate(texts))
            prompt = prompts[place % len(prompts)] if not hostile else [{"role": "user", "content": f"question {place} {hostile}"}]
            gold = tuple((one.key,) for one in reversed(choices)) if kind == "gold" else None
            asked.append(Asked(0, kind, f"k{place}", prompt, choices, wanted or len(raters), gold))
        asked += [Asked(0, "repeat", f"k{n}", asked[n].prompt, asked[n].choices, 1, None, n) for n in range(min(10, items))]
        settings: dict[str, Any] = {"raters": max(1, len(raters)), "criteria": list(criteria), "ties": True}
        rankings.open_project(session, artifact.id, settings, "Put the answer you would rather have got first.", asked, now)
        session.flush()
        said = []
        for row, item in zip(labels.items(session, artifact.id), asked, strict=True):
            for rater in raters[:1] if item.kind == "repeat" else raters[:2] if item.kind == "normal" and len(said) % 5 == 0 else raters:
                said.append(_said(chance, row.id or 0, item, rater, criteria or (rankings.OVERALL,), noise))
        rankings.write(session, artifact.id, said, now)
        session.commit()
        return artifact.id


def _said(chance: Random, item: int, asked: Asked, rater: str, criteria: Sequence[str], noise: float) -> Said:
    keys = [one.key for one in asked.choices]
    told: dict[str, Any] = {"active_ms": chance.randint(6000, 40000), "shown": tuple(chance.sample(keys, len(keys)))}
    if chance.random() < 0.04:
        return Said(item, rater, "skip", reason="unclear prompt", **told)
    tiers = {}
    for criterion in criteria:
        order = sorted(keys, key=lambda key: -int(key[-1]) * 0.6 + chance.gauss(0, noise))
        tiers[criterion] = tuple((key,) for key in order) if chance.random() > 0.15 else ((order[0],), tuple(order[1:]))
    more = chance.random()
    flags = {keys[0]: ["factual error"]} if more < 0.1 else {}
    comment = "The second one answers another question." if more < 0.08 else ""
    better = "Dry it first, then store it dark." if more > 0.95 else ""
    return Said(item, rater, tiers=tiers, accepted_above=1, flags=flags, comment=comment, better=better, **told)
