"""Who may see what: one gate in front of everything that is served, so that no page or event can forget to ask.

Pages of owners and of raters are two apps on two paths, and the path alone decides. On a loopback address whoever
reaches it sits at the machine and is its owner; there the gate keeps out other sites that use the person's browser.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable
from datetime import datetime
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlsplit

from sqlalchemy import Engine
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import access_pages as pages
from app.pages import LOCAL
from app.wording import error, say
from engine import users
from engine.errors import UserError
from engine.users import Slowed
from storage import queries
from storage.people import OWNER
from storage.tables import User

log = logging.getLogger(__name__)

COOKIE = "dianjing"
DOORS = ("/login", "/logout", "/welcome")
FORM_BYTES = 10_000
RATERS_MAY = {"app_id", "cancel", "heartbeat", "info", "queue", "reset", "run", "startup-events"}  # events, and no files
HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "SAMEORIGIN", "Referrer-Policy": "same-origin"}


class Gate:
    """ASGI middleware: signs people in and out, and lets a request through or says why not."""

    def __init__(self, app: ASGIApp, database: Engine, login: bool, now: Callable[[], datetime] = queries.utc_now) -> None:
        self.app, self.database, self.login, self.now = app, database, login, now
        self.one_password = asyncio.Lock()  # each takes 64 MiB to look at, and guesses side by side would not slow each other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it here, or pass it on with the user's name and role in the scope's state."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})  # nothing here speaks over websockets
        request = Request(scope, receive)
        if scope["path"] == "/health":
            answer: Response | None = PlainTextResponse("ok")
        else:
            answer = None if _for_all(scope["path"]) else self._stranger(request) or await self._answer(request)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        return await (answer or self.app)(scope, receive, guarded)

    async def _answer(self, request: Request) -> Response | None:
        path = request.scope["path"]  # what the router goes by; request.url is put together from what the visitor sent
        if path == "/label":  # an app is mounted at its path and a slash
            return RedirectResponse("/label/", 307)
        if not self.login:
            return RedirectResponse("/", 303) if path in DOORS else _known(request.scope, LOCAL, OWNER)
        if path in ("/login", "/welcome"):
            return await (self._login(request) if path == "/login" else self._welcome(request))
        user = self._visitor(request)
        page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if user is None:
            if page:
                wanted = path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(f"/login?next={quote(wanted, safe='/')}", 303)
            return PlainTextResponse(say("sign in first"), 401)
        if path == "/logout":
            return self._logout(request)
        if user.role != OWNER and not _for_raters(path):
            return RedirectResponse("/label/", 303) if page else PlainTextResponse(say("this is for owners only"), 403)
        return _known(request.scope, user.name, user.role)

    def _stranger(self, request: Request) -> Response | None:
        """Refuse what another site makes the person's browser send."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not self.login and not is_loopback(_name(host)):
            text = say("Dianjing answers here to the names of this machine only, such as localhost, and was called {host}", host=host[:200])
            return PlainTextResponse(text, 403)
        posted = request.method not in ("GET", "HEAD", "OPTIONS") and origin and origin.partition("://")[2] != host
        embedded = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if posted or (embedded and request.headers.get("sec-fetch-mode") != "navigate"):
            return PlainTextResponse(say("this was sent by another site, {origin}, and is refused", origin=(origin or "")[:200]), 403)
        return None

    def _visitor(self, request: Request) -> User | None:
        token = _token(request)
        if not token:
            return None
        with Session(self.database) as session:
            return users.visitor(session, token, self.now())

    async def _login(self, request: Request) -> Response:
        wanted = _local(request.query_params.get("next", ""))
        if request.method != "POST":
            return HTMLResponse(pages.login(wanted))
        form = await _form(request)
        name, password, address = form.get("name", ""), form.get("password", ""), request.client.host if request.client else ""
        try:
            async with self.one_password:
                token = await run_in_threadpool(users.sign_in, self.database, name, password, address, self.now())
        except Slowed as slowed:
            told = HTMLResponse(pages.login(wanted, name, error(slowed)), 429)
            told.headers["Retry-After"] = str(slowed.seconds)
            return told
        except UserError as refused:
            return HTMLResponse(pages.login(wanted, name, error(refused)), 403)
        return _with_cookie(RedirectResponse(wanted, 303), token, request)

    async def _welcome(self, request: Request) -> Response:
        """A one-time link: choose a password, and be signed in."""
        token = request.query_params.get("token", "")
        try:
            with Session(self.database) as session:
                name = users.invited(session, token, self.now()).name
        except UserError as refused:
            return HTMLResponse(pages.message(error(refused)), 410)
        if request.method != "POST":
            return HTMLResponse(pages.welcome(name))
        form = await _form(request)
        try:
            if form.get("password") != form.get("again"):
                raise UserError("the two passwords differ: type the same one twice")
            async with self.one_password:
                started = await run_in_threadpool(users.accept, self.database, token, form.get("password", ""), self.now())
        except UserError as refused:
            return HTMLResponse(pages.welcome(name, error(refused)), 422)
        return _with_cookie(RedirectResponse("/", 303), started, request)

    def _logout(self, request: Request) -> Response:
        if request.method != "POST":
            return HTMLResponse(pages.logout())
        users.sign_out(self.database, _token(request))
        told = RedirectResponse("/login", 303)
        told.delete_cookie(COOKIE)
        return told


def owner(request: Request) -> str | None:
    """The name of the owner who asks; None, which Gradio refuses, for everybody else."""
    return anyone(request) if request.scope.get("state", {}).get("role") == OWNER else None


def anyone(request: Request) -> str | None:
    """The name of whoever asks."""
    name = request.scope.get("state", {}).get("user")
    return str(name) if name else None


def _known(scope: Scope, name: str, role: str) -> Response | None:
    """Say who asks, and let it through."""
    scope.setdefault("state", {}).update(user=name, role=role)
    return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can be meant."""
    try:
        return host == "localhost" or host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _for_all(path: str) -> bool:
    """What the pages of all roles are drawn with."""
    return path == "/favicon.ico" or path.startswith("/look/")


def _for_raters(path: str) -> bool:
    """The label pages and their events. Gradio would also give files, fetch addresses and take uploads: nobody there needs it."""
    event = path.partition("/gradio_api/")[2]
    return path.startswith("/label/") and (not event or event.split("/")[0] in RATERS_MAY)


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _token(request: Request) -> str:
    try:
        found = SimpleCookie(Headers(scope=request.scope).get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _local(address: str) -> str:
    """Where to go after signing in: only to a page of ours."""
    fine = address.startswith("/") and address[1:2] not in ("/", "\\") and address.isprintable()
    return address if fine and urlsplit(address).path not in DOORS else "/"


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form."""
    read = b""
    async for chunk in request.stream():
        read += chunk
        if len(read) > FORM_BYTES:
            return {}
    return dict(parse_qsl(read.decode(errors="replace"), keep_blank_values=True))


def _with_cookie(told: Response, token: str, request: Request) -> Response:
    told.set_cookie(
        COOKIE, token, max_age=int(users.STAYS.total_seconds()), httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )
    return told
