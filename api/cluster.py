"""What an embedded server has on disk: data, passwords, socket directory, and where they are.

Only whoever holds the server's lock changes anything here (see `api/embedded.py`), so nothing runs meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from api.binaries import Account, Binaries, EmbeddedError, account_for, binaries, reachable, shared_place

OWNER: Final = "anjuan_owner"
"""Superuser of the embedded server; migrates, owns the database."""
LOGIN: Final = "anjuan_login"
"""What the application logs in as: a member of `anjuan_app`, which may only insert and select events."""

SOCKET_PATH_MAX: Final = 107
"""Bytes; sun_path of Linux without its closing NUL."""
LOG_BYTES_MAX: Final = 10_000_000
"""A longer server.log is set aside as server.log.1 when the server is started."""


class Cluster:
    """The files of one embedded server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.password_file = directory / "pgpass"
        self.log = directory / "server.log"

    @property
    def home(self) -> Path:
        """Where the data is: the directory itself, or what its link `home` leads to."""
        return _follow(self.directory / "home") if (self.directory / "home").is_symlink() else self.directory

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / "data"

    @property
    def run(self) -> Path:
        """The directory of the socket, by a path short enough for one."""
        return _follow(self.directory / "run")

    def make_directory(self) -> None:
        """Make the directory if it is not there. Root's may be passed through, since the server is another user."""
        try:
            if not self.directory.exists():
                self.directory.mkdir(parents=True, exist_ok=True)
                self.directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
            os.close(self.open("lock"))
        except OSError as error:
            raise EmbeddedError(
                f"The directory {self.directory} cannot be used: {error.strerror}. Choose one that belongs to you."
            ) from error

    def open(self, name: str, flags: int = 0) -> int:
        """A private file of the directory, made if missing; it is the directory's owner's, even if root comes by."""
        file = os.open(self.directory / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o600)
        made = os.fstat(file)
        if made.st_uid == 0 and made.st_nlink == 1:
            owner = self.directory.stat()
            os.fchown(file, owner.st_uid, owner.st_gid)
        return file

    def log_tail(self, lines: int) -> str:
        """The last lines of the server's log."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        return ""

    def passwords(self) -> dict[str, str]:
        """User -> password, as libpq reads them from the same file."""
        lines = self.password_file.read_text().splitlines()
        return {user: password for *_, user, password in (line.split(":") for line in lines)}

    # -- for whoever holds the server's lock ----------------------------------------------------------------------

    def prepare(self, *, durable: bool, installation: Path | None, lock: int) -> tuple[Account, Binaries]:
        """Everything a server needs before it can be started; makes the data if there is none yet."""
        account = account_for(self.directory)
        self._choose_home(account)
        self._choose_run(account)
        if not self.data.exists():
            program = binaries(account, installation=installation)
            self._initialise(account, program, durable, lock)
            return account, program
        if account.drop and self.data.stat().st_uid != account.uid:
            raise EmbeddedError(f"{self.data} must belong to the user `{account.name}`, as which the server runs.")
        if not reachable(self.data, account):
            raise EmbeddedError(f"The user `{account.name}`, as which the server runs, cannot reach {self.data}.")
        if not self.password_file.exists():
            raise EmbeddedError(f"{self.password_file} is missing, without which nobody can log in; restore it.")
        self._clear_pid_file()
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_name("server.log.1"))
        major = int((self.data / "PG_VERSION").read_text())
        return account, binaries(account, major=major, installation=installation)

    def command(self, program: Binaries, settings: Mapping[str, str]) -> list[str]:
        """The server's command line."""
        command = [str(program.bin / "postgres"), "-D", str(self.data)]
        for name, value in {**settings, "unix_socket_directories": f'"{self.run}"'}.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _choose_home(self, account: Account) -> None:
        link = self.directory / "home"
        if link.is_symlink() or (self.directory / "data").exists() or reachable(self.directory, account):
            return
        home = shared_place(account) / f"data-{secrets.token_hex(6)}"
        home.mkdir(mode=0o711)
        home.chmod(0o711)
        link.symlink_to(home)

    def _choose_run(self, account: Account) -> None:
        """Keep the socket's directory where it was, since connection strings name it; else choose one."""
        run = self.directory / "run"
        if run.is_symlink():
            with contextlib.suppress(OSError):  # the same again, if somebody swept /tmp
                _make_private(self.run, account)
            if _private(self.run, account):
                return
            run.unlink()
        chosen = self.home / "run"
        if not _fits(chosen):
            chosen = Path(tempfile.mkdtemp(prefix="anjuan-", dir=_short_place(account)))
            account.own(chosen)
        elif not _private(chosen, account):
            shutil.rmtree(chosen, ignore_errors=True)
            _make_private(chosen, account)
        if chosen != run:
            shutil.rmtree(run, ignore_errors=True)  # the directory was moved, and its path is too long now
            run.symlink_to(chosen)

    def _initialise(self, account: Account, program: Binaries, durable: bool, lock: int) -> None:
        """Make `data`, whole or not at all."""
        if not self.password_file.exists():
            with open(self.open("pgpass.new", os.O_TRUNC), "w") as file:
                file.writelines(f"*:*:*:{user}:{secrets.token_urlsafe(32)}\n" for user in (OWNER, LOGIN))
                file.flush()
                os.fsync(file.fileno())
            (self.directory / "pgpass.new").rename(self.password_file)
        making = self.home / "data.new"
        if making.exists():
            shutil.rmtree(making)
        making.mkdir(mode=0o700)
        account.own(making)
        password = self.home / "data.password"
        password.unlink(missing_ok=True)
        password.touch(mode=0o600, exist_ok=False)
        password.write_text(self.passwords()[OWNER])
        account.own(password)
        trouble = ""
        try:
            arguments = ["-D", str(making), "-U", OWNER, f"--pwfile={password}", "--auth=scram-sha-256"]
            if program.major >= 17:
                locales = (["--locale-provider=builtin", "--locale=C.UTF-8"],)
            else:
                locales = (["--locale=C.UTF-8"], ["--locale=C"])
            for locale in locales:
                command = [str(program.bin / "initdb"), *arguments, "--encoding=UTF8", *locale]
                answer = _run_as(account, command if durable else [*command, "--no-sync"], lock)
                if answer.returncode == 0:
                    break
                trouble = answer.stderr.strip()
            else:
                raise EmbeddedError(f"PostgreSQL cannot make its data in {making}: {trouble}")
        finally:
            password.unlink()
        making.rename(self.data)
        if durable:
            for changed in {self.home, self.directory}:
                entry = os.open(changed, os.O_RDONLY)
                os.fsync(entry)
                os.close(entry)

    def _clear_pid_file(self) -> None:
        """Nobody runs this server, so a pid file is left over, whatever it holds and whoever got the number since.

        Only a server that was started by hand, without us, may hold it rightly.
        """
        file = self.data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError):
            first = file.read_bytes()[:20].split(b"\n")[0].strip()
            if first.isdigit() and _works_in(int(first), self.data):
                raise EmbeddedError(
                    f"A PostgreSQL that Anjuan did not start (process {first.decode()}) runs on {self.data}; stop it."
                )
            file.unlink()


