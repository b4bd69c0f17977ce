"""Slowing down whoever guesses: sign-ins, counted in the database, and tokens nobody knows, counted in the process.

A sign-in counts as failed until it has succeeded, so that many at once gain nothing. How long an address waits before
its next try at an account follows from the failures there, its own and, unless somebody has signed in to the account
from it before, everybody's. The wait is its own: whoever guesses from elsewhere cannot lengthen it, so nobody is locked
out for ever.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from math import ceil
from typing import Any, Literal

from psycopg import Connection
from psycopg_pool import ConnectionPool
from starlette.requests import HTTPConnection

ACCOUNT_FREE, ACCOUNT_DELAY_MAX = 5, 900.0
"""Failures of an account that cost no wait; longest wait in seconds after more."""
ADDRESS_FREE, ADDRESS_DELAY_MAX = 50, 60.0
"""The same of an address, behind which may be a whole hospital; it is forgiven one a minute."""
STRANGER_DELAY_MAX = 60.0
"""Longest wait of an address after too many tokens nobody knows; it is forgiven one every two seconds."""
FORGOTTEN_SECONDS = 86_400.0
KNOCKED = 0.5
"""In place of a count: this address was told to wait, and has not tried yet."""
STRANGERS_MAX = 10_000
BUCKETS = 1 << 20

Kind = Literal["address", "account", "account_at_address"]
Network = IPv4Network | IPv6Network


class Slowed(Exception):
    """Too many failures; try again after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = max(1, ceil(seconds))


def delay(failures: float, free: int, longest: float) -> float:
    """Seconds to wait after so many failures: none at first, then 1, 2, 4 … up to the longest."""
    return 0.0 if failures < free else min(2.0 ** min(failures - free, 60), longest)


@dataclass
class Count:
    """What is kept in one bucket; `wait` and `since` in seconds from the database's present."""

    failures: float
    since: float
    wait: float
    known: bool


_LOCK = """
    SELECT kind, failures, extract(epoch FROM clock_timestamp() - tried_at)::float8,
           extract(epoch FROM next_at - clock_timestamp())::float8, known
    FROM sign_in_attempt
    WHERE (kind, bucket) IN ((%s, %s), (%s, %s), (%s, %s))
    ORDER BY kind, bucket
    FOR UPDATE
"""
_MAKE = """
    INSERT INTO sign_in_attempt (kind, bucket) VALUES (%s, %s), (%s, %s), (%s, %s)
    ON CONFLICT (kind, bucket) DO NOTHING
"""
_KEEP = """
    UPDATE sign_in_attempt
       SET failures = %s, tried_at = clock_timestamp(), next_at = clock_timestamp() + %s * interval '1 second',
           known = known OR %s
    WHERE kind = %s AND bucket = %s
"""


class Attempts:
    """Tries to sign in, counted in the database, so that all processes agree. Blocks."""

    def __init__(self, pool: ConnectionPool[Connection[Any]]) -> None:
        self._pool = pool

    def begin(self, account: str, address: str) -> None:
        """Count one more try as failed, or raise Slowed, which counts nothing."""
        places = _places(account, address)
        with self._pool.connection() as connection, connection.transaction():
            counts = _counts(connection, places)
            here, there, pair = (counts[kind] for kind in ("address", "account", "account_at_address"))
            if (wait := max(here.wait, pair.wait)) > 0:
                raise Slowed(wait)
            own = 0.0 if pair.since > FORGOTTEN_SECONDS else pair.failures
            others = 0.0 if pair.known or there.since > FORGOTTEN_SECONDS else there.failures
            if own == 0 and (wait := delay(others, ACCOUNT_FREE, ACCOUNT_DELAY_MAX)) > 0:
                # committed, unlike what an exception leaves
                _keep(connection, places, "account_at_address", KNOCKED, wait)
            else:
                _keep(connection, places, "account_at_address", own + 1, _account_delay(own + 1, others + 1))
                _keep(connection, places, "account", _lasting(there) + 1, 0)
                tried = max(0.0, here.failures - here.since / 60) + 1
                _keep(connection, places, "address", tried, delay(tried, ADDRESS_FREE, ADDRESS_DELAY_MAX))
                return
        raise Slowed(wait)

    def succeeded(self, account: str, address: str) -> None:
        """The try begun last was no failure: the account's count begins anew, and the address is known to it."""
        places = _places(account, address)
        with self._pool.connection() as connection, connection.transaction():
            counts = _counts(connection, places)
            tried = max(0.0, counts["address"].failures - 1)
            _keep(connection, places, "account_at_address", 0, 0, known=True)
            _keep(connection, places, "account", 0, 0)
            _keep(connection, places, "address", tried, delay(tried, ADDRESS_FREE, ADDRESS_DELAY_MAX))


