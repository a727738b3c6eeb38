"""The numbers of forgetting against matrices worked by hand, and what may share an axis."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session

from engine import forgetting, forgetting_export
from engine.forgetting import at_equal_score, at_score
from storage import queries
from storage.tables import Artifact, Consumed, Response, Run, Score


def test_what_is_kept_is_read_where_a_score_is_first_reached():
    learned, kept = [0.0, 0.5, 0.4, 1.0], [1.0, 0.8, 0.6, 0.0]
    assert at_score(learned, kept, 0.25) == pytest.approx(0.9)
    assert at_score(learned, kept, 0.7) == pytest.approx(0.3)
    assert at_score(learned, kept, 0.0) == 1.0
    assert at_score(learned, kept, 1.1) is None


def test_runs_meet_at_the_score_all_reach_and_one_that_never_rose_did_not_learn():
    runs = {"fast": ([0.0, 1.0], [1.0, 0.2]), "slow": ([0.0, 0.5], [1.0, 0.9]), "stuck": ([0.3, 0.1], [1.0, 1.0])}
    score, kept = at_equal_score(runs)
    assert score == 0.5
    assert kept == {"fast": pytest.approx(0.6), "slow": pytest.approx(0.9), "stuck": None}
    assert at_equal_score({}) == (0.0, {})


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8), st.floats(0, 1))
def test_what_is_kept_lies_between_what_was_measured(points, score):
    learned, kept = [p[0] for p in points], [p[1] for p in points]
    found = at_score(learned, kept, score)
    assert (found is None) == (max(learned) < score)
    if found is not None:
        assert min(kept) - 1e-9 <= found <= max(kept) + 1e-9


class Lab:
    """A base, a taught model and one after it, with whatever scores a test gives them."""

    def __init__(self, session):
        self.session = session
        now = queries.utc_now()
        self.models = []
        for name, steps in (("base", 0), ("taught", 10), ("after", 20)):
            run = Run(stage="finetune", queued_at=now)
            session.add(run)
            session.flush()
            model = Artifact(kind="model", name=name, folder=name, made_by=run.id, created_at=now, ready_at=now, summary={"steps": steps})
            session.add(model)
            session.flush()
            if self.models:
                session.add(Consumed(run=run.id, artifact=self.models[-1], field="model"))
            self.models.append(model.id)
        session.flush()

    def measure(self, place, step, probe, right, n=100, hash="h", unread=0):
        for item in range(n):
            now, model = queries.utc_now(), self.models[place]
            asked = [{"role": "user", "content": "ask"}]
            said = Response(run=1, at=now, artifact=model, prompt_key=str(item), prompt=asked, answer=f"a{place}", token_ids=[1],
                            finish_reason="stop")  # fmt: skip
            self.session.add(said)
            self.session.flush()
            value = None if item >= n - unread else float(item < right)
            self.session.add(Score(run=1, at=now, artifact=model, step=step, suite_hash=hash, probe=probe, item_key=str(item), value=value,
                                   response=said.id))  # fmt: skip
        self.session.flush()


@pytest.fixture
def lab(database):
    with Session(database) as session:
        yield Lab(session)


def test_a_chain_is_judged_drawn_and_tabled(lab):
    for place, step, right in ((0, 0, 10), (1, 10, 98), (2, 20, 3)):
        lab.measure(place, step, "json_answers", right)
    for step, right in ((0, 98), (10, 50), (20, 3)):
        lab.measure(2, step, "json_answers", right, n=32, hash="watch")
    chain = forgetting.chain(lab.session, lab.models[2])
    assert [one.name for one in chain] == ["base", "taught", "after"]
    judged = forgetting.judge(lab.session, chain[1], chain[2])
    assert forgetting_export.sentence(judged).startswith("Forgot ")
    assert judged.verdicts[0][1].lost == 95
    rows = forgetting_export.items(lab.session, chain[2], judged, judged.verdicts[0][0])
    assert sum(row["answers"][0]["correct"] and not row["answers"][1]["correct"] for row in rows) == 95
    assert [side["answer"] for side in rows[0]["answers"]] == ["a1", "a2"]
    told, begins, _ = forgetting.curves(chain)
    assert [step for step, _ in told["json_answers", "watch"]] == [0, 10, 20]
    assert begins == [(0, "after")]
    cells = [row["cells"][0] for row in forgetting_export.matrix(chain)["rows"]]
    assert [cell["value"] for cell in cells] == [0.1, 0.98, 0.03]
    assert cells[2]["forgetting"] == pytest.approx(0.95)
    assert cells[2]["change"] == pytest.approx(-0.07)


def test_other_items_never_share_an_axis(lab):
    lab.measure(0, 0, "capitals", 80, hash="one")
    lab.measure(1, 10, "capitals", 80, hash="two")
    chain = forgetting.chain(lab.session, lab.models[1])
    judged = forgetting.judge(lab.session, *chain)
    assert judged.verdicts == []
    assert forgetting_export.matrix(chain) is None
    assert any("different items" in note for note in judged.apart)


def test_a_model_that_was_only_watched_is_compared_with_itself_before(lab):
    lab.measure(1, 0, "capitals", 31, n=32)
    lab.measure(1, 10, "capitals", 2, n=32)
    chain = forgetting.chain(lab.session, lab.models[1])
    judged = forgetting.judge(lab.session, *chain)
    assert (judged.before, judged.steps) == (lab.models[1], (0, 10))
    assert judged.verdicts[0][1].verdict == "forgot"
    lab.measure(1, 10, "capitals", 31, n=32)
    judged = forgetting.judge(lab.session, *forgetting.chain(lab.session, lab.models[1]))
    assert judged.verdicts[0][1].verdict == "not enough evidence", "32 items never say kept, and the newest measurement counts"


def test_what_was_measured_with_nothing_in_common_is_said_to_be_compared_with_itself(lab):
    lab.measure(0, 0, "capitals", 30, n=32, hash="other")
    lab.measure(1, 0, "capitals", 31, n=32)
    lab.measure(1, 10, "capitals", 2, n=32)
    judged = forgetting.judge(lab.session, *forgetting.chain(lab.session, lab.models[1]))
    assert judged.before == lab.models[1]
    assert any("compares taught with itself" in note for note in judged.apart)


def test_a_model_without_ancestors_is_compared_with_itself_before_and_has_a_curve(lab):
    lab.measure(0, 0, "capitals", 30, n=32)
    lab.measure(0, 50, "capitals", 2, n=32)  # a run that was stopped: its row does not say how far it came
    alone = forgetting.measured(lab.session, lab.models[0])
    judged = forgetting.judge(lab.session, alone, alone)
    assert (judged.steps, judged.verdicts[0][1].verdict) == ((0, 50), "forgot")
    assert list(forgetting.curves([alone])[0]) == [("capitals", "h")]


def test_a_model_that_was_measured_once_has_nothing_to_be_compared_with(lab):
    lab.measure(0, 0, "capitals", 30)
    alone = forgetting.measured(lab.session, lab.models[0])
    assert forgetting.judge(lab.session, alone, alone).verdicts == []


def test_the_floor_and_what_cannot_be_read(lab):
    lab.measure(0, 0, "capitals", 26)
    lab.measure(1, 10, "capitals", 26, unread=40)
    chain = forgetting.chain(lab.session, lab.models[1])
    assert any("cannot show forgetting here" in note for note in forgetting.judge(lab.session, *chain).apart)
    point = chain[1].end(("capitals", "h"))
    assert (point.unreadable, point.n, point.rate) == (40, 100, 0.26)


def test_csv_holds_every_measurement_and_no_formula(lab):
    lab.session.get_one(Artifact, lab.models[0]).name = "=1+1"
    lab.measure(0, 0, "capitals", 5, n=10)
    rows = list(forgetting_export.csv_rows(forgetting.chain(lab.session, lab.models[0])))
    assert rows[1].startswith(f"{lab.models[0]},'=1+1,capitals,h,0,10,5,0,0.500000,")


def says(lab, place, probe, hash, **told):
    """Scores of a model whose artifact says what they are."""
    now = queries.utc_now()
    run = Run(stage="import_scores", queued_at=now)
    lab.session.add(run)
    lab.session.flush()
    summary = {"measured": {str(lab.models[place]): {probe: {"suite_hash": hash, **told}}}}
    lab.session.add(Artifact(kind="scores", name="s", folder="s", made_by=run.id, created_at=now, ready_at=now, summary=summary))
    lab.session.add(Consumed(run=run.id, artifact=lab.models[place], field="model"))
    lab.session.flush()


def test_what_a_benchmark_says_of_its_task_counts(lab):
    for place in (0, 1):
        lab.measure(place, 10 * place, "perplexity_task", 50, hash="p")
        lab.measure(place, 10 * place, "four_choices", 26, hash="c")
        says(lab, place, "perplexity_task", "p", rate=False, floor=None)
        says(lab, place, "four_choices", "c", rate=True, floor=0.25)
    judged = forgetting.judge(lab.session, *forgetting.chain(lab.session, lab.models[1]))
    (axis, verdict), = judged.verdicts  # fmt: skip
    assert axis == ("four_choices", "c"), "a perplexity is no share of right answers"
    assert verdict.verdict == "not enough evidence", "what stands at its floor cannot be lost, and is not kept"
    assert "perplexity_task" not in str(forgetting_export.matrix(forgetting.chain(lab.session, lab.models[1]))["abilities"])


def test_stages_watched_with_other_items_are_said_to_be_left_out_of_a_curve(lab):
    for place, hash in ((1, "old"), (2, "new")):
        lab.measure(place, 0, "capitals", 20, n=32, hash=hash)
        lab.measure(place, 10, "capitals", 10, n=32, hash=hash)
    told, begins, apart = forgetting.curves(forgetting.chain(lab.session, lab.models[2]))
    assert list(told) == [("capitals", "new")]
    assert [name for _, name in begins] == ["taught", "after"]
    assert apart == ["Capitals was watched with other items while taught was trained: not drawn."]


def test_learned_against_kept_pairs_steps_that_both_were_measured_at(lab):
    for place in (1, 2):
        for step, task, kept in ((0, 0, 32), (10, 16, 24), (20, 32, 8)):
            lab.measure(place, step, "talk: exact_match", task, n=32)
            if (place, step) != (2, 10):  # a look that was stopped
                lab.measure(place, step, "capitals", kept, n=32)
    models = {one.name: one for one in forgetting.chain(lab.session, lab.models[2])[1:]}
    score, kept = forgetting_export.learned_against_kept(models)
    assert (score, kept) == (1.0, {"taught": 0.25, "after": 0.25})


def test_a_borrowed_tokenizer_is_no_ancestor(lab):
    run = lab.session.get_one(Artifact, lab.models[0]).made_by
    now = queries.utc_now()
    lender = Artifact(kind="model", name="lender", folder="lender", created_at=now, ready_at=now)
    lab.session.add(lender)
    lab.session.flush()
    lab.session.add(Consumed(run=run, artifact=lender.id, field="tokenizer"))
    lab.session.flush()
    assert [one.name for one in forgetting.chain(lab.session, lab.models[1])] == ["base", "taught"]
