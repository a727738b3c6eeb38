"""From settings to queued runs: all or nothing, names resolved, and every refusal says what is wrong and what to do."""

import shutil
from collections import namedtuple

import psutil
import pytest
from pydantic import ValidationError
from sqlmodel import Session, select

from engine import catalogue, submit
from engine.errors import UserError
from engine.settings import SamplingSettings, TrainingSettings
from engine.stage import Estimate, Kind, Model, Recipe, Stage
from storage import queries
from storage.database import transaction
from storage.tables import Artifact, Consumed, Metric, Plan, Run


@pytest.fixture
def rows(add_artifact):
    return add_artifact("dataset", "my rows", format="text", rows=1, columns=["text"])


def everything(database):
    with Session(database) as session:
        return [session.exec(select(table)).all() for table in (Run, Artifact, Consumed, Plan)]


def test_names_become_ids_and_outputs_are_reserved(machine, rows):
    submitted = machine.submit("join", parts=["my rows", rows, str(rows)])
    row = machine.row(submitted.runs[0])
    assert row.settings["parts"] == [rows] * 3
    assert (row.status, row.heavy, row.code_version) == ("queued", False, submit.code_version())
    joined = machine.artifact(submitted.outputs["joined"])
    assert (joined.name, joined.kind, joined.field, joined.made_by) == ("my rows joined", "dataset", "joined", row.id)
    assert joined.ready_at is None
    assert machine.home.root / joined.folder == machine.home.artifact_folder(joined.id)
    with Session(machine.database) as session:
        assert [field for field, _ in queries.consumed_by(session, row.id)] == ["parts.0", "parts.1", "parts.2"]


def test_a_reserved_output_can_be_named_before_it_is_ready(machine):
    made = machine.submit("count", save_as="soon").outputs["numbers"]
    assert machine.row(machine.start("join", parts=["soon"])).settings["parts"] == [made]


def test_every_output_gets_a_name_of_its_own(machine, rows):
    names = [machine.artifact(machine.submit("count", save_as="same ").outputs["numbers"]).name for _ in range(3)]
    assert names == ["same", "same (2)", "same (3)"]
    machine.submit("join", parts=[rows])
    machine.submit("join", parts=[rows])
    with Session(machine.database) as session:
        names = [a.name for a in queries.artifacts(session, ready=False)]
    assert len(set(names)) == len(names)
    assert {"my rows joined", "my rows report", "my rows joined (2)", "my rows report (2)"} <= set(names)


def test_a_recipe_is_queued_whole_or_not_at_all(machine, add_artifact):
    model = add_artifact("model", "not rows")
    before = everything(machine.database)
    with pytest.raises(UserError, match="not rows is a model, and this needs a dataset"):
        machine.submit("chain", more=model)
    with pytest.raises(UserError, match="not rows is a model") as told:
        submit.submit(machine.database, machine.home, catalogue.find("chain")(more=model))
    assert told.value.field == "parts.2"
    assert everything(machine.database) == before, "the two counts before it left nothing either"
    submitted = machine.submit("chain")
    assert machine.row(submitted.runs[2]).plan == submitted.plan
    assert len(submitted.runs) == 3
    with Session(machine.database) as session:
        assert session.get_one(Plan, submitted.plan).recipe == "chain"


@pytest.mark.parametrize("name, settings, field, says", [
    ("count", {"stesp": 3}, "stesp", "there is no setting 'stesp'; did you mean steps"),
    ("join", {"parts": [1], "pace": {"dealy": 1}}, "pace.dealy", "there is no setting 'pace.dealy'; did you mean delay?"),
    ("join", {"parts": ["my rwos"]}, "parts", "there is no artifact named 'my rwos'; did you mean my rows?"),
    ("join", {"parts": ["xyzzy"]}, "parts", "known: a model, my rows"),
    ("join", {"parts": [77]}, "parts.0", "artifact 77 does not exist: choose another dataset"),
    ("join", {"parts": ["a model"]}, "parts.0", "a model is a model, and this needs a dataset: choose a dataset"),
    ("finetune", {"model": "a model", "data": "my rows"}, "data",
     "my rows holds text rows (columns text), and this reads messages: choose another dataset"),
])  # fmt: skip
def test_a_mistake_is_named_with_its_field_and_its_fix(machine, rows, add_artifact, name, settings, field, says):
    add_artifact("model", "a model")
    before = everything(machine.database)
    with pytest.raises(UserError) as told:
        machine.submit(name, **settings)
    assert told.value.field == field
    assert says in str(told.value)
    assert everything(machine.database) == before


@pytest.mark.parametrize("settings", [{"steps": 0}, {"steps": "many"}, {"steps": 2.5}, {"delay": -1}])
def test_wrong_types_and_ranges_are_refused(machine, settings):
    with pytest.raises(ValidationError) as told:
        machine.submit("count", **settings)
    assert told.value.errors()[0]["loc"] == tuple(settings)
    assert not machine.database.connect().exec_driver_sql("SELECT * FROM run").all()


