import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from amalgam8.catalogs.following import State
from amalgam8.registry.eureka_bridge import Bridging
from amalgam8.registry.metrics import METRICS, WATCH_ROUTE, Metrics
from amalgam8.registry.store import Happened
from amalgam8.registry.watch import Watchers
from amalgam8.web.app import Served
from tests.contracts.registry_store import instance
from tests.registry.kit import MemoryKit, running


def shown(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.show().decode())
        for sample in family.samples
        if sample.name.startswith("a8_")
    }


async def test_everything_shown_stands_in_the_table_with_its_labels() -> None:
    metrics = Metrics()
    store = MemoryKit().make()
    states = [State("file", False, "t.yaml: line 1", 2.5, 3, 0, 0, 7)]
    metrics.watch(store, Watchers(store), lambda: states, bridging=lambda: Bridging("t", 2, 1, 3))
    await store.register("t", instance())
    metrics.served(Served("GET", "/uptime", 200, 0.01))
    metrics.happened(Happened("t", "registered", "a", "1"))
    seen = set()
    for name, labels in shown(metrics):
        if name.endswith("_created"):
            continue
        base = re.sub("_(bucket|sum|count)$", "", name)
        seen.add(base)
        assert {label for label, _ in labels} - {"le"} == set(METRICS[base][1])
        assert "tenant" in METRICS[base][1] or "catalog" in METRICS[base][1]
    assert seen == set(METRICS)
    of_file = (("catalog", "file"),)
    assert shown(metrics)["a8_registry_catalog_readable", of_file] == 0
    assert shown(metrics)["a8_registry_catalog_age_seconds", of_file] == 2.5
    assert shown(metrics)["a8_registry_catalog_failures", of_file] == 7
    assert b"t.yaml" not in metrics.show()


async def test_gauges_follow_the_store() -> None:
    store = MemoryKit().make()
    metrics = Metrics()
    metrics.watch(store, Watchers(store))
    await store.register("t", instance(port=1))
    await store.register("t", instance("ratings", 2, status="STARTING"))
    await store.register("u", instance(port=1))
    found = shown(metrics)
    assert found["a8_registry_instances", (("status", "UP"), ("tenant", "t"))] == 1
    assert found["a8_registry_instances", (("status", "STARTING"), ("tenant", "t"))] == 1
    assert found["a8_registry_instances", (("status", "UP"), ("tenant", "u"))] == 1
    assert found["a8_registry_services", (("tenant", "t"),)] == 2
    assert found["a8_registry_revision", (("tenant", "t"),)] == 2
    await store.remove("t", instance(port=1).id)
    assert shown(metrics)["a8_registry_instances", (("status", "UP"), ("tenant", "t"))] == 0


def test_two_registries_do_not_share_counters() -> None:
    one, other = Metrics(), Metrics()
    one.happened(Happened("t", "expired", "a", "1"))
    assert shown(one)["a8_registry_lease_events_total", (("event", "expired"), ("tenant", "t"))] == 1
    assert ("a8_registry_lease_events_total", (("event", "expired"), ("tenant", "t"))) not in shown(other)


def test_a_streams_length_is_no_latency() -> None:
    metrics = Metrics()
    metrics.served(Served("GET", WATCH_ROUTE, 200, 3600.0, "t"))
    assert {name for name, labels in shown(metrics) if ("route", WATCH_ROUTE) in labels} == {
        "a8_registry_requests_total"
    }


def test_the_buckets_of_a_histogram_add_up() -> None:
    metrics = Metrics()
    for seconds in (0.0001, 0.0005, 0.003, 60.0):
        metrics.served(Served("GET", "/", 200, seconds, "t"))
    metrics.served(Served("GET", "/", 404, 0.003, "t"))
    found = shown(metrics)
    labels = (("method", "GET"), ("route", "/"), ("tenant", "t"))
    counts = {
        dict(given)["le"]: count
        for (name, given), count in found.items()
        if name == "a8_registry_request_seconds_bucket"
    }
    assert (counts["0.0005"], counts["0.0025"], counts["0.005"], counts["5.0"], counts["+Inf"]) == (
        2,
        2,
        4,
        4,
        5,
    )
    assert list(counts.values()) == sorted(counts.values())
    assert found["a8_registry_request_seconds_count", labels] == 5
    assert found["a8_registry_request_seconds_sum", labels] == pytest.approx(60.0066)
    assert found["a8_registry_requests_total", (*labels[:2], ("status", "200"), labels[2])] == 4


async def test_paths_asked_for_make_no_series() -> None:
    async with running() as registry:
        for number in range(20):
            await registry.ask("GET", f"/nope/{number}")
            await registry.ask("GET", f"/api/v1/services/nope-{number}")
        answer = await registry.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "nope" not in answer.body.decode()
    routes = set(re.findall(r'requests_total\{.*route="([^"]*)"', answer.body.decode()))
    assert routes == {"other", "/api/v1/services/{name}"}
