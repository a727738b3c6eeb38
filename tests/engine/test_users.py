"""Passwords, tokens and patience: what is kept of them, and what guessing costs."""

import logging
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session, select
from typer.testing import CliRunner

from engine import users
from engine.__main__ import app
from engine.errors import UserError
from storage import people
from storage.queries import utc_now
from storage.tables import Attempt, SignIn, User

GOOD = "correct horse battery"


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """The real cost is checked once; here it would be minutes."""
    monkeypatch.setattr(users, "COST", (2**4, 8, 1))
    monkeypatch.setattr(users, "_NOBODY", users.hash_password("x" * 20))


@pytest.fixture
def ann(database):
    users.add(database, "ann", "owner", GOOD, utc_now())
    return database


def rows(database, table):
    with Session(database) as session:
        return session.exec(select(table)).all()


def test_a_hash_says_how_it_was_made_and_nothing_else(monkeypatch):
    monkeypatch.undo()
    one, other = users.hash_password(GOOD), users.hash_password(GOOD)
    assert one.startswith("scrypt$65536$8$2$")
    assert one != other, "every hash has its own salt"
    assert GOOD not in one


@given(st.text(min_size=10, max_size=40), st.text(min_size=10, max_size=40))
def test_only_the_same_password_matches(one, other):
    stored = users.hash_password(one)
    assert users._matches(one, stored)
    assert users._matches(other, stored) == (one == other)


def test_a_token_is_kept_as_a_hash_only_and_opens(ann):
    now = utc_now()
    token = users.sign_in(ann, "ann", GOOD, "1.2.3.4", now)
    assert token not in str(rows(ann, SignIn))
    with Session(ann) as session:
        assert users.visitor(session, token, now).name == "ann"
        assert users.visitor(session, token[:-1], now) is None
        assert users.visitor(session, token, now + users.STAYS) is None, "it expires"
    users.sign_out(ann, token)
    with Session(ann) as session:
        assert users.visitor(session, token, now) is None


@pytest.mark.parametrize("end", ["remove", "password"])
def test_a_sign_in_ends_with_its_user_or_password(ann, end):
    now = utc_now()
    users.add(ann, "bob", "rater", GOOD, now)
    token = users.sign_in(ann, "bob", GOOD, "here", now)
    if end == "remove":
        users.remove(ann, "bob")
    else:
        users.set_password(ann, "bob", GOOD + "!")
    with Session(ann) as session:
        assert users.visitor(session, token, now) is None
    assert not rows(ann, SignIn)


def test_ten_wrong_passwords_are_slowed_and_logged(ann, caplog):
    now, waits = utc_now(), []
    caplog.set_level(logging.WARNING)
    for _ in range(10):
        for _ in range(100):  # whoever is told to wait waits
            try:
                users.sign_in(ann, "ann", "wrong wrong wrong", "1.2.3.4", now)
            except users.Slowed as slowed:
                waits.append(slowed.seconds)
                now += timedelta(seconds=slowed.seconds)
            except UserError:
                break
    assert waits == [2, 4, 8, 16, 32]
    assert sum("a failed attempt to sign in as 'ann' from 1.2.3.4" in message for message in caplog.messages) == 10
    assert "wrong wrong" not in caplog.text
    with pytest.raises(users.Slowed):
        users.sign_in(ann, "ann", GOOD, "1.2.3.4", now)
    assert users.sign_in(ann, "ann", GOOD, "5.6.7.8", now), "somebody else's guesses do not lock the owner out elsewhere"
    later = now + users.REMEMBERED + timedelta(seconds=1)
    assert users.sign_in(ann, "ann", GOOD, "1.2.3.4", later)
    assert not rows(ann, Attempt), "old ones are forgotten"


