"""The dashboard: pages on real addresses, served to this machine, beside a dispatcher that outlives it."""

import logging
import os
import socket
import threading
import time
import warnings
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import typer
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from app import access, downloads
from app.pages import Place, compare, corrections, curate, forgetting, home, label, library, new, rankings, report, runs
from app.view import ASSETS
from app.wording import say
from engine import dispatcher, users
from engine.errors import UserError
from storage import people, queries
from storage.files import Home, forget_old

log = logging.getLogger(__name__)

FONTS = ["ui-sans-serif", "system-ui", "Noto Sans", "Noto Sans CJK SC", "sans-serif"]


def build(database: Engine, home_: Home) -> gr.Blocks:
    """All pages."""
    place = Place(database, home_)
    demo = gr.Blocks(title="Dianjing", analytics_enabled=False)
    with demo:
        gr.Navbar(main_page_name=say("Home"))
        home.build(place, demo)
    for name, address, page in (
        (say("New run"), "/new", new),
        (say("Runs"), "/runs", runs),
        (say("Compare"), "/compare", compare),
        (say("Rankings"), "/rankings", rankings),
        (say("Forgetting"), "/forgetting", forgetting),
        (say("Reports"), "/report", report),
        (say("Library"), "/library", library),
    ):
        with demo.route(name, address):
            page.build(place, demo)
    with demo.route(say("Corrections"), "/corrections", show_in_navbar=False):
        corrections.build(place, demo)
    with demo.route(say("Curate"), "/curate", show_in_navbar=False):
        curate.build(place, demo)
    return demo


def application(database: Engine, home_: Home, login: bool) -> FastAPI:
    """Everything that is served, behind one gate: the raters' app, the owners' app, and the files that leave it.

    A new address needs nothing of its own to be safe: what is not under /label is for owners.
    """
    served = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    served.include_router(downloads.routes(Place(database, home_)))
    look: dict[str, Any] = {
        "theme": gr.themes.Base(font=FONTS, font_mono=["ui-monospace", "monospace"]), "css_paths": [ASSETS / "style.css"],
        "footer_links": [], "run_history": False, "ssr_mode": False,
    }  # fmt: skip
    warnings.filterwarnings("ignore", message="SSR mode is not supported")  # said of every app with pages, even when it is off
    raters, owners = label.build(Place(database, home_)), build(database, home_)
    ranking = look | {"css_paths": [ASSETS / "style.css", ASSETS / "rank.css"]}
    gr.mount_gradio_app(served, raters, "/label", auth_dependency=access.anyone, max_file_size="1kb", **ranking)
    gr.mount_gradio_app(
        served, owners, "/", auth_dependency=access.owner, max_file_size="2gb", favicon_path=ASSETS / "logo.svg", **look,
    )  # fmt: skip
    served.add_middleware(access.Gate, database=database, login=login)
    return served


def serve(database: Engine, home_: Home, host: str, port: int, keep_spare: bool = True) -> None:
    """Serve until interrupted. Raises UserError for an address others can reach while nobody can sign in, and for a port in use."""
    login = not access.is_loopback(host)
    invitation = _let_the_owner_in(database, host, port) if login else None
    if not _free(host, port):
        other = next((p for p in range(port + 1, port + 100) if _free(host, p)), 0)
        raise UserError("port {port} on {host} is in use; try --port {other}", port=port, host=host, other=other)
    os.environ["GRADIO_TEMP_DIR"] = str(home_.incoming)
    web = application(database, home_, login)
    threading.Thread(target=_keep_dispatching, args=(database, home_, keep_spare), daemon=True).start()
    threading.Thread(target=_keep_tidy, args=(home_,), daemon=True).start()
    server = uvicorn.Server(uvicorn.Config(web, host=host, port=port, log_level="warning", timeout_graceful_shutdown=1))
    shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/"
    threading.Thread(target=_announce, args=(server, address, home_, invitation), daemon=True).start()
    server.run()


def _let_the_owner_in(database: Engine, host: str, port: int) -> str | None:
    """In a container the first owner comes by DIANJING_OWNER_PASSWORD or a one-time link, whose token is returned. Raises UserError."""
    password = os.environ.pop("DIANJING_OWNER_PASSWORD", None)  # no run needs to know it
    if os.environ.get("DIANJING_CONTAINER"):
        try:
            return users.first_owner(database, password, queries.utc_now())
        except UserError as refused:
            raise UserError(refused.message, field="DIANJING_OWNER_PASSWORD", **refused.values) from None
    with Session(database) as session:
        if not any(owner.password_hash for owner in people.users(session, people.OWNER)):
            message = (
                "{host} can be reached by others, and nobody could sign in: run `dianjing user add NAME --role owner` first, "
                "or listen on 127.0.0.1, which other machines reach by `ssh -L {port}:127.0.0.1:{port}`"
            )
            raise UserError(message, host=host, port=port)
    return None


def _announce(server: uvicorn.Server, address: str, home_: Home, invitation: str | None) -> None:
    while not server.started:
        time.sleep(0.05)
    typer.echo(say("Dianjing is open at {address} (home: {home}). Ctrl-C closes it; training goes on.", address=address, home=home_.root))
    if invitation:
        link = f"{address}welcome?token={invitation}"
        typer.echo(say("Nobody can sign in yet. The first owner sets a password here, once, within a day: {link}", link=link))


def _keep_dispatching(database: Engine, home_: Home, keep_spare: bool) -> None:
    """Start a dispatcher when none is alive, now and whenever it dies."""
    while True:
        try:
            with Session(database) as session:
                alive = dispatcher.dispatching(session)
            if not alive:
                dispatcher.start_dispatcher(home_, keep_spare).wait()  # it leaves at once if another one was faster
        except (OperationalError, OSError):  # a full disk, a database that restarts: look again
            log.exception("the dispatcher cannot be started")
        time.sleep(2)


def _keep_tidy(home_: Home) -> None:
    """Uploads are copied to where they belong at once; what is left behind, broken off ones too, goes after an hour."""
    while True:
        forget_old(home_.incoming, time.time() - 3600)
        time.sleep(600)


def _free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
