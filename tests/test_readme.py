"""README, to the letter: every command it prints is run, here or by CI, and the house it draws is the house on disk."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import reachable_directory

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"^\$ (.*)$", README, re.MULTILINE) + re.findall(r"\| `(uv run [^`]*)`", README)
RUN_BY_CI = {"uv run pytest"}
SECONDS = 120
PARTS = ("access", "edge", "live", "plan", "watch", "chinese")
"""Folders of api/ whose files the drawing names."""


class Newcomer:
    """Somebody in a fresh checkout with two terminals: `anjuan up --demo` runs in one of them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANJUAN_", "DATABASE_"))}
        self.environment = environment | {
            "ANJUAN_DATA": str(home / "data"),
            "ANJUAN_PORT": str(self.port),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "100",
        }
        self.up = self._start("anjuan", "up", "--demo")
        self.said: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._ready.wait(SECONDS), "".join(self.said)
        assert self.up.poll() is None, "".join(self.said)

    def _start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            words, cwd=self.home, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def _read(self) -> None:
        assert self.up.stdout is not None
        for line in self.up.stdout:
            self.said.append(line)
            if line.startswith("Ready:"):
                self._ready.set()
        self._ready.set()

    def token(self, institution: str, role: str) -> str:
        """The token that `up` printed for this post."""
        at = next(n for n, line in enumerate(self.said) if line.startswith(f"{institution}: who"))
        return next(line.split()[1] for line in self.said[at:] if line.split()[:1] == [role])

    def run(self, command: str) -> str:
        """Run a README command as printed; what it said."""
        command = self.as_here(command)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.home,
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def as_here(self, command: str) -> str:
        """A README command with the port and the data of this place."""
        command = command.removeprefix("uv run ").replace("8420", str(self.port))
        return command.replace("../shared/data", str(data() or "../shared/data"))

    def leave(self) -> None:
        """Ctrl-C in the first terminal."""
        self.up.send_signal(signal.SIGINT)
        assert self.up.wait(SECONDS) == 0, "".join(self.said)
        self._reader.join()
        assert self.up.stdout is not None
        self.up.stdout.close()


def data() -> Path | None:
    """The real data, where there is any."""
    place = Path(os.environ.get("ANJUAN_TEST_DATA", ROOT.parent / "shared" / "data"))
    return place if place.is_dir() else None


@pytest.fixture(scope="module")
def newcomer() -> Iterator[Newcomer]:
    with reachable_directory() as home:
        somebody = Newcomer(home)
        try:
            yield somebody
        finally:
            if somebody.up.poll() is None:
                somebody.leave()


@pytest.mark.timeout(400)
def test_every_command_works_as_printed(newcomer: Newcomer) -> None:
    newcomer.environment["TOKEN"] = newcomer.token("BJ", "cs_director")
    outputs: dict[str, str] = {}
    without_data: list[str] = []
    for command in COMMANDS:
        if command in RUN_BY_CI or "anjuan up" in command:
            continue
        assert command.startswith(("uv run anjuan ", "curl ")), f"nobody runs {command!r}"
        if command == "uv run anjuan run":
            _follows_until_ended(newcomer)
        elif command.startswith("curl -sN "):
            _tells_until_ended(newcomer, command)
        elif data() is None and ("shared/data" in command or any(word in command for word in ("WABO", "case-10011"))):
            without_data.append(command)
        else:
            outputs[command] = newcomer.run(command)
    answer = next(said for command, said in outputs.items() if command.startswith("curl"))
    assert '"stage"' in answer
    assert '"errors"' not in answer
    if without_data:
        pytest.skip(f"the real data is not beside the checkout; not run: {without_data}")
    coselog = next(said for command, said in outputs.items() if "coselog" in command)
    assert "Replayed 1434 cases" in coselog
    assert "8577" in coselog
    assert "The histories agree with the file." in coselog
    assert "5296" in next(said for command, said in outputs.items() if "phl" in command)


def _follows_until_ended(newcomer: Newcomer) -> None:
    follower = newcomer._start("anjuan", "run")
    assert follower.stdout is not None
    assert "Following" in follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    assert follower.wait(SECONDS) == 0
    follower.stdout.close()


def _tells_until_ended(newcomer: Newcomer, command: str) -> None:
    """A subscription tells without end: whoever has seen enough ends it."""
    follower = newcomer._start("bash", "-c", f"exec {newcomer.as_here(command)}")
    assert follower.stdout is not None
    told = next(line for line in follower.stdout if line.startswith("data: "))
    follower.terminate()
    follower.wait(SECONDS)
    follower.stdout.close()
    assert '"complaintsChanged"' in told
    assert '"errors"' not in told


@pytest.mark.timeout(400)
def test_ctrl_c_ends_everything_and_nothing_is_lost(newcomer: Newcomer) -> None:
    before = newcomer.run("anjuan status")
    newcomer.leave()
    assert "Stopped." in newcomer.said[-1]
    again = newcomer.run("anjuan status")  # starts the server anew, alone
    assert _positions(again) == _positions(before)


def _positions(status: str) -> list[list[str]]:
    return [line.split()[:4] for line in status.splitlines()]


def test_the_house_drawn_is_the_house_on_disk() -> None:
    drawn = re.search(r"## The house\n\n```\n(.*?)```", README, re.DOTALL)
    assert drawn is not None
    words = set(re.findall(r"[\w./]+", drawn.group(1)))
    files = {
        path.name
        for folder in ("domain", "domain/store", "projections", "api", *(f"api/{part}" for part in PARTS))
        for path in (ROOT / folder).glob("*.py")
        if path.name != "__init__.py"
    }
    named = {w for w in words if w.endswith(".py")}
    assert files - named == set(), "README's drawing lacks these"
    assert named - files == set(), "README draws what is not there"
