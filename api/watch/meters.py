"""What is counted of requests, for Prometheus: in a registry of the application's own.

Labels take values from closed lists only: routes, kinds, roads, codes that refusals are known to have. Nobody's
institution, name or number is among them, and whatever is on no list is counted as `other`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from api.chinese.sentences import SENTENCES
from api.watch.account import ANSWERED, Account

OTHER = "other"
INTERNAL = "internal"
CODES = frozenset({*SENTENCES, ANSWERED, INTERNAL})
ROUTES = frozenset({"/graphql", "/sign-in", "/sign-out", "/password"})
"""Paths that are counted under their own name, beside those `Meters` is told of."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Meters:
    """The counters of one application, and the page that shows them."""

    def __init__(self, routes: Iterable[str] = ()) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._routes = ROUTES | frozenset(routes)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._known: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._requests = self._counter(
            "requests", "Requests by what became of them: answered, refused, shed (too much at once) or fault.",
            "route", "kind", "outcome",
        )  # fmt: skip
        self._codes = self._counter("refusals", "Requests and commands that were refused, by code.", "code")
        self._roads = self._counter("questions", "Questions that ran, by how they were answered.", "road")
        self._commands = self._counter("commands", "Commands: done, repeated, refused or failed.", "outcome")
        self._appended = self._counter("appended_events", "Events appended by commands of this process.")
        self._cost = self._counter("cost", "Cost of the operations that were let in, as budgets count it.")
        self._seconds = Histogram(
            "anjuan_request_seconds",
            "How long requests took that were not shed.",
            ("route", "kind"),
            buckets=SECONDS,
            registry=self.registry,
        )

    def _counter(self, name: str, said: str, *labels: str) -> Counter:
        return Counter(f"anjuan_{name}", said, labels, registry=self.registry)

    def route(self, path: str) -> str:
        """The name a path is counted and logged under."""
        return path if path in self._routes else OTHER

    def watch(self, collect: Callable[[], Iterable[Metric]]) -> None:
        """Have `collect` say more whenever somebody looks."""
        self.registry.register(_Collected(collect))

    def request(self, path: str, status: int, said: Account) -> None:
        """One request is over; status 0 is one that nobody waited for any more."""
        route = self.route(path)
        kind = said.kind or OTHER
        if said.shed:
            outcome = "shed"
        elif said.code == INTERNAL or status == 500:
            outcome = "fault"
        else:
            outcome = "answered" if said.code == ANSWERED and status < 400 else "refused"
        count, time = self._of(route, kind, outcome)
        count.inc()
        for command in said.commands:
            self._commands.labels(command.outcome).inc()
            self._appended.inc(command.events)
        for code in (said.code, *(command.code for command in said.commands)):
            if code not in (None, ANSWERED):
                self._codes.labels(code if code in CODES else OTHER).inc()
        if said.road is not None and said.kind == "question":
            self._roads.labels(said.road).inc()
        if said.cost is not None:
            self._cost.inc(said.cost)
        if not said.shed:
            time.observe(said.seconds)

    def _of(self, route: str, kind: str, outcome: str) -> tuple[Counter, Histogram]:
        known = self._known.get((route, kind, outcome))
        if known is None:  # looking labels up costs more than counting
            known = self._requests.labels(route, kind, outcome), self._seconds.labels(route, kind)
            self._known[route, kind, outcome] = known
        return known

    def page(self, accept: str | None) -> tuple[bytes, str]:
        """Everything, in OpenMetrics where that is accepted, else in Prometheus' text format; and its media type."""
        encode, media_type = choose_encoder(accept or "")
        return encode(self.registry), media_type


class _Collected(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked of the database while the application is put together."""
        return []