def test_what_is_lost_cannot_be_an_input(machine, rows):
    machine.finish(*(failing := machine.submit("fail")).runs)
    with pytest.raises(UserError, match="is not there any more"):
        machine.submit("join", parts=[failing.outputs["nothing"]])
    with pytest.raises(UserError, match="there is no artifact named 'fail'"):
        machine.submit("join", parts=["fail"])
    with transaction(machine.database) as session:
        session.get_one(Artifact, rows).deleted_at = queries.utc_now()
    with pytest.raises(UserError, match="is not there any more: choose another dataset"):
        machine.submit("join", parts=[rows])


def test_the_layout_is_checked_again_when_the_input_is_ready(machine):
    """A finetune queued on rows that turn out to be plain text fails with the reason, before a model is loaded."""
    made = machine.submit("count").outputs["numbers"]
    with Session(machine.database) as session:
        model = Artifact(kind="model", name="m", folder="artifacts/m", created_at=queries.utc_now(), ready_at=queries.utc_now())
        session.add(model)
        session.commit()
        id = model.id
    run = machine.start("finetune", model=id, data=made)
    assert machine.finish(run) == ["failed"]
    assert "holds text rows (columns text), and this reads messages" in machine.row(run).error


class Hungry(Stage):
    """Need room."""

    outputs = {"model": Kind.MODEL}
    model: Model
    memory: int = 0
    disk: int = 0
    seed: int = 0

    def estimate(self, inputs, tokens_per_second):
        return Estimate(memory=self.memory, disk=self.disk, seconds=tokens_per_second or 0)


def test_what_does_not_fit_is_refused(database, home, add_artifact, monkeypatch):
    model = add_artifact("model", "m")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 5 * 10**9))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("memory", "total")(8 * 10**9))
    with pytest.raises(UserError, match=r"writes about 6.0 GB and the disk has 5.0 GB left: delete artifacts"):
        submit.submit(database, home, Hungry(model=model, disk=6 * 10**9))
    with pytest.raises(UserError, match=r"needs about 9.0 GB of memory and the machine has 8.0 GB: lower batch size"):
        submit.submit(database, home, Hungry(model=model, memory=9 * 10**9))
    submit.submit(database, home, Hungry(model=model, memory=7 * 10**9, disk=4 * 10**9))


def test_an_estimate_knows_how_fast_this_model_went_before(database, home, add_artifact):
    model, other = add_artifact("model", "m"), add_artifact("model", "n")
    stage = Hungry(model=model)
    assert submit.estimate(database, home, stage).seconds == 0
    run = submit.submit(database, home, stage).runs[0]
    with transaction(database) as session:
        queries.begin(session, run, 1, "x", "cpu", queries.utc_now())
        for speed in (100.0, 300.0, None):
            session.add(Metric(run=run, at=queries.utc_now(), step=1, name="tokens_per_second", value=speed))
    assert submit.estimate(database, home, stage).seconds == 0, "only what succeeded counts"
    with transaction(database) as session:
        queries.settle(session, run, "succeeded", queries.utc_now())
    assert submit.estimate(database, home, stage).seconds == 300
    assert submit.estimate(database, home, Hungry(model=other)).seconds == 0
    coming = submit.submit(database, home, stage).outputs["model"]
    assert submit.estimate(database, home, Hungry(model=coming)) is None, "nothing is known before the input is ready"


def test_a_retry_is_a_new_run_with_the_same_settings(machine):
    old = machine.start("count", steps=7, seed=3)
    new = submit.retry(machine.database, machine.home, old).runs[0]
    assert new != old
    assert (machine.row(new).settings, machine.row(new).seed) == (machine.row(old).settings, 3)
    with transaction(machine.database) as session:
        session.get_one(Run, old).settings = {"steps": 0}
    with pytest.raises(UserError, match=f"settings of run {old} are not valid any more .*: start a new one"):
        submit.retry(machine.database, machine.home, old)
    with pytest.raises(UserError, match="there is no run 99"):
        submit.retry(machine.database, machine.home, 99)


def test_the_seed_of_a_run_is_the_seed_of_its_work(database, home, add_artifact):
    def seeded(form):
        with Session(database) as session:
            return session.get_one(Run, submit.submit(database, home, form).runs[0]).seed

    assert seeded(Hungry(model=add_artifact("model", "m"), seed=5)) == 5
    for group in (TrainingSettings(seed=6), SamplingSettings(seed=7)):
        name = "training" if isinstance(group, TrainingSettings) else "sampling"
        assert seeded(type("Grouped", (Stage,), {"__annotations__": {name: type(group)}, name: group})()) == group.seed


def test_the_bases_of_adapters_are_looked_at_too(database, home, add_artifact):
    base = add_artifact("model", "base", format="full")
    middle = add_artifact("model", "middle", format="adapter", base=base)
    top = add_artifact("model", "top", format="adapter", base=middle)
    with Session(database) as session:
        assert set(submit.look(session, home, Hungry(model=top))) == {base, middle, top}


def test_a_recipe_that_queues_nothing_makes_no_run(database, home):
    class Idle(Recipe):
        """Queue nothing."""

        def plan(self, queue):
            return None

    assert submit.submit(database, home, Idle()).runs == []
