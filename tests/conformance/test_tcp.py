"""TCP proxies, through each proxy: where connections go, and that no change cuts one."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime

import pytest
import pytest_asyncio

from amalgam8.model.instance import Address
from amalgam8.model.rule import Resilience
from amalgam8.routing.condition import ALWAYS, Condition
from amalgam8.routing.plan import AccessEntry, Policy
from amalgam8.routing.resolve import SHARES, Peer, Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.tcp import TcpProxy
from tests.conformance.proxies import PROXIES, Proxy
from tests.conftest import eventually, free_port
from tests.sidecar.authority import Authority
from tests.sidecar.connections import Echo, echoes, takers, wire
from tests.sidecar.envoy.support import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

JASON = Condition((("user", "jason"),))


class Ports:
    """A started proxy with a port for ``svc`` and one for its version v2."""

    def __init__(self, proxy: Proxy, all_: int, second: int, authority: Authority) -> None:
        self.proxy = proxy
        self.all, self.second = all_, second
        self.authority = authority

    async def follow(self, *services: ServiceRouting) -> None:
        assert await self.proxy.apply({service.name: service for service in services}) == {}


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=sorted(PROXIES))
async def ports(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ports]:
    all_, second = free_port(), free_port()
    proxy, folder = PROXIES[request.param](), tmp_path_factory.mktemp(request.param)
    authority = Authority(folder)
    proxies = (TcpProxy(all_, "svc"), TcpProxy(second, "svc", ("v2",)))
    await proxy.start(folder, tcp_proxies=proxies, ca_cert_file=authority.file)
    try:
        yield Ports(proxy, all_, second, authority)
    finally:
        await proxy.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def pair() -> AsyncIterator[tuple[Echo, Echo]]:
    async with echoes("one", "two") as (one, two):
        yield one, two


def versions(
    shares: Mapping[str, int],
    peers: Mapping[str, tuple[Peer, ...]],
    *first: Route,
    rule: str = "r",
    **more: object,
) -> ServiceRouting:
    """Service ``svc`` whose connections are shared out among versions, after routes that come ``first``."""
    total = sum(shares.values())
    slices = tuple(
        Slice(Target("svc", (tag,)), share * SHARES // total, place)
        for place, (tag, share) in enumerate(shares.items())
    )
    targets = {Target("svc", (tag,)): found for tag, found in peers.items()}
    return ServiceRouting("svc", (*first, Route(slices, rule=rule)), peers=targets, **more)  # type: ignore[arg-type]


def plain(*peers: Peer, policy: Policy | None = None, **more: object) -> ServiceRouting:
    target = Target("svc", policy=policy or Policy())
    return ServiceRouting("svc", (Route((Slice(target),)),), peers={target: peers}, **more)  # type: ignore[arg-type]


async def test_what_both_sides_say_arrives_to_the_last_byte(ports: Ports, pair: tuple[Echo, Echo]) -> None:
    await ports.follow(plain(pair[0].peer()))
    size = 20_000_000
    one = await wire(ports.all)
    said = await one.echoed(size)
    assert (len(said), said[-5:]) == (size + len(b"bye\n"), b"xbye\n")
    one.close()


async def test_nobody_there_is_a_closed_connection(ports: Ports, pair: tuple[Echo, Echo]) -> None:
    await ports.follow()
    assert await takers(ports.all, 2) == {"": 2}
    await ports.follow(plain())
    assert await takers(ports.all, 2) == {"": 2}
    await ports.follow(plain(pair[0].peer()))

    # The threads of a proxy that take connections hear of it a moment after the one that confirms.
    async def somebody() -> bool:
        return await takers(ports.all, 2) == {"one": 2}

    await eventually(somebody, what="connections that are taken")


async def test_versions_take_their_shares(ports: Ports, pair: tuple[Echo, Echo]) -> None:
    one, two = pair
    await ports.follow(versions({"v1": 3, "v2": 1}, {"v1": (one.peer("v1"),), "v2": (two.peer("v2"),)}))
    found = await takers(ports.all, 400)
    assert found.keys() == {"one", "two"}
    assert abs(found["one"] - 300) < 52  # six standard deviations
    await ports.follow(versions({"v1": 1, "v2": 1}, {"v1": (one.peer("v1"),), "v2": ()}))
    found = await takers(ports.all, 200)
    assert found.keys() == {"one", ""}
    assert abs(found["one"] - 100) < 43


async def test_a_port_may_be_one_versions_own(ports: Ports, pair: tuple[Echo, Echo]) -> None:
    one, two = pair
    await ports.follow(
        versions({"v1": 1}, {"v1": (one.peer("v1"),), "v2": (two.peer("v2", host="localhost"),)})
    )
    assert await takers(ports.all, 4) == {"one": 4}
    assert await takers(ports.second, 4) == {"two": 4}


async def test_no_change_cuts_a_connection(ports: Ports, pair: tuple[Echo, Echo]) -> None:
    first, second = pair[0].peer("v1"), pair[1].peer("v2")
    both: dict[str, tuple[Peer, ...]] = {"v1": (first,), "v2": (second,)}
    await ports.follow(versions({"v1": 1, "v2": 1}, both))
    wires = [await wire(ports.all) for _ in range(20)]
    assert {each.name for each in wires} == {"one", "two"}
    changes: list[list[ServiceRouting]] = [
        [versions({"v2": 1}, both)],
        [versions({"v1": 9, "v2": 1}, both)],
        [versions({"v1": 1}, {"v1": (first,)})],
        [plain(first)],
        [plain(first, access=(AccessEntry(rule="no", verdict="deny"),))],
        [plain()],
        [],
    ]
    for change in changes:
        await ports.follow(*change)
        assert all(await asyncio.gather(*(each.is_alive() for each in wires)))
    assert await takers(ports.all, 2) == {"": 2}
    for each in wires:
        each.close()


async def test_the_newest_rule_counts_for_the_next_connection(ports: Ports, pair: tuple[Echo, Echo]) -> None:
    both = {"v1": (pair[0].peer("v1"),), "v2": (pair[1].peer("v2"),)}
    for turn in range(30):
        await ports.follow(versions({f"v{turn % 2 + 1}": 1}, both))
        assert await takers(ports.all, 2) == {pair[turn % 2].name: 2}


async def test_what_asks_for_headers_counts_as_not_met(ports: Ports, pair: tuple[Echo, Echo]) -> None:
    both = {"v1": (pair[0].peer("v1"),), "v2": (pair[1].peer("v2"),)}
    jasons = Route((Slice(Target("svc", ("v2",))),), JASON, "jason")
    denied = AccessEntry(rule="no", verdict="deny", match=JASON)
    await ports.follow(versions({"v1": 1}, both, jasons, access=(denied,)))
    assert await takers(ports.all, 10) == {"one": 10}
    allowed = AccessEntry(rule="yes", verdict="allow", match=JASON)
    await ports.follow(versions({"v1": 1}, both, jasons, access=(allowed,)))
    assert await takers(ports.all, 4) == {"": 4}
    await ports.follow(
        versions({"v1": 1}, both, access=(AccessEntry(rule="no", verdict="deny", match=ALWAYS),))
    )
    assert await takers(ports.all, 4) == {"": 4}


async def test_who_refuses_is_passed_over(ports: Ports, pair: tuple[Echo, Echo]) -> None:
    """Or, where a proxy makes one attempt, the first connection to it is closed, and then it is left out."""
    dead = Peer("dead", Address("127.0.0.1", free_port()), ("v1",))
    await ports.follow(versions({"v1": 1}, {"v1": (pair[0].peer("v1"), dead)}))
    if "tcp-attempts" in ports.proxy.lacks:
        assert await takers(ports.all, 6) == {"one": 5, "": 1}
    else:
        assert await takers(ports.all, 30) == {"one": 30}


async def test_instances_that_speak_tls_are_verified_and_stand_beside_others(
    ports: Ports, pair: tuple[Echo, Echo]
) -> None:
    async with echoes("secure", context=ports.authority.context("localhost")) as (secure,):
        await ports.follow(plain(pair[0].peer(), secure.peer(host="localhost", tls=True)))
        assert await takers(ports.all, 6) == {"one": 3, "secure": 3}
    async with echoes("stranger", context=ports.authority.context("elsewhere.example")) as (stranger,):
        await ports.follow(plain(stranger.peer(host="localhost", tls=True)))
        assert await takers(ports.all, 2) == {"": 2}
        reader, writer = await asyncio.open_connection("127.0.0.1", ports.all)
        writer.write(b"secret\n")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        assert stranger.heard == 0
        writer.close()


async def test_lb_type_says_which_instance(ports: Ports, pair: tuple[Echo, Echo]) -> None:
    one, two = pair
    for lb_type in ("least_request", "random"):
        await ports.follow(plain(one.peer(), two.peer(), policy=Policy(lb_type)))
        found = await takers(ports.all, 60)
        assert found.keys() == {"one", "two"}
        assert abs(found["one"] - 30) < 24  # six standard deviations


async def test_a_rule_limits_connections(ports: Ports, pair: tuple[Echo, Echo]) -> None:
    await ports.follow(plain(pair[0].peer(), policy=Policy("", Resilience(max_connections=2))))
    held = [await wire(ports.all) for _ in range(2)]
    assert {each.name for each in held} == {"one"}
    assert await takers(ports.all, 2) == {"": 2}
    assert all([await each.is_alive() for each in held])
    held[0].close()

    async def taken() -> bool:
        return await takers(ports.all, 1) == {"one": 1}

    await eventually(taken, what="a connection that is taken")
    held[1].close()


async def test_each_connection_leaves_a_record(ports: Ports, pair: tuple[Echo, Echo]) -> None:
    rule = 'say "it"'

    def mine() -> list[dict[str, object]]:
        """Records come late: those of tests before may come now."""
        return [each for each in ports.proxy.records() if each.get("rules") == [rule]]

    one = pair[0]
    await ports.follow(versions({"v1": 1}, {"v1": (one.peer("v1"),)}, rule=rule))
    before = time.time()
    connection = await wire(ports.all)
    assert await connection.is_alive()
    opened = time.time()
    await until(lambda: time.time() > opened + 0.1)
    connection.close()
    await until(lambda: len(mine()) == 1)
    record = mine()[-1]
    began = datetime.fromisoformat(str(record["start_time"])).timestamp()
    assert before - 0.05 <= began <= opened + 0.05
    assert {key: record[key] for key in ("src", "dst", "rules", "upstream_host")} == {
        "src": "shop",
        "dst": "svc:v1",
        "rules": [rule],
        "upstream_host": f"127.0.0.1:{one.port}",
    }
    assert record["bytes_received"] == len(b"ping\n")
    assert record["bytes_sent"] in (len(b"one\nping\n"), len(b"one\nping\nbye\n"))
