"""What the commands share at a terminal: where to write, progress, Ctrl-C, and the house they work in."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from threading import Event as Signal
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from api.exchange.rows import Progress as Told
from api.premises import Premises, institutions, opened, premises
from api.settings import Settings
from domain.kernel import Refused
from domain.store.casebook import House
from migrations.runner import check

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Institution = Annotated[str | None, typer.Option("--institution", "-i", help="The institution's code, for example BJ.")]


@contextmanager
def at_work() -> Generator[Premises]:
    """The database of the settings; waiting for it is told."""
    with premises(Settings(), lambda said: err.print(said, style="dim", markup=False)) as where:
        yield where


@contextmanager
def in_house() -> Generator[House]:
    """The store on a database whose schema is this version's."""
    with at_work() as where:
        check(where.owner)
        with opened(where) as house:
            yield house


@contextmanager
def bar(what: str) -> Generator[Told]:
    """A progress bar; it is told what is being done, how much is, and of how much."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task: TaskID = progress.add_task(what, total=None)

        def tell(doing: str, done: int, of: int | None) -> None:
            progress.update(task, description=f"{what}: {doing}", completed=done, total=of)

        yield tell


@contextmanager
def stoppable() -> Generator[Signal]:
    """Set when Ctrl-C is pressed; a second one interrupts at once."""
    pressed = Signal()
    before = signal.getsignal(signal.SIGINT)

    def press(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def only(house: House, code: str | None) -> str:
    """The institution meant: the one named, or the only one there is."""
    known = institutions(house)
    if code is None and len(known) == 1:
        return known[0]
    if code is None:
        raise Refused("institution.which", f"Say which with --institution: {', '.join(known) or 'none is open yet'}.")
    if code not in known:
        raise Refused(
            "institution.unknown",
            f"{code} is not open here; there are {', '.join(known) or 'none'}. See `anjuan open`.",
        )
    return code
