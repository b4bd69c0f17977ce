"""Where the public data lies that some tests run on, and institutions opened for imports."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from domain.institution import INSTITUTION, institution_id, open_institution
from domain.kernel import Role, Stamp, named
from domain.store.casebook import Casebook

ACTOR = UUID("00000000-0000-4000-8000-00000000ac70")


def public_file(name: str) -> Path:
    """A file of the public data; the test is skipped where it is not."""
    place = Path(os.environ.get("ANJUAN_TEST_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
    file = place / name
    if not file.exists():
        pytest.skip(f"the public data is not here: {name} (set ANJUAN_TEST_DATA)")
    return file


def opened(casebook: Casebook, time_zone: str = "Asia/Shanghai") -> Casebook:
    """The casebook with its institution open, on a day long ago."""
    code = casebook.institution
    said = Stamp(
        by=ACTOR,
        at=datetime(2009, 1, 1, tzinfo=UTC),
        command_id=named(code, "opened for a test"),
        roles=frozenset({Role.ADMIN}),
    )
    casebook.act(
        INSTITUTION,
        institution_id(code),
        lambda known: open_institution(known, said, code=code, name="试验医院", group="试验", time_zone=time_zone),
        command_id=said.command_id,
    )
    return casebook
