"""nginx's figures bear the same names as Envoy's."""

from amalgam8.routing.plan import AccessEntry
from amalgam8.sidecar.envoy import admin
from amalgam8.sidecar.nginx.configuration import lua_folder
from amalgam8.sidecar.nginx.metrics import EDGES, HELP
from tests.sidecar.nginx.support import Mesh, backends, simple


def test_names_are_among_the_other_proxys() -> None:
    by_destination = {line.split()[2] for line in admin.calls(b"").decode().splitlines()}
    theirs = {metric.name for metric in admin.METRICS} | {admin.RESTARTS.name} | by_destination
    assert set(HELP) == theirs


async def test_calls_are_counted_over_all_workers(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        for _ in range(5):
            await mesh.ask("/reviews/x")
        text = (await mesh.nginx.metrics()).decode()
        assert 'a8_proxy_calls_total{status="2xx"} 5\n' in text


async def test_by_destination_version_class_and_reason_and_how_long(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        guarded = simple("guarded", one.peer(), access=(AccessEntry(rule="no", verdict="deny"),))
        await mesh.follow(simple("reviews", one.peer("v1", "blue")), guarded, simple("empty"))
        for path in (
            "/reviews/x",
            "/reviews/x",
            "/reviews/status-500",
            "/guarded/x",
            "/empty/x",
            "/nobody/x",
        ):
            await mesh.ask(path)
        text = (await mesh.nginx.metrics()).decode()
        requests = "a8_proxy_requests_total{destination="
        assert f'{requests}"reviews",version="blue,v1",status="2xx",reason=""}} 2\n' in text
        assert f'{requests}"reviews",version="blue,v1",status="5xx",reason=""}} 1\n' in text
        assert f'{requests}"guarded",version="",status="4xx",reason="denied"}} 1\n' in text
        assert f'{requests}"empty",version="",status="5xx",reason="unavailable"}} 1\n' in text
        assert f'{requests}"",version="",status="4xx",reason="unknown"}} 1\n' in text
        assert 'a8_proxy_request_duration_seconds_count{destination="reviews",version="blue,v1"} 3\n' in text
        assert (
            'a8_proxy_request_duration_seconds_bucket{destination="reviews",version="blue,v1",le="+Inf"} 3\n'
            in text
        )
        assert 'a8_proxy_calls_total{status="5xx"} 2\n' in text


def test_both_sides_count_by_the_same_edges() -> None:
    words = (lua_folder() / "a8" / "figures.lua").read_text().partition("EDGES = {")[2].partition("}")[0]
    assert tuple(float(word) for word in words.replace(",", " ").split()) == EDGES
