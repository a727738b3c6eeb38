"""Any graph of runs, begun, settled, stopped and resumed in any order, never reaches an impossible state."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from sqlalchemy.pool import StaticPool
from sqlmodel import Session, SQLModel, create_engine, select

from storage import queries
from storage.queries import utc_now
from storage.tables import FINAL, Artifact, Run
from tests.storage.conftest import write_run


class Runs(RuleBasedStateMachine):
    runs, artifacts = Bundle("runs"), Bundle("artifacts")

    def __init__(self):
        super().__init__()
        database = create_engine("sqlite://", poolclass=StaticPool)
        SQLModel.metadata.create_all(database)
        self.session = Session(database)
        self.before: dict[int, str] = {}
        self.resumed = False

    def teardown(self):
        self.session.close()

    @rule(target=artifacts, inputs=st.lists(artifacts, max_size=3, unique=True), outputs=st.sampled_from([("out",), ("out", "more")]))
    def queue(self, inputs, outputs):
        there = tuple(id for id in inputs if not queries.is_lost(self.session, self.session.get_one(Artifact, id)))
        made = queries.outputs_of(self.session, write_run(self.session, there, outputs=outputs))
        return multiple(*(artifact.id for artifact in made.values()))

    @rule(place=st.integers(0, 5))
    def begin(self, place):
        if ready := queries.ready_to_start(self.session):
            assert queries.begin(self.session, ready[place % len(ready)].id, 7, "now", "cpu", utc_now())

    @rule(place=st.integers(0, 5), status=st.sampled_from(["succeeded", "failed", "cancelled"]))
    def end(self, place, status):
        if running := queries.runs(self.session, "running"):
            assert queries.settle(self.session, running[place % len(running)].id, status, utc_now())

    @rule(place=st.integers(0, 20), status=st.sampled_from(["failed", "cancelled"]))
    def stop_or_lose(self, place, status):
        if rows := queries.runs(self.session):
            row = rows[place % len(rows)]
            had_ended = row.status in FINAL
            assert queries.settle(self.session, row.id, status, utc_now()) != had_ended

    @rule(place=st.integers(0, 20))
    def resume(self, place):
        if rows := queries.runs(self.session):
            row = rows[place % len(rows)]
            was = row.status
            self.resumed = queries.queue_again(self.session, row.id, utc_now())
            assert not self.resumed or was in ("failed", "cancelled", "skipped")

    @rule(artifact=consumes(artifacts))
    def delete(self, artifact):
        row = self.session.get_one(Artifact, artifact)
        if row.ready_at and all(user.status in FINAL for user in queries.users_of(self.session, artifact)):
            row.deleted_at = utc_now()

    @invariant()
    def nothing_impossible(self):
        self.session.flush()
        rows = {row.id: row for row in self.session.exec(select(Run))}
        for id, row in rows.items():
            assert row.status in ("queued", "running", *FINAL)
            assert (row.pid is not None) == (row.status == "running")
            assert (row.ended_at is not None) == (row.status in FINAL)
            was = self.before.get(id)
            if was in FINAL and row.status != was:
                assert self.resumed, "a final state changes only through queue_again"
                assert (was != "succeeded", row.status) == (True, "queued")
            inputs = [artifact for _, artifact in queries.consumed_by(self.session, id)]
            if row.status == "queued":
                assert not any(queries.is_lost(self.session, artifact) for artifact in inputs), "it would wait for ever"
            if row.status == "running":
                assert all(artifact.ready_at and not artifact.deleted_at for artifact in inputs)
            if row.status == "skipped" and was != "skipped":
                assert any(queries.is_lost(self.session, artifact) for artifact in inputs)
            for artifact in queries.outputs_of(self.session, id).values():
                assert (artifact.ready_at is not None) == (row.status == "succeeded")
        waiting = {row.id for row in rows.values() if row.status == "queued"}
        ready = {row.id for row in queries.ready_to_start(self.session)}
        assert ready <= waiting
        assert ready or not waiting or any(row.status == "running" for row in rows.values()), "something can always go on"
        self.before, self.resumed = {id: row.status for id, row in rows.items()}, False


Runs.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestRuns = Runs.TestCase