def _lasting(count: Count) -> float:
    return 0.0 if count.since > FORGOTTEN_SECONDS else count.failures


def _account_delay(own: float, others: float) -> float:
    return delay(max(own, others), ACCOUNT_FREE, ACCOUNT_DELAY_MAX)


def _places(account: str, address: str) -> dict[Kind, int]:
    """The buckets; a collision makes a stranger wait, at worst, as long as the longest delay."""
    return {
        "account": _bucket("account", account),
        "account_at_address": _bucket("account_at_address", f"{account}\0{address}"),
        "address": _bucket("address", address),
    }


def _bucket(kind: Kind, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{kind}\0{key}".encode()).digest()[:4]) % BUCKETS


def _counts(connection: Connection[Any], places: dict[Kind, int]) -> dict[Kind, Count]:
    values = [value for place in places.items() for value in place]
    connection.execute(_MAKE, values)
    rows = connection.execute(_LOCK, values).fetchall()
    return {kind: Count(failures, since, wait, known) for kind, failures, since, wait, known in rows}


def _keep(
    connection: Connection[Any],
    places: dict[Kind, int],
    kind: Kind,
    failures: float,
    wait: float,
    *,
    known: bool = False,
) -> None:
    connection.execute(_KEEP, (failures, wait, known, kind, places[kind]))


class Strangers:
    """Tokens that nobody knows, by the address they came from: in this process, in bounded memory."""

    def __init__(self, free: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._free = free
        self._clock = clock
        self._seen: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def may_try(self, address: str) -> None:
        """Raise Slowed while this address must wait."""
        failures, at = self._seen.get(address, (0.0, 0.0))
        wait = at + delay(failures, self._free, STRANGER_DELAY_MAX) - self._clock()
        if failures and wait > 0:
            raise Slowed(wait)

    def failed(self, address: str) -> None:
        """Another token from here that nobody knows."""
        now = self._clock()
        failures, at = self._seen.pop(address, (0.0, now))
        self._seen[address] = (max(0.0, failures - (now - at) / 2) + 1, now)
        if len(self._seen) > STRANGERS_MAX:
            self._seen.popitem(last=False)


def client_address(request: HTTPConnection, trusted: Sequence[Network]) -> str:
    """Where a request comes from: the peer or, if that is a trusted proxy, whoever it and those before it name.

    An IPv6 address stands for its network of 64 bits, which is one customer's. Empty where there is no address.
    """
    address = _address(request.client.host) if request.client else None
    for said in reversed(",".join(request.headers.getlist("x-forwarded-for")).split(",")):
        if address is None or not any(address in network for network in trusted):
            break
        named = _address(said.strip())
        if named is None:  # what stands before it was not vouched for
            break
        address = named
    if isinstance(address, IPv6Address):
        return f"{IPv6Network((int(address) >> 64 << 64, 64))}"
    return str(address or "")


def _address(said: str) -> IPv4Address | IPv6Address | None:
    """The address said, with or without a port; None when it is none."""
    if said.startswith("["):
        said = said[1:].partition("]")[0]
    elif said.count(":") == 1:
        said = said.partition(":")[0]
    try:
        address = ip_address(said.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
