"""Affinity: 10,000 users through both proxies, each on the same version with either, shared out by weight."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.conformance.case import Ask, Case
from tests.conformance.expect import assert_shares
from tests.conformance.proxies import PROXIES
from tests.conformance.running import Bench, bench
from tests.sidecar.nginx.support import Client

USERS = 10_000
CONNECTIONS = 16
SHARES = {"one": 0.1, "two": 0.35, "three": 0.55}


def case(affinity: dict[str, str]) -> Case:
    """Three versions of one service, shared out unevenly."""
    versions = {name: [f"v{number}"] for number, name in enumerate(SHARES)}
    backends = [{"tags": versions[name], "weight": share} for name, share in SHARES.items()]
    return Case(
        name="users",
        proves="DESIGN 5 affinity",
        asks=[Ask(path="/users/x")],
        instances={"users": dict(versions)},
        rules=[{"route": {"affinity": affinity, "backends": backends}}],
    )


async def chosen(found: Bench) -> dict[int, str]:
    """The instance that each user comes to: half say who they are by header, some in two lines, half by
    cookie."""
    places = list(SHARES)
    came: dict[int, str] = {}

    async def some(users: range, header: str, value: str) -> None:
        async with Client(found.proxy.port) as client:
            for user in users:
                lines = 1 if user % 9 or header == "cookie" else 2
                told = [(header, value.format(user + line)) for line in range(lines)]
                reply = await client.ask("/users/x", told)
                came[user] = places[int(reply.headers["x-place"])]

    half = USERS // 2
    for first, affinity, header, value in (
        (0, {"header": "X-User"}, "x-user", "user-{}"),
        (half, {"cookie": "user"}, "cookie", "a=b; user={}; c=d"),
    ):
        await found.apply(case(affinity))
        await asyncio.gather(
            *(some(range(first + n, first + half, CONNECTIONS), header, value) for n in range(CONNECTIONS))
        )
    return came


@pytest.mark.timeout(180)
async def test_a_user_comes_to_the_same_version_through_either_proxy(tmp_path: Path) -> None:
    found: dict[str, dict[int, str]] = {}
    for name in PROXIES:
        (tmp_path / name).mkdir(mode=0o700)
        async with bench(name, tmp_path / name) as started:
            found[name] = await chosen(started)
    assert len(found["nginx"]) == USERS
    assert found["nginx"] == found["envoy"]
    assert_shares(Counter(found["nginx"].values()), SHARES, USERS)