def test_guessing_one_name_from_many_addresses_is_slowed_too(ann):
    now = utc_now()
    for n in range(users.FREE_BY_NAME):
        with pytest.raises(UserError, match="together"):
            users.sign_in(ann, "ann", "wrong wrong wrong", f"10.0.0.{n}", now)
    with pytest.raises(users.Slowed):
        users.sign_in(ann, "ann", GOOD, "10.0.1.1", now)


def test_a_stranger_and_a_wrong_password_look_the_same(ann):
    told = []
    for name in ("ann", "nobody"):
        with pytest.raises(UserError) as refused:
            users.sign_in(ann, name, "wrong wrong wrong", "here", utc_now())
        told.append(str(refused.value))
    assert told[0] == told[1]


def test_nobody_is_not_a_password(ann):
    """The hash that strangers are compared with opens nothing, and an invited user has no password yet."""
    with Session(ann) as session:
        session.add(User(name="new", role="rater", password_hash="", created_at=utc_now()))
        session.commit()
    for name in ("nobody", "new"):
        with pytest.raises(UserError):
            users.sign_in(ann, name, "x" * 20, "here", utc_now())


def test_a_link_works_once_and_for_a_day(ann):
    now = utc_now()
    token = users.invite(ann, "ann", now)
    with Session(ann) as session:
        assert users.visitor(session, token, now) is None, "a link is not a cookie"
        with pytest.raises(UserError, match="too old"):
            users.invited(session, token, now + users.LINK_STAYS)
    started = users.accept(ann, token, "another good one", now)
    with Session(ann) as session:
        assert users.visitor(session, started, now).name == "ann"
    with pytest.raises(UserError, match="used already"):
        users.accept(ann, token, "another good one", now)
    assert users.sign_in(ann, "ann", "another good one", "here", now)


def test_the_first_owner_of_a_container(database):
    now = utc_now()
    first = users.first_owner(database, None, now)
    again = users.first_owner(database, None, now)
    assert first
    assert again
    assert first != again, "a restart before it was used prints another link"
    users.accept(database, again, GOOD, now)
    assert users.first_owner(database, None, now) is None
    assert users.first_owner(database, "ignored later on", now) is None
    assert users.sign_in(database, "owner", GOOD, "here", now)


def test_the_password_of_the_environment_makes_the_owner(database):
    now = utc_now()
    assert users.first_owner(database, GOOD, now) is None
    assert users.sign_in(database, "owner", GOOD, "here", now)
    with pytest.raises(UserError, match="10 to 1000"):
        users.hash_password("short")


@pytest.mark.parametrize("name, role, password, word", [
    ("", "owner", GOOD, "no name"), ("a\nb", "owner", GOOD, "no name"), ("x" * 81, "owner", GOOD, "no name"),
    ("bob", "admin", GOOD, "no role"), ("bob", "owner", "short", "10 to 1000"), (" ann ", "owner", GOOD, "already"),
])  # fmt: skip
def test_what_cannot_be_added_says_why(ann, name, role, password, word):
    with pytest.raises(UserError, match=word):
        users.add(ann, name, role, password, utc_now())


def test_the_last_owner_stays(ann):
    with pytest.raises(UserError, match="last owner"):
        users.remove(ann, "ann")
    users.add(ann, "eve", "owner", GOOD, utc_now())
    users.remove(ann, "ann")
    with pytest.raises(UserError, match="there are: eve"):
        users.remove(ann, "ann")


def test_the_command(home, database):
    def run(*words, given=None):
        return CliRunner().invoke(app, ["user", *words, "--home", str(home.root)], input=given)

    assert run("add", "bob", "--role", "rater", "--password-stdin", given=GOOD + "\n").exit_code == 0
    assert "bob" in run("list").output
    assert run("password", "bob", given=f"{GOOD}2\n{GOOD}2\n").exit_code == 0
    assert "/welcome?token=" in run("link", "bob").output
    assert isinstance(run("add", "x", "--role", "king", "--password-stdin", given=GOOD + "\n").exception, UserError)
    assert run("remove", "bob").exit_code == 0
    with Session(database) as session:
        assert people.users(session) == []
