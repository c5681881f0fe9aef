"""JupyterLab on a private folder, and Chromium on it: what the browser tests share."""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Error, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
SHARED = ROOT.parent / "shared"  # research material beside a checkout
EXPLORER = ".cw-explorer"
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "apputils-extension/themes": {"theme": "JupyterLab Light"},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


class Server:
    "JupyterLab with its own settings on a free port; notebooks are written to `folder`. `theme`: Light or Dark."

    def __init__(self, folder: Path, theme: str = "Light", command: tuple[str, ...] = ("jupyter-lab",)):
        self.folder = folder / "notebooks"
        self.folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.base, self.token = f"http://127.0.0.1:{self.port}/", secrets.token_hex(16)
        for name, values in SETTINGS.items():
            path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values | ({"theme": f"JupyterLab {theme}"} if "theme" in values else {})))
        places = {
            f"JUPYTER{name}_DIR": str(folder / name) for name in ("_CONFIG", "_DATA", "_RUNTIME", "LAB_WORKSPACES")
        } | {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "IPYTHONDIR": str(folder / "ipython")}
        binaries = ROOT / ".venv" / "bin"
        self.log = open(folder / "server.log", "w")
        self.process = subprocess.Popen(
            [
                str(binaries / command[0]),
                *command[1:],
                "--no-browser",
                "--ip=127.0.0.1",
                f"--port={self.port}",
                "--ServerApp.port_retries=0",
                "--allow-root",
                f"--IdentityProvider.token={self.token}",
                f"--ServerApp.root_dir={self.folder}",
            ],
            env=os.environ | places | {"PATH": f"{binaries}:{os.environ['PATH']}", "OMP_NUM_THREADS": "2"},
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        for _ in range(240):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.base}api/status?token={self.token}", timeout=2)
                return
            time.sleep(0.25)
        raise RuntimeError((folder / "server.log").read_text())

    def notebook(self, name: str, *cells: str) -> str:
        "Write a notebook of code cells and return its name."
        document = {
            "cells": [
                {
                    "cell_type": "code",
                    "id": f"cell{number}",
                    "metadata": {},
                    "source": source,
                    "outputs": [],
                    "execution_count": None,
                }
                for number, source in enumerate(cells)
            ],
            "metadata": {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        (self.folder / name).write_text(json.dumps(document))
        return name

    def copy(self, notebook: Path, **parameters: object) -> str:
        "A copy of a notebook with other parameters; returns its name."
        document = json.loads(notebook.read_text())
        for cell in document["cells"]:
            if "parameters" in cell["metadata"].get("tags", []):
                cell["source"] = "".join(cell["source"]) + "".join(
                    f"\n{name} = {value!r}" for name, value in parameters.items()
                )
        (self.folder / notebook.name).write_text(json.dumps(document))
        return notebook.name

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.log.close()


NO_TROUBLE = (  # JupyterLab's own, at a restart; anywidget's own, of a part that it gives up and ours revives
    "restore the debugger state",
    "Canceled future",
    "Failed to initialize model",
)


class Lab:
    "A page on a server; `trouble` collects console errors, `outside` requests that left the server."

    def __init__(self, server: Server, browser, width: int = 1500, height: int = 1000):
        self.server, self.trouble, self.outside = server, [], set()
        self.context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page: Page = self.context.new_page()
        self.page.goto(f"{server.base}api?token={server.token}")  # the cookie of this browser
        self.page.on(
            "console",
            lambda message: (
                self.trouble.append(message.text[:300])
                if message.type == "error" and not any(own in message.text for own in NO_TROUBLE)
                else None
            ),
        )
        self.page.on(
            "pageerror",
            lambda error: (
                None if any(own in str(error) for own in NO_TROUBLE) else self.trouble.append(f"page: {error}"[:300])
            ),
        )
        here = (server.base, server.base.replace("http", "ws"), "data:", "blob:")
        self.page.on("request", lambda request: None if request.url.startswith(here) else self.outside.add(request.url))

    def open(self, name: str, end: str = "", mode: str = "doc") -> None:
        self.page.goto(f"{self.server.base}{mode}/tree/{name}{end}")
        self.page.locator(".jp-Notebook").first.wait_for(timeout=60000)
        self.idle()

    def idle(self, timeout: int = 240000) -> None:
        expect(self.page.locator(".jp-Notebook-ExecutionIndicator").first).to_have_attribute(
            "data-status", "idle", timeout=timeout
        )

    def run_all(self) -> None:
        self.page.locator(".jp-Notebook .jp-Cell").first.click()
        self.page.keyboard.press("Escape")
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_text("Run All Cells", exact=True).first.click()
        begun = self.page.locator(".jp-InputPrompt", has_text=re.compile(r"\[(\*|\d+)\]")).first
        try:
            begun.wait_for(timeout=5000)
        except Error:  # a slow machine may still have been building its menus, or asks which kernel
            asked = self.page.locator(".jp-Dialog .jp-mod-accept")
            asked.click() if asked.count() else self.page.keyboard.press("Escape")
            self.page.locator(".jp-Notebook .jp-Cell").first.click()
            self.page.keyboard.press("Escape")
            self.page.get_by_role("menuitem", name="Run", exact=True).click()
            self.page.get_by_text("Run All Cells", exact=True).first.click()
            begun.wait_for(timeout=20000)

    def attend(self, selector: str, calm: int = 5) -> None:
        """Give a part the focus, again where the notebook takes it for a cell that becomes the active one.

        Returns when the part has kept it for `calm` looks, a tenth of a second apart.
        """
        part, kept = self.page.locator(selector).first, 0
        for _ in range(150):
            kept = kept + 1 if part.evaluate("part => part === document.activeElement") else 0
            if kept > calm:
                return
            if not kept:
                part.focus()
            self.page.wait_for_timeout(100)
        raise AssertionError(f"{selector} does not keep the focus")

    def press(self, part: Locator) -> None:
        "A click of the mouse during which `part` is drawn anew, as happens where an answer comes in between."
        part.hover()  # tries again where the part is drawn anew meanwhile
        self.page.wait_for_timeout(150)
        self.page.mouse.down()
        part.evaluate("part => part.replaceWith((window.cwAnew = part.cloneNode(true), window.cwWas = part, cwAnew))")
        self.page.mouse.up()
        self.page.evaluate("() => window.cwAnew.isConnected && window.cwAnew.replaceWith(window.cwWas)")

    def start(self, code: str) -> None:
        "Run `code` in the last cell and do not wait."
        cell = self.page.locator(".jp-Notebook .jp-Cell").last
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Control+Enter")
        self.page.wait_for_timeout(300)

    def kernel(self, code: str) -> str:
        "What the last cell prints when `code` runs in the notebook's kernel."
        self.start(code)
        self.idle()
        return (
            self.page.locator(".jp-Notebook .jp-Cell")
            .last.locator(".jp-OutputArea-output")
            .inner_text(timeout=20000)
            .strip()
        )

    def value(self, expression: str):
        "A Python value of the kernel, through JSON."
        return json.loads(self.kernel(f"import json; print(json.dumps({expression}))"))

    def save(self) -> None:
        self.page.locator(".jp-Notebook .jp-Cell").last.locator(".cm-content").click()
        self.page.keyboard.press("Control+s")
        self.page.wait_for_timeout(1500)


@contextlib.contextmanager
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()
