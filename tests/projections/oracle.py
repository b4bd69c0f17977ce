"""What the parcels' views must show, worked out from a list of events without any of the machinery or the folds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from domain.kernel import Event
from domain.store.casebook import House
from projections.table import Table
from projections.view import Row, View
from tests.projections.parcel import ParcelCarried, ParcelDelivered, ParcelScrapped, ParcelSent, ParcelWeighed

Log = Sequence[tuple[int, Event]]
"""Events with their positions, in position order."""


def stored(house: House, view: View[Any], institution: str) -> list[dict[str, Any]]:
    """The rows of a view as they stand in the table, in key order; without the time of recording."""
    table = Table(view)
    with house.everywhere.connection() as connection:
        key = ", ".join(view.key)
        query = f"SELECT {key} FROM {view.name} WHERE institution = %s ORDER BY {key}"
        keys = connection.execute(query.encode(), (institution,)).fetchall()
        loaded = table.load(connection, institution, keys)
    return [plain(row) for key in keys if (row := loaded[key]) is not None]


def plain(row: Row) -> dict[str, Any]:
    return {k: v for k, v in vars(row).items() if k != "recorded_at"}


def parcel_rows(institution: str, log: Log) -> list[dict[str, Any]]:
    streams: dict[UUID, list[tuple[int, Event]]] = defaultdict(list)
    for position, event in log:
        if isinstance(event, ParcelSent | ParcelCarried | ParcelWeighed | ParcelDelivered | ParcelScrapped):
            streams[event.originator_id].append((position, event))
    rows: list[dict[str, Any]] = []
    for parcel, events in sorted(streams.items()):
        said = [e for _, e in events]
        if any(isinstance(e, ParcelScrapped) for e in said):
            continue
        sent = next(e for e in said if isinstance(e, ParcelSent))
        carried = [e.place for e in said if isinstance(e, ParcelCarried)]
        weighed = [e.kilos for e in said if isinstance(e, ParcelWeighed)]
        delivered = [e.stamp.at for e in said if isinstance(e, ParcelDelivered)]
        rows.append(
            {
                "institution": institution,
                "position": events[-1][0],
                "version": said[-1].originator_version,
                "parcel_id": parcel,
                "number": sent.number,
                "name": sent.name,
                "size": sent.size,
                "standing": "delivered" if delivered else "under_way",
                "place": carried[-1] if carried else None,
                "places": tuple(carried),
                "kilos": weighed[-1] if weighed else None,
                "sent_at": sent.stamp.at,
                "delivered_at": delivered[-1] if delivered else None,
            }
        )
    return rows


def place_rows(institution: str, log: Log) -> list[dict[str, Any]]:
    visits = [(p, e) for p, e in log if isinstance(e, ParcelCarried)]
    rows: list[dict[str, Any]] = []
    for place in sorted({e.place for _, e in visits}):
        here = [(p, e) for p, e in visits if e.place == place]
        position, last = here[-1]
        rows.append(
            {
                "institution": institution,
                "position": position,
                "version": last.originator_version,
                "place": place,
                "came": len(here),
                "last": last.originator_id,
            }
        )
    return rows


def leg_rows(institution: str, log: Log) -> list[dict[str, Any]]:
    carried = {(e.originator_id, e.originator_version): (p, e) for p, e in log if isinstance(e, ParcelCarried)}
    rows: list[dict[str, Any]] = []
    for (parcel, leg), (position, event) in sorted(carried.items()):
        next_position, after = carried.get((parcel, leg + 1), (position, None))
        rows.append(
            {
                "institution": institution,
                "position": next_position,
                "version": leg + 1 if after else leg,
                "parcel_id": parcel,
                "leg": leg,
                "place": event.place,
                "came_at": event.stamp.at,
                "left_at": after.stamp.at if after else None,
            }
        )
    return rows
