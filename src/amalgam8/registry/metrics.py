"""The registry's metrics, in a registry of their own. Every series of a tenant has its name as a label; those
of catalogues are of all tenants together.

Counters are fed by event records of the edges; gauges are read off the store when somebody asks.
"""

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from amalgam8.catalogs.following import State
from amalgam8.registry.eureka_bridge import Bridging
from amalgam8.registry.history import History
from amalgam8.registry.store import Happened, Store
from amalgam8.registry.watch import Watchers
from amalgam8.web.app import Served
from amalgam8.web.figures import OneTenant

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
WATCH_ROUTE = "/api/v1/instances/watch"
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

METRICS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "a8_registry_requests_total": (
        "counter",
        ("tenant", "method", "route", "status"),
        "Requests answered; tenant is empty where none was known.",
    ),
    "a8_registry_request_seconds": (
        "histogram",
        ("tenant", "method", "route"),
        "Time from a request to the end of its answer; streams are left out.",
    ),
    "a8_registry_lease_events_total": (
        "counter",
        ("tenant", "event"),
        "What happened to leases: registered, changed, renewed, removed, expired; frozen and thawed: expiry.",
    ),
    "a8_registry_instances": ("gauge", ("tenant", "status"), "Instances by status."),
    "a8_registry_services": ("gauge", ("tenant",), "Services that have an instance."),
    "a8_registry_revision": ("gauge", ("tenant",), "Changes since the registry began."),
    "a8_registry_expiry_frozen": ("gauge", ("tenant",), "1 while no lease is ended since many are late."),
    "a8_registry_watchers": ("gauge", ("tenant",), "Watch streams that are open."),
    "a8_registry_catalog_readable": ("gauge", ("catalog",), "1 while the catalogue can be read, else 0."),
    "a8_registry_catalog_age_seconds": (
        "gauge",
        ("catalog",),
        "Time since the catalogue was last read; absent before the first time.",
    ),
    "a8_registry_catalog_failures": ("gauge", ("catalog",), "How often reading the catalogue has failed."),
    "a8_registry_eureka_published": ("gauge", ("tenant",), "Instances that stand in Eureka by our doing."),
    "a8_registry_eureka_waiting": (
        "gauge",
        ("tenant",),
        "Instances that stand in Eureka not as they should.",
    ),
    "a8_registry_eureka_failures": ("gauge", ("tenant",), "How often writing to Eureka has failed."),
}
"""Name → kind, labels, meaning."""


class Metrics:
    """All of METRICS. ``show`` renders them for ``GET /metrics``.

    What is counted with each request is kept in plain numbers and made into series when somebody asks.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests: dict[tuple[str, str, str], _Requests] = {}
        self._events: Tally[tuple[str, str]] = Tally()
        self._registry.register(_Counted(self._requests, self._events))

    def watch(
        self,
        store: Store,
        watchers: Watchers,
        states: Callable[[], Iterable[State]] = tuple,
        history: History | None = None,
        bridging: Callable[[], Bridging] | None = None,
    ) -> None:
        """Read gauges off these from now on; ``states`` says how the catalogues are, ``bridging`` how the
        bridge to a Eureka is, if there is one."""
        self._registry.register(_Gauges(store, watchers, states, history or History(), bridging))

    def served(self, event: Served) -> None:
        key = (event.tenant, event.method, event.route)
        found = self._requests.get(key)
        if found is None:
            found = self._requests[key] = _Requests()
        found.add(event.status, event.seconds)

    def happened(self, event: Happened) -> None:
        self._events[event.tenant, event.what] += event.count

    def show(self, only: str | None = None) -> bytes:
        """The text format of Prometheus; ``only``: no series of other tenants than this one."""
        return generate_latest(self._registry if only is None else OneTenant(self._registry, only))


class _Requests:
    """Requests of one tenant, method and route: how many by status, and how long they took."""

    __slots__ = ("buckets", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.buckets = [0] * (len(_BUCKETS) + 1)
        self.seconds = 0.0

    def add(self, status: int, seconds: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.buckets[bisect_left(_BUCKETS, seconds)] += 1
        self.seconds += seconds

    def cumulated(self) -> list[tuple[str, float]]:
        """The buckets as Prometheus has them: each with all that took less."""
        ends = [*(repr(end) for end in _BUCKETS), "+Inf"]
        return list(zip(ends, accumulate(self.buckets), strict=True))


class _Counted(Collector):
    def __init__(
        self, requests: Mapping[tuple[str, str, str], _Requests], events: Mapping[tuple[str, str], int]
    ) -> None:
        self._requests = requests
        self._events = events

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        requests, happened = (
            _counter("a8_registry_requests_total"),
            _counter("a8_registry_lease_events_total"),
        )
        _, labels, meaning = METRICS["a8_registry_request_seconds"]
        seconds = HistogramMetricFamily("a8_registry_request_seconds", meaning, labels=labels)
        for key, one in self._requests.items():
            for status, count in one.statuses.items():
                requests.add_metric([*key, str(status)], count)
            if key[2] != WATCH_ROUTE:
                seconds.add_metric(list(key), one.cumulated(), one.seconds)
        for event, count in self._events.items():
            happened.add_metric(list(event), count)
        yield from (requests, seconds, happened)


class _Gauges(Collector):
    def __init__(
        self,
        store: Store,
        watchers: Watchers,
        states: Callable[[], Iterable[State]],
        history: History,
        bridging: Callable[[], Bridging] | None,
    ) -> None:
        self._bridging = bridging
        self._history = history
        self._store = store
        self._watchers = watchers
        self._states = states

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        instances, services = _gauge("a8_registry_instances"), _gauge("a8_registry_services")
        revision, watchers = _gauge("a8_registry_revision"), _gauge("a8_registry_watchers")
        frozen = _gauge("a8_registry_expiry_frozen")
        for tenant in list(self._store.tenants()):
            frozen.add_metric([tenant], tenant in self._history.frozen)
            view = self._store.view(tenant)
            statuses = Tally(lease.instance.status for lease in view)
            for status in sorted({"UP", *statuses}):
                instances.add_metric([tenant, status], statuses[status])
            services.add_metric([tenant], len(view.services()))
            revision.add_metric([tenant], view.feed.revision)
            watchers.add_metric([tenant], self._watchers.count(tenant))
        yield from (instances, services, revision, watchers, frozen, *self._of_catalogs())
        if self._bridging is not None:
            yield from _of_bridge(self._bridging())

    def _of_catalogs(self) -> Iterator[Metric]:
        readable, failures = _gauge("a8_registry_catalog_readable"), _gauge("a8_registry_catalog_failures")
        age = _gauge("a8_registry_catalog_age_seconds")
        for state in self._states():
            readable.add_metric([state.name], state.healthy)
            failures.add_metric([state.name], state.failures)
            if state.age is not None:
                age.add_metric([state.name], state.age)
        yield from (readable, age, failures)


def _of_bridge(state: Bridging) -> Iterator[Metric]:
    for name in ("published", "waiting", "failures"):
        gauge = _gauge(f"a8_registry_eureka_{name}")
        gauge.add_metric([state.tenant], getattr(state, name))
        yield gauge


def _counter(name: str) -> CounterMetricFamily:
    _, labels, meaning = METRICS[name]
    return CounterMetricFamily(name.removesuffix("_total"), meaning, labels=labels)


def _gauge(name: str) -> GaugeMetricFamily:
    _, labels, meaning = METRICS[name]
    return GaugeMetricFamily(name, meaning, labels=labels)
