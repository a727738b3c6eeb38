"""People who sign in: passwords hashed with scrypt, tokens kept as hashes only, and guessing made slow.

Whoever sits at the machine needs none of this; it is for addresses that others can reach.
"""

import hashlib
import hmac
import logging
import secrets
from base64 import b64decode, b64encode
from datetime import datetime, timedelta

from sqlalchemy import Engine
from sqlmodel import Session

from engine.errors import UserError
from storage import people
from storage.database import transaction
from storage.people import OWNER, RATER
from storage.tables import Attempt, SignIn, User

log = logging.getLogger(__name__)

ROLES = (OWNER, RATER)
SHORTEST, LONGEST = 10, 1000  # characters of a password
COST = 2**16, 8, 2  # scrypt's n, r and p: OWASP's second choice, 64 MiB
STAYS = timedelta(days=30)  # a sign-in
LINK_STAYS = timedelta(days=1)
REMEMBERED = timedelta(minutes=30)  # failed attempts
FREE, FREE_BY_NAME = 5, 20  # failures from one address, and for one name from anywhere, before the wait begins
LONGEST_WAIT = 60.0  # seconds


class Slowed(UserError):
    """Too many failed attempts; `seconds` until the next one is looked at."""

    def __init__(self, seconds: float) -> None:
        super().__init__("too many failed attempts: try again in {seconds} s", seconds=max(1, round(seconds)))
        self.seconds = max(1, round(seconds))


def add(database: Engine, name: str, role: str, password: str, now: datetime) -> None:
    """Let somebody in from now on. Raises UserError for a name that is taken or empty, a role there is not, a weak password."""
    _check(name, role)
    hashed = hash_password(password)
    with transaction(database) as session:
        _add(session, name, role, hashed, now)


def add_invited(database: Engine, name: str, role: str, now: datetime) -> str:
    """Let somebody in who sets a password of their own: the token of their one-time link, as `invite` gives. Raises UserError.

    Whoever has this role and has set none yet gets another link.
    """
    _check(name, role)
    with transaction(database) as session:
        user = people.user_named(session, name.strip())
        if user is None or user.role != role or user.password_hash:
            _add(session, name, role, "", now)
    return invite(database, name.strip(), now)


def remove(database: Engine, name: str) -> None:
    """Let somebody in no longer, from this moment. Raises UserError for a stranger, and for the last owner."""
    with transaction(database) as session:
        user = _existing(session, name)
        if user.role == OWNER and len(people.users(session, OWNER)) == 1:
            raise UserError("{name} is the last owner: add another owner first", name=repr(name))
        people.sign_out_everywhere(session, user.id or 0)
        session.delete(user)


def set_password(database: Engine, name: str, password: str) -> None:
    """Give a user another password, which ends all their sign-ins. Raises UserError."""
    hashed = hash_password(password)
    with transaction(database) as session:
        user = _existing(session, name)
        user.password_hash = hashed
        people.sign_out_everywhere(session, user.id or 0)


def invite(database: Engine, name: str, now: datetime) -> str:
    """A token for an address at which a user sets a password of their own, once, within a day. Raises UserError."""
    token = secrets.token_urlsafe(32)
    with transaction(database) as session:
        user = _existing(session, name)
        session.add(SignIn(token_hash=_hashed(f"link {token}"), user=user.id or 0, created_at=now, expires_at=now + LINK_STAYS))
    return token


def first_owner(database: Engine, password: str | None, now: datetime) -> str | None:
    """Make the first owner, named owner, if there is none yet: with this password, or else with a one-time token, returned."""
    with Session(database) as session:
        owners = people.users(session, OWNER)
        waiting = next((user for user in owners if not user.password_hash), None)
    if password and (not owners or waiting):
        if waiting:
            set_password(database, waiting.name, password)
        else:
            add(database, OWNER, OWNER, password, now)
        return None
    if not owners:
        with transaction(database) as session:
            session.add(User(name=OWNER, role=OWNER, password_hash="", created_at=now))
        return invite(database, OWNER, now)
    return invite(database, waiting.name, now) if waiting else None


