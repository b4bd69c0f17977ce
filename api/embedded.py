"""The embedded PostgreSQL server: a real one, in a directory, reached through a socket only.

    with Embedded(Path(".anjuan")) as server:
        psycopg.connect(server.app_conninfo)

**Sharing.** Any number of processes may use one directory at once. Whoever finds no server starts it; the others join.
The server belongs to nobody in particular: it is shut down when its *last* user has stopped or died. If it dies
itself, any user brings it up again within a moment: connections are lost, acknowledged commits are not, and the
connection strings stay valid. Two locks of the kernel decide all of this, never a pid file: `lock` is held by every
process of a running server, `users` is held shared by everyone who wants one (see `api/guardian.py`).

**Places.** Everything is in the directory: `data`, `pgpass` (0600; the passwords are in no connection string),
`server.log`, `run` (the socket, 0700). A socket's path may have 107 bytes; where it would be longer, `run` is a link to
a short directory under $XDG_RUNTIME_DIR or /tmp. PostgreSQL refuses to run as root, so for root it runs as the owner of
the directory, else as `postgres`, else as `nobody`. If that account cannot reach the directory or the program (under
/root, say), permissions are *not* opened up: the data, or a copy of the program, is kept in /var/lib/anjuan and the
directory has a link `home` to it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo

from api.binaries import EmbeddedError
from api.cluster import LOGIN, OWNER, Cluster, server_environment
from migrations.runner import GROUPS

DATABASE: Final = "anjuan"

STARTS_MAX: Final = 3
"""A server that ends this often before it answers will not get better."""
CONNECTS_MAX: Final = 20
"""Nor will one that answers and refuses us this often."""

Progress = Callable[[str, float], None]
"""Told what is being waited for, and for how many seconds so far; about once a second."""

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "TimeZone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_checkpoints": "off",
    "jit": "off",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # a session whose client was killed ends even while it computes
    **({"client_connection_check_interval": "1s"} if sys.platform == "linux" else {}),
}
NOT_DURABLE: Final[Mapping[str, str]] = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class Embedded:
    """One user of the server in `directory`, which is made when it is not there.

    `durable=False` turns fsync off, for tests: a crash of the *machine* may then lose everything, a crash of processes
    nothing. It and `settings` (names and values of postgresql.conf) count for the process that starts the server.
    `installation` names a PostgreSQL to run (the directory that holds `bin`) instead of the first that is found.
    `progress` hears of any wait longer than a second; recovery after a crash is waited for however long it takes.
    """

    def __init__(
        self,
        directory: Path,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        installation: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.cluster = Cluster(Path(os.path.abspath(directory)))
        self.durable = durable
        self.settings = {**SETTINGS, **({} if durable else NOT_DURABLE), **(settings or {})}
        self.installation = installation
        self._progress = progress
        self._users: int | None = None
        self._bringing_up = threading.Lock()
        self._leaving = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def owner_conninfo(self) -> str:
        """For migrations and administration."""
        return self.conninfo(OWNER)

    @property
    def app_conninfo(self) -> str:
        """For everything else."""
        return self.conninfo(LOGIN)

    def conninfo(self, user: str, database: str = DATABASE) -> str:
        """libpq connection string with `search_path` and time zone; holds no password."""
        return make_conninfo(
            host=str(self.cluster.run),
            port="5432",
            user=user,
            dbname=database,
            passfile=str(self.cluster.password_file),
            options="-c search_path=anjuan -c timezone=UTC",
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Become a user: when this returns, the server accepts connections. Raises EmbeddedError when it cannot be."""
        if self._users is not None:
            return
        self.cluster.make_directory()
        self._leaving.clear()
        try:
            self._users = self._join()
            self.ensure()
        except BaseException:
            self.stop()
            raise
        self._watcher = threading.Thread(target=self._watch, name="embedded-server-watch", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Stop being a user. The last one out waits until the server has shut down (fast: sessions are ended)."""
        self._leaving.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        if self._users is None:
            return
        users, self._users = self._users, None
        waiting = _Wait(self._progress)
        try:
            while True:
                others = not _lock(users, fcntl.LOCK_EX) and _lock(users, fcntl.LOCK_SH)
                fcntl.flock(users, fcntl.LOCK_UN)
                if others:
                    return
                if (held := self._try_lock()) is not None:
                    os.close(held)
                    return
                waiting.pause("waiting for the server to shut down")
        finally:
            os.close(users)

    def ensure(self) -> None:
        """When this returns, the server accepts connections; if nobody runs it any more, we do.

        Every user already does this by itself about twice a second; call it to wait for the server, or to hear why it
        does not come back.
        """
        if self._users is None:
            raise EmbeddedError("The server is not in use here; call start() first.")
        with self._bringing_up:
            self._bring_up()

    def _join(self) -> int:
        users = self.cluster.open("users")
        waiting = _Wait(self._progress)
        while not _lock(users, fcntl.LOCK_SH):
            waiting.pause("waiting for the previous server to shut down")
        return users

    def _watch(self) -> None:
        while not self._leaving.wait(0.5):
            if (held := self._try_lock()) is None:
                continue
            os.close(held)
            try:
                self.ensure()
            except (EmbeddedError, OSError, psycopg.Error) as error:
                if self._progress is not None:
                    self._progress(f"the server does not come back: {error}", 0.0)

    def _try_lock(self) -> int | None:
        """The server's lock, if no process of a server is left."""
        lock = self.cluster.open("lock")
        if _lock(lock, fcntl.LOCK_EX):
            return lock
        os.close(lock)
        return None

    def _bring_up(self) -> None:
        waiting = _Wait(self._progress)
        starts = refused = 0
        while not self._leaving.is_set():
            if (lock := self._try_lock()) is not None:
                try:
                    if starts == STARTS_MAX:
                        tail = self.cluster.log_tail(15)
                        raise EmbeddedError(f"PostgreSQL does not start. {self.cluster.log} ends with:\n{tail}")
                    self._launch(lock)
                finally:
                    os.close(lock)
                starts += 1
            match self._ping():
                case pq.Ping.OK:
                    try:
                        self._furnish()
                        break
                    except psycopg.OperationalError as error:  # it may just have died again
                        refused += 1
                        if refused == CONNECTS_MAX:
                            raise EmbeddedError(
                                f"The server in {self.cluster.directory} lets nobody in: {error}"
                            ) from error
                    waiting.pause("waiting for a connection")
                case pq.Ping.REJECT:
                    waiting.pause(f"waiting for recovery: {self.cluster.log_tail(1)}")
                case _:
                    waiting.pause("waiting for the server to start")

    def _ping(self) -> pq.Ping:
        if not self.cluster.run.exists():
            return pq.Ping.NO_RESPONSE
        where = make_conninfo(host=str(self.cluster.run), port="5432", connect_timeout=5)
        return pq.Ping(pq.PGconn.ping(where.encode()))

    def _furnish(self) -> None:
        """Roles and database, once; told apart by the database, which is made last."""
        with psycopg.connect(self.conninfo(OWNER, "postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(hashtext('anjuan.furnish'))")
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).rowcount:
                return
            known = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
            for group in GROUPS:
                if group not in known:
                    connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(group)))
            if LOGIN not in known:
                secret = connection.pgconn.encrypt_password(
                    self.cluster.passwords()[LOGIN].encode(), LOGIN.encode(), b"scram-sha-256"
                )
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
                        sql.Identifier(LOGIN),
                        sql.Literal(secret.decode()),
                        sql.SQL(", ").join(map(sql.Identifier, GROUPS)),
                    )
                )
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(
                    sql.Identifier(DATABASE), sql.Identifier(OWNER)
                )
            )

    def _launch(self, lock: int) -> None:
        """Start a guardian with a server, as the holder of the server's lock, which they inherit."""
        account, program = self.cluster.prepare(durable=self.durable, installation=self.installation, lock=lock)
        arguments = [str(lock), str(self.cluster.directory / "users")]
        arguments += [str(account.uid), str(account.gid)] if account.drop else ["-1", "-1"]
        command = self.cluster.command(program, self.settings)
        python = [sys.executable, "-I", "-S", "-W", "ignore"]
        log = self.cluster.open("server.log", os.O_APPEND)
        try:
            guardian = subprocess.Popen(  # noqa: S603 - our own script
                [*python, str(Path(__file__).with_name("guardian.py")), *arguments, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=server_environment(),
                pass_fds=[lock],
                start_new_session=True,  # Ctrl-C at a terminal is for us; the server ends after we have let go of it
            )
        finally:
            os.close(log)
        threading.Thread(target=guardian.wait, name="embedded-server-reaper", daemon=True).start()


def _lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Wait:
    """A wait of unknown length, told about once a second."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._begun = self._told = time.monotonic()

    def pause(self, reason: str) -> None:
        now = time.monotonic()
        if self._progress is not None and now - self._told >= 1:
            self._told = now
            self._progress(reason, now - self._begun)
        time.sleep(0.01 if now - self._begun < 1 else 0.1)
