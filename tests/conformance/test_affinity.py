"""Affinity over changes of weights and over restarts of the proxy: only those move that have to."""

from pathlib import Path

import pytest

from amalgam8.model.rule import Affinity
from amalgam8.routing.plan import DestinationPlan, PlanBackend, RouteEntry
from amalgam8.routing.resolve import ServiceRouting, resolve
from tests.conformance.conftest import LACKS
from tests.conformance.proxies import PROXIES
from tests.conformance.running import Bench, bench
from tests.conformance.test_endurance import placed
from tests.sidecar.envoy.support import Client

USERS = 400


def weighing(found: Bench, affinity: Affinity, percent: int) -> dict[str, ServiceRouting]:
    """So many percent for v1, the rest for v2."""
    backends = (PlanBackend("svc", ("v1",), percent), PlanBackend("svc", ("v2",), 100 - percent))
    entry = RouteEntry(rule="r", backends=backends, affinity=affinity)
    return resolve({"svc": DestinationPlan(routes=(entry,))}, {"svc": placed(found)}, 0.0)


async def versions(found: Bench, affinity: Affinity) -> list[str]:
    """The version that each user gets."""
    answers: list[str] = []
    async with Client(found.proxy.port) as client:
        for number in range(USERS):
            header = ("cookie", f"user=u{number}") if affinity.cookie else ("x-user", f"u{number}")
            reply = await client.ask("/svc/x", [header])
            answers.append(f"v{int(reply.headers['x-place']) // 2 + 1}")
    return answers


@pytest.mark.parametrize("affinity", [Affinity(header="x-user"), Affinity(cookie="user")], ids=str)
@pytest.mark.parametrize("name", sorted(PROXIES))
async def test_a_weight_moved_by_5_points_moves_only_those_users(
    name: str, affinity: Affinity, tmp_path: Path
) -> None:
    if "affinity" in PROXIES[name].lacks:
        pytest.skip(f"{LACKS}affinity")
    names = [f"{version}-{number}" for version in ("v1", "v2", "v3") for number in range(2)]
    found: dict[int, list[str]] = {}
    for start in range(2):  # the second time with a proxy that knows nothing of the first
        folder = tmp_path / str(start)
        folder.mkdir()
        async with bench(name, folder) as bench_of_start:
            for percent in (30, 35, 30, 90):
                routing = weighing(bench_of_start, affinity, percent)
                assert await bench_of_start.follow(routing, names) == {}
                now = await versions(bench_of_start, affinity)
                assert found.setdefault(percent, now) == now
    assert all(before == "v2" or after == "v1" for before, after in zip(found[30], found[35], strict=True))
    moved = sum(before != after for before, after in zip(found[30], found[35], strict=True))
    assert abs(moved - 0.05 * USERS) < 5 * (USERS * 0.05 * 0.95) ** 0.5
    assert moved > 0
    assert all(before == "v2" or after == "v1" for before, after in zip(found[35], found[90], strict=True))
