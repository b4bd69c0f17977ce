"""What is measured at the moment somebody looks: lanes, pools, plans, views. No label names an institution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client.core import GaugeMetricFamily, Metric
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from api.edge.admission import Admission
from api.watch.health import Health
from projections.tracking import Lag


class Sized(Protocol):
    """Something that holds so many things."""

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Gauges:
    """Where to look. `kept` and `more` are what else has a size: caches, logs, subscriptions."""

    admission: Admission
    health: Health
    pools: Mapping[str, ConnectionPool[Any] | AsyncConnectionPool[Any]]
    kept: Mapping[str, Sized]
    more: Mapping[str, tuple[str, Callable[[], float]]]

    def collect(self) -> Iterable[Metric]:
        """The metrics, for a registry."""
        yield from self._lanes()
        yield from self._pools()
        cached = _gauge("cache_entries", "Entries kept, by cache.", "cache")
        for name, held in self.kept.items():
            cached.add_metric([name], len(held))
        yield cached
        for name, (said, value) in self.more.items():
            alone = _gauge(name, said)
            alone.add_metric([], value())
            yield alone
        yield from self._views()

    def _lanes(self) -> Iterable[Metric]:
        inside = _gauge("requests_in_flight", "Requests that are worked on, by lane.", "lane")
        waiting = _gauge("requests_waiting", "Requests that wait to be let in, by lane.", "lane")
        for lane in self.admission.lanes:
            inside.add_metric([lane.name], lane.inside)
            waiting.add_metric([lane.name], lane.waiting)
        open_ = _gauge("requests_open", "Requests that have begun and are not over, whatever they wait for.")
        open_.add_metric([], self.admission.open)
        return inside, waiting, open_

    def _pools(self) -> Iterable[Metric]:
        connections = _gauge("pool_connections", "Database connections, by pool and state.", "pool", "state")
        waiting = _gauge("pool_waiting", "Requests that wait for a database connection, by pool.", "pool")
        most = _gauge("pool_connections_max", "Most database connections, by pool.", "pool")
        for name, pool in self.pools.items():
            stats = pool.get_stats()
            size, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
            connections.add_metric([name, "used"], size - idle)
            connections.add_metric([name, "idle"], idle)
            waiting.add_metric([name], stats.get("requests_waiting", 0))
            most.add_metric([name], stats.get("pool_max", 0))
        return connections, waiting, most

    def _views(self) -> Iterable[Metric]:
        seen = self.health.latest()
        ready = _gauge("ready", "1 when database, schema and views could be looked at and the process is not ending.")
        ready.add_metric([], float(seen is not None and seen.ready and not self.health.draining))
        yield ready
        lags: dict[str, list[Lag]] = {}
        for one in () if seen is None else seen.lags:
            lags.setdefault(one.view, []).append(one)
        worst = _gauge(
            "view_behind_events", "Events the view has not read, in the institution furthest behind.", "view"
        )
        total = _gauge("view_behind_events_total", "Events the view has not read, in all institutions.", "view")
        oldest = _gauge("view_behind_seconds", "Age of the oldest event that the view has not read.", "view")
        parked = _gauge("view_parked", "Keys of the view that wait for a repair, in all institutions.", "view")
        followed = _gauge("view_followed", "1 when a runner of the view was seen a moment ago.", "view")
        for view, ones in lags.items():
            worst.add_metric([view], max(one.behind for one in ones))
            total.add_metric([view], sum(one.behind for one in ones))
            oldest.add_metric([view], max(one.seconds_behind or 0.0 for one in ones))
            parked.add_metric([view], sum(one.parked for one in ones))
            followed.add_metric([view], float(any(one.alive for one in ones)))
        yield from (worst, total, oldest, parked, followed)
        if lags:
            head = _gauge("log_events", "Events in the logs of all institutions.")
            head.add_metric([], sum(one.head for one in next(iter(lags.values()))))
            yield head


def _gauge(name: str, said: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"anjuan_{name}", said, labels=labels)
