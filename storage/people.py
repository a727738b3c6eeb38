"""Who may come in: users, the browsers they signed in with, and the attempts that failed. The clock is an argument."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func
from sqlmodel import Session, col, select

from storage.tables import Attempt, SignIn, User

OWNER, RATER = "owner", "rater"


def users(session: Session, role: str | None = None) -> Sequence[User]:
    """Everybody, by name."""
    query = select(User).order_by(User.name)
    return session.exec(query.where(User.role == role) if role else query).all()


def user_named(session: Session, name: str) -> User | None:
    """The user of this name."""
    return session.exec(select(User).where(User.name == name)).first()


def signed_in(session: Session, token_hash: str, now: datetime) -> User | None:
    """Whose token this is, unless it has expired."""
    return session.exec(select(User).join(SignIn).where(SignIn.token_hash == token_hash, col(SignIn.expires_at) > now)).first()


def sign_out_everywhere(session: Session, user: int) -> None:
    """End all of a user's sign-ins, and links not used yet."""
    session.execute(delete(SignIn).where(col(SignIn.user) == user))


def failures(
    session: Session, now: datetime, within: timedelta, name: str | None = None, address: str | None = None
) -> tuple[int, datetime | None]:
    """How many attempts failed lately, by name, address or both; and when the last one did."""
    query = select(func.count(), func.max(col(Attempt.at))).where(col(Attempt.at) > now - within)
    if name is not None:
        query = query.where(Attempt.name == name)
    if address is not None:
        query = query.where(Attempt.address == address)
    return session.exec(query).one()


def forget_old(session: Session, now: datetime, attempts: timedelta) -> None:
    """Drop attempts that slow nobody down any more, and sign-ins that have expired."""
    session.execute(delete(Attempt).where(col(Attempt.at) < now - attempts))
    session.execute(delete(SignIn).where(col(SignIn.expires_at) < now))
