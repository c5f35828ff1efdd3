"""Pages and notebooks in a Chromium without a window, for the tests of the site.

It needs playwright (`pip install 'di3cl[dev]'`) and a Chromium on the path
(`apt-get install chromium`); `cannot_browse` says which of them is missing.
"""

import http.server
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

import nbformat

NAMES = "chromium", "chromium-browser", "google-chrome"
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
MISSING = """[...document.images].filter(i => i.complete && !i.naturalWidth)
    .map(i => i.src)"""
OVER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
WIDE = """() => {
  const scrolls = e => {
    for (let p = e.parentElement; p && p.tagName != 'MAIN'; p = p.parentElement)
      if (/auto|scroll|hidden/.test(getComputedStyle(p).overflowX)) return true;
  };
  return [...document.querySelectorAll('main *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e))
    .map(e => e.tagName + ' ' + e.textContent.slice(0, 60))[0];
}"""


def cannot_browse():
    "Say why there is no browser; empty: there is one."
    if not find_spec("playwright"):
        return "playwright is not installed: pip install 'di3cl[dev]'"
    return "" if CHROMIUM else "no Chromium on the path: apt-get install chromium"


@contextmanager
def open_browser():
    "Start a Chromium without a window."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def in_browser(work):
    "Call `work(browser)` in a thread: a notebook has an event loop already."
    def go():
        with open_browser() as browser:
            return work(browser)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(go).result()


def wrong_at(tab, address, width):
    "List what is wrong with a page at this width, and what it asks of other machines."
    said, here = [], address.partition("://")[2].partition("/")[0]

    def hear(message):
        if message.type == "error":
            said.append(message.text)

    def watch(request):
        scheme, _, rest = request.url.partition("://")
        if scheme.startswith("http") and rest.partition("/")[0] != here:
            said.append(f"asks for {request.url}")

    tab.on("console", hear)
    tab.on("request", watch)
    tab.set_viewport_size(dict(width=width, height=900))
    if tab.url != address:
        tab.goto(address)
    over = tab.evaluate(OVER)
    said += [f"no image {src}" for src in tab.evaluate(MISSING)]
    if over > 0:
        said.append(f"{over} pixels too wide at {width}: {tab.evaluate(WIDE)}")
    tab.remove_listener("console", hear)
    tab.remove_listener("request", watch)
    return said


@contextmanager
def served(folder, path="di3cl"):
    "Serve a folder on this machine under the path of the site; yield its address."
    with tempfile.TemporaryDirectory() as top:
        (Path(top) / path).symlink_to(folder)

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=top)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(server.serve_forever)
            try:
                yield f"http://127.0.0.1:{server.server_port}/{path}/"
            finally:
                server.shutdown()
                server.server_close()


def lab_words(folder, port):
    "Return the command that starts a JupyterLab."
    return [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
        "--expose-app-in-browser", f"--port={port}", "--ip=127.0.0.1",
        f"--ServerApp.root_dir={folder}", "--IdentityProvider.token="]


def lab_environment(folder):
    "Return an environment in which a JupyterLab touches nothing outside the folder."
    env = os.environ | {"OMP_WAIT_POLICY": "passive"}
    for kind in ("CONFIG", "DATA", "RUNTIME"):
        env[f"JUPYTER_{kind}_DIR"] = f"{folder}/.jupyter/{kind.lower()}"
    for name in ("PYTEST_CURRENT_TEST", "MPLBACKEND"):
        env.pop(name, None)
    return env


@contextmanager
def jupyterlab(sources):
    "Open a notebook with these cells in a JupyterLab of its own; yield its address."
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        kernel = dict(name="python3", display_name="python3", language="python")
        nb = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(c) for c in sources],
            metadata=dict(kernelspec=kernel))
        nbformat.write(nb, Path(folder) / "hands_on.ipynb")
        server = subprocess.Popen(
            lab_words(folder, port), env=lab_environment(folder),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(300):
                try:
                    urlopen(f"http://127.0.0.1:{port}/api").close()
                    break
                except OSError:
                    assert server.poll() is None, "JupyterLab did not start"
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/doc/tree/hands_on.ipynb"
        finally:
            server.terminate()
            server.wait()
