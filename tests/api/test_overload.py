"""Four times as much as can be done, briefly; the long run is `python -m tests.benchmarks overload --seconds 60`."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.overload import measure
from tests.conftest import Database


@pytest.mark.timeout(120)
def test_too_much_is_refused_and_nothing_else_happens(database: Database) -> None:
    run = measure(database.app, seconds=3.0, warm_seconds=1.0)
    assert set(run.overload.statuses) == {200, 503}, run.overload.bodies
    assert run.overload.lost == 0
    assert len(run.health) == len(run.memory), "health is always answered"
    assert {json.loads(body)["errors"][0]["extensions"]["code"] for body in run.overload.bodies} == {"server.busy"}
    assert run.memory[-1] < run.memory[0] + 60, "what is refused is not kept"
    assert 200 in run.after.statuses
    assert set(run.after.statuses) <= {200, 503}
    assert run.recovered_seconds < 60
