"""The dashboard against an empty three-page Gradio app started in the same run: seconds, memory, first page drawn.

Aims: at most 1 s and 60 MB more; no torch; first page drawn within 1.5 s in Chromium.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

EMPTY = """
import gradio as gr
with gr.Blocks() as demo:
    gr.Markdown("one")
for name in ("two", "three"):
    with demo.route(name, "/" + name):
        gr.Markdown(name)
demo.launch(server_name="127.0.0.1", server_port={port}, quiet=True)
"""


def main() -> None:
    """Start both in turn, twice, and print the better of each."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
        found: dict[str, list[dict[str, float]]] = {"empty": [], "ours": []}
        for turn in range(2):
            port = _free_port()
            found["empty"].append(_measure([sys.executable, "-c", EMPTY.format(port=port)], port, environment, "one"))
            port = _free_port()
            words = [sys.executable, "-P", "-m", "engine", "ui", "--port", str(port), "--home", str(Path(folder) / str(turn))]
            found["ours"].append(_measure(words, port, environment, "Dianjing"))
    best = {name: {key: min(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()}
    more = {f"more_{key}": round(best["ours"][key] - best["empty"][key], 2) for key in best["ours"]}
    print(json.dumps({"bench": "dashboard", **{f"{n}_{k}": v for n, row in best.items() for k, v in row.items()}, **more}))


def _measure(words: list[str], port: int, environment: dict[str, str], text: str) -> dict[str, float]:
    started = time.perf_counter()
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}/"
        while not _answers(address):
            if process.poll() is not None or time.perf_counter() - started > 60:
                raise RuntimeError(f"{words} did not answer on {address}")
            time.sleep(0.02)
        up = time.perf_counter() - started
        drawn = _first_page(address, text)
        memory = psutil.Process(process.pid).memory_info().rss / 1e6
        used = psutil.Process(process.pid).cpu_times()
        return {"start_s": round(up, 2), "start_cpu_s": round(used.user + used.system, 2), "memory_mb": round(memory), "drawn_s": drawn}
    finally:
        for child in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            child.terminate()
        process.wait(20)


def _first_page(address: str, text: str) -> float:
    """Seconds from going there to its words being on the screen, the second time: the browser is warm, its cache is not."""
    from playwright.sync_api import sync_playwright

    took = 0.0
    with sync_playwright() as playwright:
        path = os.environ.get("DIANJING_CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-background-networking"])
        for _ in range(2):
            page = browser.new_context().new_page()
            started = time.perf_counter()
            page.goto(address)
            page.get_by_text(text).first.wait_for()
            took = time.perf_counter() - started
        browser.close()
    return round(took, 2)


def _answers(address: str) -> bool:
    try:
        return bool(urllib.request.urlopen(address, timeout=1).status == 200)
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main()
