"""Where an embedded server keeps its files, whatever the place and whoever runs it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from api.binaries import EmbeddedError, account_for, binaries
from api.embedded import Embedded
from tests.api.users import ROOT, USER, begun, eventually, facts, processes, user


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
    (place / "server" / "data.password").write_text("left over")
    with Embedded(place / "server", durable=False) as server:
        begun(server)
    assert sorted(file.name for file in server.cluster.home.glob("data*")) == ["data"]


def test_whoever_is_killed_while_beginning_is_in_nobodys_way(place: Path) -> None:
    with user(place / "server") as first:
        eventually((place / "server" / "data.new").exists)
        first.kill()
    with Embedded(place / "server") as server:
        begun(server)


def test_a_link_in_the_place_of_a_file_is_not_followed(place: Path) -> None:
    (place / "precious").write_text("keep me")
    (place / "server").mkdir()
    (place / "server" / "lock").symlink_to(place / "precious")
    with pytest.raises(EmbeddedError, match="cannot be used"):
        Embedded(place / "server").start()


def test_a_server_that_cannot_start_says_why(place: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"(?s)does not start.*no_such_setting"):
        Embedded(place / "server", durable=False, settings={"no_such_setting": "1"}).start()
    assert processes(place) == []
    with Embedded(place / "server", durable=False) as server:
        begun(server)
    (server.cluster.data / "PG_VERSION").write_text("14\n")
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 14"):
        server.start()


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
