"""A real browser for tests, driven over its own debugging protocol; tests skip where there is none."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

SECONDS = 30
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
    "--no-first-run", "--disable-component-update", "--disable-default-apps", "--remote-debugging-port=0",
    "--window-size=1400,850", "--disable-dev-shm-usage", "about:blank",
)  # fmt: skip


class Page:
    """One page. `requests` are the addresses it asked for, `problems` what its console complained about."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.requests: list[str] = []
        self.problems: list[str] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer; what happens meanwhile is noted."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv(timeout=SECONDS))
            if said.get("id") == number:
                assert "error" not in said, said
                return said["result"]
            self._note(said)

    def _note(self, said: dict[str, Any]) -> None:
        parts = said.get("params", {})
        match said.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(parts["request"]["url"])
            case "Runtime.exceptionThrown":
                self.problems.append(json.dumps(parts["exceptionDetails"]))
            case "Log.entryAdded" if parts["entry"]["level"] == "error":
                self.problems.append(f"{parts['entry']['text']} {parts['entry'].get('url', '')}")
            case _:
                pass

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str) -> Any:
        """The value of an expression once it is true."""
        end = time.monotonic() + SECONDS
        while not (value := self.run(script)):
            assert time.monotonic() < end, (script, self.problems, self.run("document.body.innerText"))
            time.sleep(0.05)
        return value

    def type(self, text: str) -> None:
        """Type into what has the focus, key by key."""
        for sign in text:
            self.send("Input.dispatchKeyEvent", type="char", text=sign)

    def press(self, key: str, *, code: int, modifiers: int = 0) -> None:
        """Press one key; modifiers: 1 Alt, 2 Ctrl, 8 Shift."""
        known: dict[str, Any] = {
            "key": key,
            "code": key,
            "windowsVirtualKeyCode": code,
            "modifiers": modifiers,
            **({"text": "\r"} if key == "Enter" and not modifiers else {}),
        }
        self.send("Input.dispatchKeyEvent", type="keyDown", **known)
        self.send("Input.dispatchKeyEvent", type="keyUp", **known)

    def picture(self, file: Path) -> None:
        """What is seen, as PNG."""
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))


@contextmanager
def browser() -> Generator[Page]:
    """A page of a fresh browser; skips the test where there is no Chromium."""
    program = os.environ.get("ANJUAN_TEST_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "google-chrome"))), None
    )
    if program is None:
        pytest.skip("there is no chromium on this machine")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, f"--user-data-dir={profile}", *FLAGS]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            said = Path(profile, "DevToolsActivePort")
            end = time.monotonic() + SECONDS
            while not (said.exists() and "\n" in said.read_text()):
                assert time.monotonic() < end
                assert process.poll() is None
                time.sleep(0.05)
            port = said.read_text().split()[0]
            pages = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
            address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            with connect(address, max_size=2**26, proxy=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.wait(SECONDS)
