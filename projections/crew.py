"""More processes for one rebuild: each folds slices, and institutions of gathering views, until none is left."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Generator
from contextlib import contextmanager
from threading import Event as Signal
from typing import Any, cast

from domain.store.casebook import House
from projections.view import View


@contextmanager
def crew(house: House, master_key: bytes, view: View[Any], hands: int, stop: Signal) -> Generator[None]:
    """So many processes at work beside this one; on leaving they are waited for, or ended if told to or on an error.

    The view must be a name of the module in which its `show` is written. A process that dies loses one chunk, which
    whoever is next takes up.
    """
    spawn = multiprocessing.get_context("spawn")
    arguments = (house.conninfo, house.runner_conninfo, master_key, view.show.__module__, view.name)
    processes = [spawn.Process(target=_work, args=arguments, daemon=True) for _ in range(hands)]
    for process in processes:
        process.start()
    try:
        yield
        while any(process.is_alive() for process in processes) and not stop.is_set():
            stop.wait(0.01)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _work(conninfo: str, runner: str, master_key: bytes, module: str, name: str) -> None:
    from projections.rebuild import help_rebuild

    named: list[Any] = list(vars(importlib.import_module(module)).values())
    view = next(cast("View[Any]", v) for v in named if isinstance(v, View) and v.name == name)
    with House(conninfo, master_key, runner=runner, pool_max=2) as house:
        help_rebuild(house, view, stop=Signal())
