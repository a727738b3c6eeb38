"""The dashboard: pages on real addresses, served to this machine, beside a dispatcher that outlives it."""

import ipaddress
import logging
import os
import socket
import threading
import time

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import typer
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from app.live import PLOTLY
from app.pages import Place, compare, home, library, new, report, runs
from app.view import ASSETS
from app.wording import say
from engine import dispatcher
from engine.errors import UserError
from storage.files import Home

log = logging.getLogger(__name__)

FONTS = ["ui-sans-serif", "system-ui", "Noto Sans", "Noto Sans CJK SC", "sans-serif"]


def build(database: Engine, home_: Home) -> gr.Blocks:
    """All pages."""
    place = Place(database, home_)
    gr.set_static_paths(paths=[ASSETS, PLOTLY])
    demo = gr.Blocks(title="Dianjing", analytics_enabled=False)
    with demo:
        gr.Navbar(main_page_name=say("Home"))
        home.build(place, demo)
    for name, address, page in (
        (say("New run"), "/new", new),
        (say("Runs"), "/runs", runs),
        (say("Compare"), "/compare", compare),
        (say("Reports"), "/report", report),
        (say("Library"), "/library", library),
    ):
        with demo.route(name, address):
            page.build(place, demo)
    return demo


def serve(database: Engine, home_: Home, host: str, port: int, keep_spare: bool = True) -> None:
    """Serve until interrupted. Raises UserError for an address others can reach, and for a port in use."""
    if not _loopback(host):
        message = "{host} can be reached by others, and there is no login yet: use 127.0.0.1, and ssh -L {port}:127.0.0.1:{port} elsewhere"
        raise UserError(message, host=host, port=port)
    if not _free(host, port):
        other = next((p for p in range(port + 1, port + 100) if _free(host, p)), 0)
        raise UserError("port {port} on {host} is in use; try --port {other}", port=port, host=host, other=other)
    demo = build(database, home_)
    threading.Thread(target=_keep_dispatching, args=(database, home_, keep_spare), daemon=True).start()
    _, address, _ = demo.launch(
        server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, footer_links=[], run_history=False, share=False,
        theme=gr.themes.Base(font=FONTS, font_mono=["ui-monospace", "monospace"]), css_paths=[ASSETS / "style.css"],
        favicon_path=ASSETS / "logo.svg", allowed_paths=[str(home_.root / "artifacts")], ssr_mode=False, max_file_size="2gb",
    )  # fmt: skip
    typer.echo(say("Dianjing is open at {address} (home: {home}). Ctrl-C closes it; training goes on.", address=address, home=home_.root))
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        demo.close()


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


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
