"""Global ids: each object has one, whatever is written is read again, and what is none is refused."""

from __future__ import annotations

import base64
import re
from datetime import UTC
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.identity import ID_LENGTH_MAX, Identity, Named, NoIdentity, named, of_view
from domain.kernel import Refused, Role
from projections.clock import CLOCKS
from projections.complaint import COMPLAINTS
from projections.history import HISTORY
from tests.api.conftest import Office
from tests.conftest import Database

NODE, NODES = "query ($id: ID!) { node(id: $id) { id } }", "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"
IDENTITIES = {view.name: of_view(view, dated=view is not HISTORY) for view in (COMPLAINTS, CLOCKS, HISTORY)}
GOOD = IDENTITIES["complaint_clock"].write((UUID(int=1), "form", 1))


def binary(*parts: bytes) -> str:
    return base64.urlsafe_b64encode(b"".join(parts)).decode().rstrip("=")


REFUSED = (
    "",
    "~",
    "1",
    str(UUID(int=1)),
    GOOD + "=",
    GOOD + "A",
    GOOD[:-1],
    " " + GOOD,
    GOOD + "\n",
    GOOD + "~",
    GOOD + "~" + binary(b"v", bytes(7)),
    GOOD + "~" + binary(b"x", bytes(8)),
    GOOD + "~" + binary(b"o", b"\x7f" + b"\xff" * 7),
    GOOD + "~" + binary(b"v", bytes(8)) + "~" + binary(b"v", bytes(8)),
    IDENTITIES["history"].write((UUID(int=1), 1)) + "~" + binary(b"v", bytes(8)),
    binary(b"complaint_case\x00", bytes(15)),
    binary(b"complaint_case\x00", bytes(17)),
    binary(b"complaint_case", bytes(16)),
    binary(b"event\x00", bytes(16)),
    binary(b"complaint_clock\x00", bytes(16), b"form", bytes(7)),
    binary(b"complaint_clock\x00", bytes(16), b"\xff\xfe\x00", bytes(8)),
    binary(b"\xe6\xa1\x88\x00", bytes(16)),
    binary(b"complaint_clock\x00", bytes(16), b"f" * ID_LENGTH_MAX, b"\x00", bytes(8)),
    "投诉",
    "A" * 100_000,
    "' OR 1 = 1 --",
    "\x00",
)


@pytest.mark.parametrize("id", REFUSED, ids=lambda id: ascii(id)[:30])
def test_what_is_no_id_is_refused(office: Office, id: str) -> None:
    guide = office[Role.GUIDE]
    said = guide.error(NODE, id=id)
    assert (said["code"], said["field"]) == ("node.id", "id")
    assert said["sentenceZh"]
    assert guide.error(NODES, ids=[id])["field"] == "ids"


def test_a_bit_that_means_nothing_may_not_be_set() -> None:
    """Each object has one id: of two texts that decode to the same bytes, one is none."""
    good = IDENTITIES["complaint_case"].write((UUID(int=1),))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = good[:-1] + alphabet[alphabet.index(good[-1]) + 1]
    assert len(good) % 4 != 0
    assert base64.urlsafe_b64decode(other + "==") == base64.urlsafe_b64decode(good + "==")
    with pytest.raises(Refused, match=r"node\.id"):
        named(other, IDENTITIES, "id")


wholes = st.integers(-(2**63), 2**63 - 1)
instants = st.datetimes(timezones=st.just(UTC))
bounds = (
    st.none()
    | st.tuples(st.sampled_from(["version", "position"]), wholes)
    | st.tuples(st.sampled_from(["occurred_at", "recorded_at"]), instants)
)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)


@given(st.uuids(allow_nil=True), words, wholes, bounds)
@example(UUID(int=0), "", 0, None)
def test_an_id_says_what_it_was_made_of(id: UUID, step: str, number: int, bound: tuple[str, Any] | None) -> None:
    written = IDENTITIES["complaint_clock"].write((id, step, number), dict([bound]) if bound else None)
    assert re.fullmatch(r"[A-Za-z0-9_~-]+", written)
    if len(written) <= ID_LENGTH_MAX:
        assert named(written, IDENTITIES, "id") == Named("complaint_clock", (id, step, number), bound)


@given(st.text(max_size=60) | st.binary(max_size=60).map(binary))
def test_whatever_is_read_as_an_id_is_written_so(text: str) -> None:
    try:
        found = named(text, IDENTITIES, "id")
    except Refused:
        return
    assert IDENTITIES[found.tag].write(found.key, dict([found.bound]) if found.bound else None) == text


def test_postgres_writes_the_same_id(database: Database) -> None:
    """What compiles selections to SQL has it from `Identity.sql`."""
    some = Identity("some_view", ["uuid", "text", "bigint"])
    with psycopg.connect(database.app) as connection:
        for key in [
            (UUID(int=0), "", 0),
            (UUID(int=2**128 - 1), "投诉😀" * 20, -(2**63)),
            *[(uuid4(), "x" * n, 2**n) for n in range(60)],
        ]:
            query = (
                f"SELECT {some.sql(['k.a', 'k.b', 'k.c'])} FROM (SELECT %s::uuid, %s::text, %s::bigint) AS k (a, b, c)"
            )
            row = connection.execute(query.encode(), key).fetchone()
            assert row == (some.write(key),)


def test_a_key_no_id_can_hold_is_not_declared() -> None:
    with pytest.raises(AssertionError, match="no key"):
        Identity("some_view", ["numeric"])
    with pytest.raises(NoIdentity):
        IDENTITIES["complaint_case"].read(bytes(16), bytes(9)[:8])
