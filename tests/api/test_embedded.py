"""The embedded server: who starts it, who shares it, and what is left when anything dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path

import psycopg
import pytest

from api.binaries import EmbeddedError, account_for, binaries, installations
from api.embedded import Embedded
from tests.api.users import acknowledged, begun, eventually, facts, guardian, postmaster, processes, user


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


def test_who_joined_does_not_notice_that_the_one_who_started_it_was_killed(place: Path) -> None:
    with user(place / "server", "one fact") as first:
        acknowledged(first, 1)
        with Embedded(place / "server") as server, psycopg.connect(server.owner_conninfo) as connection:
            first.kill()
            first.wait()
            server.ensure()
            assert connection.execute("SELECT number FROM public.fact").fetchone() == (1,)
            assert begun(server) is not None
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