def server_environment() -> dict[str, str]:
    """What the server gets of our environment: nothing that would change its settings."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LC_ALL": "C"}


def _run_as(account: Account, command: Sequence[str], lock: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - initdb, with arguments of ours
        command,
        env=server_environment(),
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        pass_fds=[lock],  # should we be killed, nobody else begins before this has ended
        user=account.uid if account.drop else None,
        group=account.gid if account.drop else None,
        extra_groups=[] if account.drop else None,
    )


def _works_in(pid: int, data: Path) -> bool:
    """Does this process have the data directory as its working directory, as every process of a server has?"""
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", data)
    except OSError:
        if sys.platform == "linux":
            return False
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return True
    return False


def _make_private(directory: Path, account: Account) -> None:
    directory.mkdir(mode=0o700)
    account.own(directory)


def _private(directory: Path, account: Account) -> bool:
    """Is this a directory, not a link to one, that is the account's alone and can hold a socket?"""
    try:
        seen = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid == account.uid and not seen.st_mode & 0o077 and _fits(directory)


def _fits(run: Path) -> bool:
    """Can libpq and the server name a socket in it? Commas separate hosts for one and directories for the other."""
    return len(os.fsencode(run / ".s.PGSQL.5432")) <= SOCKET_PATH_MAX and not set(str(run)) & {",", '"'}


def _short_place(account: Account) -> Path:
    for name in (os.environ.get("XDG_RUNTIME_DIR"), "/tmp", tempfile.gettempdir()):  # noqa: S108 - mkdtemp is used
        place = Path(name or "/")
        usable = name and place.is_dir() and os.access(place, os.W_OK) and reachable(place, account)
        if usable and _fits(place / "anjuan-12345678"):
            return place
    raise EmbeddedError("No directory has a path short enough for a socket; set XDG_RUNTIME_DIR to one that has.")


def _follow(link: Path) -> Path:
    return Path(os.readlink(link)) if link.is_symlink() else link
