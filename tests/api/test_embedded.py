"""The embedded server: who starts it, who shares it, and what is left when anything dies."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import psycopg
import pytest

from api.binaries import EmbeddedError, account_for, binaries, installations
from api.embedded import Embedded

ROOT = Path(__file__).parents[2]
USER = """
import sys
from pathlib import Path
import psycopg
from api.embedded import Embedded

with Embedded(Path(sys.argv[1])) as server, psycopg.connect(server.owner_conninfo, autocommit=True) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS public.fact (number bigint)")
    number = 0
    while True:
        number += 1
        connection.execute("INSERT INTO public.fact VALUES (%s)", [number])
        print(number, flush=True)
        if len(sys.argv) > 2:
            sys.stdin.read()
            break
"""
"""A user of its own: records facts and says each number once it is acknowledged; with a second argument, only one."""


@contextlib.contextmanager
def user(directory: Path, *arguments: str) -> Generator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", USER, str(directory), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def acknowledged(process: subprocess.Popen[str], count: int) -> int:
    assert process.stdout is not None
    number = 0
    for _ in range(count):
        number = int(process.stdout.readline())
    return number


def facts(server: Embedded) -> set[int]:
    with psycopg.connect(server.owner_conninfo) as connection:
        return {number for (number,) in connection.execute("SELECT number FROM public.fact")}


def postmaster(server: Embedded) -> int:
    return int((server.cluster.data / "postmaster.pid").read_text().split()[0])


def guardian(server: Embedded) -> int:
    status = Path(f"/proc/{postmaster(server)}/stat").read_text()
    return int(status.rpartition(")")[2].split()[1])


def begun(server: Embedded) -> object:
    """When the server was started: another time is another server."""
    with psycopg.connect(server.app_conninfo) as connection:
        return connection.execute("SELECT pg_postmaster_start_time()").fetchone()


def processes(directory: Path) -> list[int]:
    """Servers of this directory with all their processes, and guardians."""
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes()
            works_there = Path(os.readlink(process / "cwd")).is_relative_to(directory)
            if works_there or (b"guardian.py" in words and os.fsencode(directory) in words):
                found.append(int(process.name))
    return found


def eventually(condition: Callable[[], bool]) -> None:
    while not condition():  # pytest's own time limit ends a wait in vain
        time.sleep(0.02)


def test_a_new_server_is_private_and_its_roles_are_apart(place: Path) -> None:
    with Embedded(place / "server") as server:
        with psycopg.connect(server.app_conninfo) as connection:
            row = connection.execute(
                "SELECT rolsuper, pg_has_role('anjuan_app', 'member'), current_setting('listen_addresses'),"
                " current_setting('fsync'), current_setting('TimeZone'), getdatabaseencoding(), current_schemas(false)"
                " FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
            assert row == (False, True, "", "on", "UTC", "UTF8", [])
        with psycopg.connect(server.owner_conninfo) as connection:
            row = connection.execute(
                "SELECT rolsuper, rolname = pg_get_userbyid(datdba) FROM pg_roles, pg_database"
                " WHERE rolname = current_user AND datname = current_database()"
            ).fetchone()
            assert row == (True, True)
        for secret in (server.cluster.password_file, server.cluster.log, server.cluster.run, server.cluster.data):
            assert secret.stat().st_mode & 0o077 == 0, secret
        for password in server.cluster.passwords().values():
            assert password not in server.owner_conninfo + server.app_conninfo
            assert password not in server.cluster.log.read_text()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.app_conninfo, passfile="/dev/null", password="wrong")
    assert processes(place) == []


@pytest.mark.parametrize("installation", [i for i in installations() if (i / "bin" / "initdb").exists()], ids=str)
def test_every_postgresql_that_is_found_serves(place: Path, installation: Path) -> None:
    for _ in range(2):
        with Embedded(place / "server", durable=False, installation=installation) as server:
            with psycopg.connect(server.app_conninfo) as connection:
                row = connection.execute("SELECT current_setting('server_version_num')::int / 10000").fetchone()
            assert row == (int((server.cluster.data / "PG_VERSION").read_text()),)


def test_many_may_come_at_once_and_one_server_serves_them(place: Path) -> None:
    servers = [Embedded(place / "server", durable=False) for _ in range(5)]
    threads = [threading.Thread(target=server.start) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({begun(server) for server in servers}) == 1
    for server in servers:
        server.stop()
    assert processes(place) == []


def test_the_server_stays_until_its_last_user_leaves(place: Path) -> None:
    with Embedded(place / "server", durable=False) as server:
        with user(place / "server", "one fact") as other:
            acknowledged(other, 1)
            before = begun(server)
            server.stop()
            server.start()
            assert begun(server) == before, "the other one kept it"
            other.communicate("leave")
            assert other.returncode == 0
        assert begun(server) == before, "we keep it"
    assert processes(place) == []


def test_who_is_no_user_cannot_ask_for_the_server(place: Path) -> None:
    server = Embedded(place / "server")
    with pytest.raises(EmbeddedError, match="start"):
        server.ensure()
    server.stop()


def test_a_killed_user_leaves_no_server_and_loses_no_acknowledged_fact(place: Path) -> None:
    with user(place / "server") as other:
        last = acknowledged(other, 50)
        other.kill()
        other.wait()
    eventually(lambda: processes(place) == [])
    with Embedded(place / "server") as server:
        assert facts(server) >= set(range(1, last + 1))


@pytest.mark.parametrize("victims", [["postmaster"], ["guardian"], ["guardian", "postmaster"], ["postmaster", "user"]])
def test_whatever_is_killed_the_server_comes_back_with_every_acknowledged_fact(place: Path, victims: list[str]) -> None:
    with Embedded(place / "server") as server, user(place / "server") as other:
        conninfo = server.app_conninfo
        last = acknowledged(other, 50)
        before = begun(server)
        pids = {"postmaster": postmaster(server), "guardian": guardian(server), "user": other.pid}
        for victim in victims:
            os.kill(pids[victim], signal.SIGKILL)

        def is_another() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                return begun(server) != before
            return False

        eventually(is_another)
        server.ensure()
        assert facts(server) >= set(range(1, last + 1))
        assert server.app_conninfo == conninfo
        assert pids["postmaster"] not in processes(place)
        assert pids["guardian"] not in processes(place)
    eventually(lambda: processes(place) == [])


def test_a_session_that_computes_does_not_outlive_a_killed_server(place: Path) -> None:
    with Embedded(place / "server", durable=False) as server:
        with psycopg.connect(server.owner_conninfo) as connection:
            backend = connection.info.backend_pid
            busy = threading.Thread(target=_fails, args=(connection, "DO 'BEGIN LOOP END LOOP; END'"))
            busy.start()
            old = postmaster(server)
            os.kill(old, signal.SIGKILL)
            busy.join()
        eventually(lambda: backend not in processes(place))
        server.ensure()
        assert postmaster(server) != old
    assert processes(place) == []


def _fails(connection: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        connection.execute(statement.encode())


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"12", b"nonsense\x00\xff\n", b"99999999999999999999\n/x\n", b"ours"],
    ids=["empty", "blank", "truncated", "garbage", "huge", "reused"],
)
def test_a_stale_pid_file_fools_nobody(place: Path, content: bytes) -> None:
    with Embedded(place / "server", durable=False) as server:
        pass
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        file = server.cluster.data / "postmaster.pid"
        file.write_bytes(
            b"%d\n%s\n" % (bystander.pid, os.fsencode(server.cluster.data)) if content == b"ours" else content
        )
        with Embedded(place / "server", durable=False) as again:
            begun(again)
        bystander.kill()


def test_a_server_started_by_hand_is_left_alone_and_named(place: Path) -> None:
    with Embedded(place / "server", durable=False) as server:
        pass
    account = account_for(server.cluster.directory)
    program = binaries(account).bin / "postgres"
    command = [str(program), "-D", str(server.cluster.data), "-c", "listen_addresses="]
    command += ["-c", f"unix_socket_directories={server.cluster.run}"]
    user, group, groups = (account.uid, account.gid, list[int]()) if account.drop else (None, None, None)
    with subprocess.Popen(
        command, stderr=subprocess.DEVNULL, cwd="/", user=user, group=group, extra_groups=groups
    ) as by_hand:
        eventually(lambda: (server.cluster.data / "postmaster.pid").exists())
        with pytest.raises(EmbeddedError, match=f"process {by_hand.pid}"):
            server.start()
        assert by_hand.poll() is None
        by_hand.send_signal(signal.SIGINT)
    with server:
        begun(server)


def test_a_path_too_long_for_a_socket_still_serves_and_keeps_its_short_one(place: Path) -> None:
    directory = place / ("long" * 20) / ("longer" * 10)
    with Embedded(directory, durable=False) as server:
        conninfo = server.app_conninfo
        run = server.cluster.run
        assert (directory / "run").is_symlink()
        assert run.stat().st_mode & 0o077 == 0
        begun(server)
    shutil.rmtree(run)  # somebody swept /tmp
    with server:
        assert server.app_conninfo == conninfo
        begun(server)
    shutil.rmtree(run)


@pytest.mark.parametrize("name", ["a b", "案卷", "it's", 'say "so"', "one,two", "back\\slash", "per%cent"])
def test_any_name_of_a_directory_will_do(place: Path, name: str) -> None:
    with Embedded(place / name, durable=False) as server:
        begun(server)
        run = server.cluster.run
    if not run.is_relative_to(place):
        shutil.rmtree(run)


def test_an_interrupted_beginning_is_begun_again(place: Path) -> None:
    broken = place / "server" / "data.new" / "global"
    broken.mkdir(parents=True)
    (place / "server").chmod(0o711)
    (broken / "pg_control").write_text("half")
    with Embedded(place / "server", durable=False) as server:
        begun(server)
    assert not broken.exists()


def test_a_server_that_cannot_start_says_why(place: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"(?s)does not start.*no_such_setting"):
        Embedded(place / "server", durable=False, settings={"no_such_setting": "1"}).start()
    assert processes(place) == []
    with Embedded(place / "server", durable=False) as server:
        begun(server)
    (server.cluster.data / "PG_VERSION").write_text("14\n")
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 14"):
        server.start()


def test_recovery_is_waited_for_and_told(place: Path) -> None:
    with Embedded(place / "server", durable=False) as server:
        pass
    (server.cluster.data / "standby.signal").touch()  # recovers until told otherwise
    told = threading.Event()
    heard: list[str] = []

    def progress(reason: str, seconds: float) -> None:
        heard.append(reason)
        told.set()

    again = Embedded(place / "server", durable=False, settings={"hot_standby": "off"}, progress=progress)
    starting = threading.Thread(target=again.start)
    starting.start()
    assert told.wait(60)
    assert starting.is_alive()
    (server.cluster.data / "promote").touch()
    os.kill(postmaster(again), signal.SIGUSR1)
    starting.join()
    begun(again)
    again.stop()
    assert heard[0].startswith("waiting for recovery")


def test_a_directory_of_somebody_else_is_refused(place: Path) -> None:
    (place / "file").touch()
    with pytest.raises(EmbeddedError, match="cannot be used"):
        Embedded(place / "file" / "server").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_root_opens_up_no_directory_and_keeps_the_data_where_the_server_reaches_it(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with Embedded(closed / "server", durable=False) as server:
        begun(server)
        home = server.cluster.home
        assert not home.is_relative_to(place)
        assert stat.S_IMODE(server.cluster.data.stat().st_mode) == 0o700
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        before = server.cluster.data
    with server:
        assert server.cluster.data == before
        begun(server)
    shutil.rmtree(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_program_the_server_cannot_reach_is_copied_to_where_it_can(place: Path) -> None:
    account = account_for(place)
    original = binaries(account).bin.parent
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    hidden = closed / original.parent.name / original.name
    for part in ("bin", "lib", "share"):
        shutil.copytree(original / part, hidden / part)
    libraries = original.parent.with_name(original.parent.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, closed / libraries.name)
    copy = binaries(account, installation=hidden).bin
    try:
        assert not copy.is_relative_to(place)
        assert binaries(account, installation=hidden).bin == copy
        with Embedded(place / "server", durable=False, installation=hidden) as server:
            begun(server)
    finally:
        shutil.rmtree(copy.parents[2])


@pytest.mark.skipif(os.geteuid() != 0, reason="run by root, who can be others")
def test_an_ordinary_user_has_a_server_and_root_may_come_by(place: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    directory = place / "home"
    directory.mkdir()
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    python = _python_for(nobody)
    if python is None:
        pytest.skip("no Python here that the user nobody can run with our packages")

    def record() -> None:
        _run_as(nobody, [python, "-c", USER, str(directory / "server"), "one fact"]).check_returncode()

    record()
    with Embedded(directory / "server") as server:
        assert facts(server) == {1}
        assert server.cluster.data.stat().st_uid == nobody.pw_uid
    record()
    assert processes(place) == []


def _run_as(who: pwd.struct_passwd, command: list[str]) -> subprocess.CompletedProcess[str]:
    packages = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    return subprocess.run(
        command,
        input="",
        text=True,
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(packages)},
        user=who.pw_uid,
        group=who.pw_gid,
        extra_groups=[],
    )


def _python_for(who: pwd.struct_passwd) -> str | None:
    for name in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")):
        with contextlib.suppress(OSError):
            if name and _run_as(who, [name, "-c", "import psycopg, api.embedded"]).returncode == 0:
                return name
    return None
