"""The Compare page: what stands in its address comes back, and every figure follows from the rows."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session, select

from app.pages import Place, compare, compare_address
from engine.errors import UserError
from storage.answers import column_named
from storage.queries import utc_now
from storage.tables import Artifact, Response
from tests.answers import add_answers
from tests.app.test_wording import texts

WORDS = st.text(max_size=20)
SOME = st.fixed_dictionaries(
    {
        "answers": st.lists(st.from_regex(r"\A[0-9]{1,4}-s?[0-9]{1,3}\Z"), max_size=4),
        "words": WORDS, "tag": WORDS, "pin": WORDS, "at": WORDS,
        "only": st.sampled_from(["all", "changed", "cut", "lost"]), "sample": st.integers(0, 9), "rows": st.sampled_from([1, 10]),
        "plain": st.sampled_from([0, 1]), "base": WORDS,
        "measures": st.lists(st.tuples(st.just("regex"), st.lists(WORDS, max_size=2)).map(list), max_size=4),
    }
)  # fmt: skip


@given(SOME)
def test_an_address_says_all_that_is_shown(known) -> None:
    address = compare_address.address(known)
    assert compare_address.read(dict(parse_qsl(urlsplit(address).query))) == known


@given(st.dictionaries(st.sampled_from(["answers", *compare_address.DEFAULTS]), WORDS))
def test_an_address_that_makes_no_sense_still_opens(given_) -> None:
    known = compare_address.read(given_)
    assert set(known) == {"answers", *compare_address.DEFAULTS}
    assert isinstance(known["rows"], int)
    assert isinstance(known["measures"], list)


@pytest.fixture
def place(database, home) -> Place:
    return Place(database, home)


def opened(keys: list[str], **more) -> dict:
    return {**compare_address.read({"answers": ",".join(keys), **more}), "draft": "", "read": "", "picked": []}


def test_the_root_of_the_lineage_is_the_baseline_however_the_address_orders_them(place) -> None:
    base, child = add_answers(place.database, 2, 4)
    told = texts(compare.tree(place, opened([child, base])))
    assert told.index("model 0") < told.index("model 1")
    told = texts(compare.tree(place, opened([child, base], base=child)))
    assert told.index("model 1") < told.index("model 0")


def test_previous_and_next_walk_through_what_fits(place) -> None:
    keys = add_answers(place.database, 2, 10)
    known = opened(keys, words="question 7")
    assert "1 of 1" in texts(compare.tree(place, known))
    known = opened(keys, tag="third")
    assert "1 of 4" in texts(compare.tree(place, known))
    nothing = texts(compare.tree(place, opened(keys, words="nowhere")))
    assert "No prompt fits." in nothing


def test_lost_and_gained_follow_the_measure(place) -> None:
    keys = add_answers(place.database, 2, 10, lambda model, n: f"answer {n} of model {0 if n < 3 else model}")
    known = opened(keys, measures='[["exact_match", []]]', only="lost", rows="10")
    told = texts(compare.tree(place, known))
    assert "1 to 7 of 7" in told
    assert "100%" in told
    assert "30%" in told
    assert "No prompt fits." in texts(compare.tree(place, opened(keys, measures='[["exact_match", []]]', only="gained")))


def test_each_of_several_answers_to_a_prompt_can_be_read(place) -> None:
    keys = add_answers(place.database, 2, 3)
    assert "answer 2" not in texts(compare.tree(place, opened(keys)))
    more = add_answers(place.database, 1, 3)
    with Session(place.database) as session:
        column, _ = column_named(session, more[0])
        first = session.exec(select(Response).where(Response.run == column.run)).first()
        session.add(Response(**(first.model_dump(exclude={"id"}) | {"sample": 1, "answer": "the other one"})))
        session.commit()
    assert "answer 2" in texts(compare.tree(place, opened(more)))
    known = opened(more)
    compare.do({"name": "sample", "to": 1}, known)
    told = texts(compare.tree(place, known))
    assert "the other one" in told
    assert "1 of 1" in told


def test_a_bad_pattern_is_refused_and_the_page_stays(place) -> None:
    keys = add_answers(place.database, 2, 2)
    known = opened(keys)
    known["draft"] = "regex"
    with pytest.raises(UserError):
        compare.do({"name": "measure", "value": "(("}, known)
    assert known["measures"] == []
    told = " ".join(texts(compare.tree(place, opened(keys, plain="1", measures='[["regex", ["(("]]]'))))
    assert "question 0" in told
    assert "answer 0 of model 1" in told


def test_what_is_deleted_says_what_made_it(place) -> None:
    keys = add_answers(place.database, 2, 2)
    with Session(place.database) as session:
        column, row = column_named(session, keys[1])
        assert column
        assert row
        row.deleted_at = utc_now()
        session.commit()
        run = row.made_by
    told = " ".join(texts(compare.tree(place, opened(keys))))
    assert "Answers of model 1 was deleted" in told
    assert f"{run} Generate" in told
    assert "answer 0 of model 0" in told
    alone = " ".join(texts(compare.tree(place, opened([keys[1]]))))
    assert f"{run} Generate" in alone


def test_answers_outlive_their_model(place) -> None:
    keys = add_answers(place.database, 2, 2)
    with Session(place.database) as session:
        column, _ = column_named(session, keys[1])
        session.get_one(Artifact, column.model).deleted_at = utc_now()
        session.commit()
    told = texts(compare.tree(place, opened(keys, plain="1")))
    assert "this model was deleted" in told
    assert "answer 0 of model 1" in told


def test_answers_to_other_prompts_are_not_laid_beside_each_other(place) -> None:
    one = add_answers(place.database, 1, 2)
    other = add_answers(place.database, 1, 2, ask=lambda n: f"something else {n}")
    told = texts(compare.tree(place, opened([one[0], other[0]])))
    assert "These answers share no prompt: choose answers to the same prompts." in told


def test_only_a_page_of_ten_thousand_is_read(place) -> None:
    keys = add_answers(place.database, 2, 10_000, lambda model, n: f"answer {n} of model {model} " + "x" * 50)
    told = texts(compare.tree(place, opened(keys, rows="10", plain="1")))
    assert sum(text.startswith("answer ") for text in told) == 20  # two columns of ten
    assert "1 to 10 of 10,000" in told


ACTIONS = "at pin tag only base read rows plain sample words add remove scorer measure unmeasure pick x".split()


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_take_any_value(place, name) -> None:
    keys = add_answers(place.database, 2, 2)
    for value in ("", "x", "999", None, -1):
        known = opened(keys)
        try:
            compare.do({"name": name, "value": value, "model": 1}, known)
        except UserError:
            continue
        assert compare.tree(place, known)
