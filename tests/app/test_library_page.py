"""What the library offers for a model: take it home, and make models of the checkpoints beside it."""

from sqlmodel import Session

from app.pages import Place, library
from app.view import Node
from storage import queries
from storage.tables import Artifact, Run


def parts(node: Node | str) -> list[Node]:
    return [] if isinstance(node, str) else [node, *(found for child in node.get("c", []) if child for found in parts(child))]


def shown(place: Place, artifact: int) -> list[Node]:
    asked = {"artifact": artifact, "kind": "", "words": "", "start": 0}
    return [found for node in library.tree(place, asked) for found in parts(node)]


def test_a_model_can_be_exported_and_its_runs_checkpoints_promoted(database, home) -> None:
    now, place = queries.utc_now(), Place(database, home)
    with Session(database) as session:
        session.add(Run(stage="finetune", status="succeeded", queued_at=now))
        session.flush()
        for name, layout in (("child", "adapter"), ("server", "endpoint")):
            made = {"made_by": 1, "field": "model"} if name == "child" else {}
            folder = f"artifacts/{name}"
            session.add(Artifact(kind="model", name=name, folder=folder, summary={"format": layout}, created_at=now, ready_at=now, **made))
        session.commit()
    checkpoint = home.run_folder(1) / "checkpoints" / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    for name in ("trainer_state.json", "summary.json"):
        (checkpoint / name).write_text("{}")
    child, server = shown(place, 1), shown(place, 2)
    assert "/new?stage=export_model&model=1" in [node["a"].get("href") for node in child]
    assert not [node for node in server if "export_model" in str(node["a"].get("href"))], "there are no weights to take home"
    button = next(node for node in child if node.get("on") == "promote")
    order = library._do(place, {"name": "promote", **button["a"]["data"]}, {})
    assert order == {"t": "go", "a": {"href": "/library?artifact=3"}, "c": []}
    with Session(database) as session:
        assert session.get_one(Artifact, 3).name == "child at step 5"
