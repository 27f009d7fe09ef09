"""nginx's figures bear the same names as Envoy's."""

from amalgam8.sidecar.envoy import admin
from amalgam8.sidecar.nginx.metrics import HELP
from tests.sidecar.nginx.support import Mesh, backends, simple


def test_names_are_among_the_other_proxys() -> None:
    theirs = {metric.name for metric in admin.METRICS} | {admin.RESTARTS.name}
    assert set(HELP) <= theirs


async def test_calls_are_counted_over_all_workers(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        for _ in range(5):
            await mesh.ask("/reviews/x")
        text = (await mesh.nginx.metrics()).decode()
        assert 'a8_proxy_calls_total{status="2xx"} 5\n' in text