def sign_in(database: Engine, name: str, password: str, address: str, now: datetime) -> str:
    """The token of a new sign-in. Slow by design: not for an event loop.

    Raises Slowed after too many failures, and UserError, the same for an unknown name and a wrong password.
    """
    name = name.replace("\0", "")[:200]  # which Postgres does not store
    with Session(database) as session:
        if wait := _wait(session, name, address, now):
            raise Slowed(wait)
        user = people.user_named(session, name)
    stored = user.password_hash if user and user.password_hash else _NOBODY
    right = _matches(password, stored) and stored != _NOBODY
    with transaction(database) as session:
        people.forget_old(session, now, REMEMBERED)
        if user is None or not right:
            session.add(Attempt(at=now, name=name, address=address))
            log.warning("a failed attempt to sign in as %r from %s", name, address)
        else:
            return _begin(session, user, now)
    raise UserError("this name and password do not go together")


def accept(database: Engine, token: str, password: str, now: datetime) -> str:
    """Set a password with a one-time token; the token of a new sign-in. Raises UserError for a used or old one."""
    hashed = hash_password(password)
    with transaction(database) as session:
        user = invited(session, token, now)
        user.password_hash = hashed
        people.sign_out_everywhere(session, user.id or 0)
        session.flush()
        return _begin(session, user, now)


def invited(session: Session, token: str, now: datetime) -> User:
    """Who may set a password with this token. Raises UserError."""
    user = people.signed_in(session, _hashed(f"link {token}"), now)
    if user is None:
        raise UserError("this link was used already or is too old: ask an owner for another one")
    return user


def visitor(session: Session, token: str, now: datetime) -> User | None:
    """Who this browser belongs to."""
    return people.signed_in(session, _hashed(token), now)


def sign_out(database: Engine, token: str) -> None:
    """End one sign-in."""
    with transaction(database) as session:
        if row := session.get(SignIn, _hashed(token)):
            session.delete(row)


def hash_password(password: str) -> str:
    """scrypt with its parameters and salt. Raises UserError for a password that is too short to be one."""
    if not SHORTEST <= len(password) <= LONGEST:
        message = "a password has {shortest} to {longest} characters, and this one has {n}"
        raise UserError(message, field="password", shortest=SHORTEST, longest=LONGEST, n=len(password))
    salt = secrets.token_bytes(16)
    n, r, p = COST
    return f"scrypt${n}${r}${p}${b64encode(salt).decode()}${b64encode(_scrypt(password, salt, n, r, p)).decode()}"


def _matches(password: str, stored: str) -> bool:
    _, n, r, p, salt, wanted = stored.split("$")
    return hmac.compare_digest(_scrypt(password, b64decode(salt), int(n), int(r), int(p)), b64decode(wanted))


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


# Compared with when there is no such user, so that it takes as long.
_NOBODY = f"scrypt${COST[0]}${COST[1]}${COST[2]}${b64encode(bytes(16)).decode()}${b64encode(bytes(32)).decode()}"


def _wait(session: Session, name: str, address: str, now: datetime) -> float:
    waits = []
    for free, told in ((FREE, {"address": address}), (FREE_BY_NAME, {"name": name})):
        count, last = people.failures(session, now, REMEMBERED, **told)
        if count >= free and last:
            waits.append(min(LONGEST_WAIT, 2.0 ** (count - free + 1)) - (now - last).total_seconds())
    return max([0.0, *waits])


def _begin(session: Session, user: User, now: datetime) -> str:
    token = secrets.token_urlsafe(32)
    session.add(SignIn(token_hash=_hashed(token), user=user.id or 0, created_at=now, expires_at=now + STAYS))
    return token


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _check(name: str, role: str) -> None:
    if role not in ROLES:
        raise UserError("there is no role {role}: choose owner or rater", field="role", role=repr(role))
    if not name.strip() or len(name) > 80 or not name.isprintable():
        raise UserError("{name} is no name for a user: type 1 to 80 visible characters", field="name", name=repr(name[:90]))


def _add(session: Session, name: str, role: str, hashed: str, now: datetime) -> None:
    if people.user_named(session, name.strip()):
        raise UserError("there is already a user named {name}: choose another name", field="name", name=repr(name.strip()))
    session.add(User(name=name.strip(), role=role, password_hash=hashed, created_at=now))


def _existing(session: Session, name: str) -> User:
    user = people.user_named(session, name)
    if user is None:
        known = ", ".join(one.name for one in people.users(session)) or "nobody yet"
        raise UserError("there is no user named {name}; there are: {known}", field="name", name=repr(name), known=known)
    return user
