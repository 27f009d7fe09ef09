"""TCP proxies through a real Envoy and real sockets: where connections go, and that changes cut none."""

import asyncio
import contextlib
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from amalgam8.model.errors import InvalidSetting
from amalgam8.model.instance import Address
from amalgam8.routing.condition import ALWAYS
from amalgam8.routing.plan import AccessEntry, LimitEntry, PlanLimit
from amalgam8.routing.resolve import SHARES, Peer, Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.envoy.admin import fetch
from amalgam8.sidecar.envoy.tcp import TcpFilters, listener_name, tcp_listeners
from amalgam8.sidecar.tcp import TcpProxy
from tests.conftest import eventually, free_port
from tests.sidecar.envoy.support import (
    LIMIT,
    Mesh,
    backends,
    running,
    service,
    simple,
    statuses,
    until,
    when,
)


class Echo:
    """Says its name to who connects, then says everything back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError):
            writer.write(f"{self.name}\n".encode())
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def peer(self, *tags: str, host: str = "127.0.0.1") -> Peer:
        address = Address(host, self.port)
        return Peer(self.name, address, tags, () if address.is_ip else ("127.0.0.1",))


@contextlib.asynccontextmanager
async def echoes(*names: str) -> AsyncIterator[list[Echo]]:
    found = [Echo(name) for name in names]
    async with contextlib.AsyncExitStack() as stack:
        for echo in found:
            server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
            stack.callback(server.close)
            echo.port = server.sockets[0].getsockname()[1]
        yield found


class Wire:
    """One connection of an app."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.name = ""

    async def says_back(self, text: str = "x") -> bool:
        async with asyncio.timeout(LIMIT):
            self._writer.write(f"{text}\n".encode())
            return await self._reader.readline() == f"{text}\n".encode()

    async def carries(self, size: int) -> int:
        """Send so many bytes and read them back; how many came."""

        async def send() -> None:
            for _ in range(size // 65536):
                self._writer.write(b"x" * 65536)
                await self._writer.drain()
            self._writer.write_eof()

        async with asyncio.timeout(6 * LIMIT):
            sending = asyncio.create_task(send())
            came = 0
            while data := await self._reader.read(1 << 20):
                came += len(data)
            await sending
            return came

    async def named(self) -> str:
        async with asyncio.timeout(LIMIT):
            try:
                self.name = (await self._reader.readline()).decode().strip()
            except ConnectionError:
                self.name = ""
            return self.name

    def close(self) -> None:
        self._writer.close()


async def connected(port: int) -> Wire:
    """A connection, and who is at the other end; no name: it was closed."""
    wire = Wire(*await asyncio.open_connection("127.0.0.1", port))
    await wire.named()
    return wire


async def ends(port: int, times: int) -> Counter[str]:
    """Who takes so many connections, one after the other."""
    found: Counter[str] = Counter()
    for _ in range(times):
        wire = await connected(port)
        found[wire.name] += 1
        wire.close()
    return found


async def gone(mesh: Mesh, cluster: str) -> None:
    """Wait until Envoy has no such cluster any more."""

    async def without() -> bool:
        assert mesh.envoy._admin_socket is not None
        return f"{cluster}::".encode() not in await fetch(mesh.envoy._admin_socket, "/clusters")

    await eventually(without, what=f"{cluster} gone")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def mesh(tmp_path: Path, port: int) -> AsyncIterator[Mesh]:
    proxies = (TcpProxy(port, "svc"),)
    async with running(tmp_path, tcp_proxies=proxies, access_log=tmp_path / "access.log") as found:
        yield found


async def test_connections_are_closed_until_the_service_is_known_and_then_carried(
    mesh: Mesh, port: int, tmp_path: Path
) -> None:
    async with echoes("one") as (one,):
        assert await ends(port, 2) == {"": 2}
        await mesh.follow(simple("svc", one.peer()))
        wire = await connected(port)
        assert wire.name == "one"
        assert await wire.says_back("hello")
        assert await wire.carries(10 * 1024 * 1024) == 10 * 1024 * 1024
        wire.close()
        await mesh.follow(simple("other", one.peer()))
        assert await ends(port, 2) == {"": 2}


async def test_shares_are_kept_and_a_version_without_instances_takes_its_share(mesh: Mesh, port: int) -> None:
    async with echoes("one", "two") as (one, two):
        peers = {"v1": (one.peer("v1"),), "v2": (two.peer("v2"),)}
        await mesh.follow(service("svc", [(ALWAYS, {"v1": 3, "v2": 1})], peers))
        found = await ends(port, 400)
        assert found.keys() == {"one", "two"}
        assert abs(found["one"] - 300) < 6 * (400 * 3 / 16) ** 0.5
        await mesh.follow(service("svc", [(ALWAYS, {"v1": 1, "v2": 1})], peers | {"v2": ()}))
        found = await ends(port, 200)
        assert found.keys() == {"one", ""}
        assert abs(found["one"] - 100) < 6 * (200 / 4) ** 0.5


async def test_changes_of_rules_and_instances_cut_no_connection(mesh: Mesh, port: int) -> None:
    async with echoes("one", "two") as (one, two):
        one_peer, two_peer = one.peer("v1"), two.peer("v2")
        peers = {"v1": (one_peer,), "v2": (two_peer,)}
        await mesh.follow(service("svc", [(ALWAYS, {"v1": 1, "v2": 1})], peers))
        wires = [await connected(port) for _ in range(20)]
        assert {wire.name for wire in wires} == {"one", "two"}
        for change in (
            service("svc", [(ALWAYS, {"v2": 1})], peers),
            service("svc", [(ALWAYS, {"v1": 1})], peers),
            service("svc", [(ALWAYS, {"v1": 9, "v2": 1})], peers),
            service("svc", [(ALWAYS, {"v1": 1})], {"v1": (one_peer,)}),
            simple("svc", one_peer),
            simple("svc", access=(AccessEntry(rule="no", verdict="deny"),)),
            simple("svc"),
        ):
            await mesh.follow(change)
            assert all(await asyncio.gather(*(wire.says_back() for wire in wires)))
        await mesh.follow()
        assert all(await asyncio.gather(*(wire.says_back() for wire in wires)))
        assert await ends(port, 2) == {"": 2}
        for wire in wires:
            wire.close()


async def test_a_cluster_that_went_takes_no_connection_with_it(tmp_path: Path, port: int) -> None:
    proxies = (TcpProxy(port, "svc"),)
    async with running(tmp_path, linger=0.1, tcp_proxies=proxies) as mesh, echoes("one", "two") as (one, two):
        await mesh.follow(service("svc", [(ALWAYS, {"v1": 1})], {"v1": (one.peer("v1"),)}))
        wire = await connected(port)
        await mesh.follow(service("svc", [(ALWAYS, {"v2": 1})], {"v2": (two.peer("v2"),)}))
        assert mesh.envoy.pid is not None
        after = await connected(port)
        assert (wire.name, after.name) == ("one", "two")
        await gone(mesh, "svc|+v1")
        assert await wire.says_back()
        await mesh.follow()
        await gone(mesh, "svc|+v2")
        assert await wire.says_back()
        assert await after.says_back()
        wire.close()
        after.close()


async def test_rules_that_ask_for_headers_count_as_not_met(mesh: Mesh, port: int) -> None:
    async with echoes("one", "two") as (one, two):
        peers = {"v1": (one.peer("v1"),), "v2": (two.peer("v2"),)}
        routes = [(when(user="jason"), {"v2": 1}), (ALWAYS, {"v1": 1})]
        denied = AccessEntry(rule="no", verdict="deny", match=when(user="jason"))
        await mesh.follow(service("svc", routes, peers, access=(denied,)))
        assert await ends(port, 10) == {"one": 10}
        allowed = AccessEntry(rule="yes", verdict="allow", match=when(user="jason"))
        await mesh.follow(service("svc", routes, peers, access=(allowed,)))
        assert await ends(port, 4) == {"": 4}


async def test_an_instance_that_refuses_is_passed_over_within_its_version(mesh: Mesh, port: int) -> None:
    dead = Peer("dead", Address("127.0.0.1", free_port()), ("v1",))
    async with echoes("one", "two") as (one, two):
        peers = {"v1": (one.peer("v1"), dead), "v2": (two.peer("v2"),)}
        await mesh.follow(service("svc", [(ALWAYS, {"v1": 1})], peers))
        assert await ends(port, 30) == {"one": 30}


async def test_a_version_of_ones_own_and_a_host_name(tmp_path: Path, port: int) -> None:
    other = free_port()
    proxies = (TcpProxy(port, "svc", ("v2",)), TcpProxy(other, "svc"))
    async with running(tmp_path, tcp_proxies=proxies) as mesh, echoes("one", "two") as (one, two):
        v1, v2 = Target("svc", ("v1",)), Target("svc", ("v2",))
        peers: dict[Target, tuple[Peer, ...]] = {
            v1: (one.peer("v1"),),
            v2: (two.peer("v2", host="localhost"),),
        }
        await mesh.follow(ServiceRouting("svc", (Route((Slice(v1, SHARES),), rule="r"),), peers=peers))
        assert await ends(port, 4) == {"two": 4}
        assert await ends(other, 4) == {"one": 4}


async def test_each_connection_leaves_a_record_and_is_counted(mesh: Mesh, port: int, tmp_path: Path) -> None:
    async with echoes("one") as (one,):
        target = Target("svc", ("v1",))
        peers: dict[Target, tuple[Peer, ...]] = {target: (one.peer("v1"),)}
        routed = ServiceRouting("svc", (Route((Slice(target),), rule="r1"),), peers=peers)
        await mesh.follow(routed)
        wire = await connected(port)
        assert await wire.says_back("12345")
        wire.close()
        await mesh.follow(simple("svc"))
        await ends(port, 1)
        file = tmp_path / "access.log"
        await until(lambda: file.exists() and file.read_bytes().count(b"\n") == 2)
        found, closed = (json.loads(line) for line in file.read_bytes().splitlines())
        assert {key: found[key] for key in ("src", "dst", "protocol", "module", "rules")} == {
            "src": "shop",
            "dst": "svc:v1",
            "protocol": "TCP",
            "module": "ENVOY",
            "rules": ["r1"],
        }
        assert found["upstream_host"] == f"127.0.0.1:{one.port}"
        assert (found["bytes_received"], found["bytes_sent"]) == (6, len("one\n") + 6)
        assert closed["dst"] == "svc"
        text = (await mesh.envoy.metrics()).decode()
        of = f'{{destination="svc",port="{port}"}}'
        assert f"a8_proxy_tcp_connections_total{of} 2" in text
        assert f"a8_proxy_tcp_received_bytes_total{of} 6" in text
        assert f"a8_proxy_tcp_sent_bytes_total{of} 10" in text


def too_light(right: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that Envoy refuses."""

    def wrong(*arguments: Any) -> Any:
        message = right(*arguments)
        for cluster in message.weighted_clusters.clusters:
            cluster.weight = 0  # Envoy takes 1 and more
        return message

    return wrong


async def test_a_filter_that_envoy_refuses_is_rejected_for_its_destination_and_the_old_one_stays(
    mesh: Mesh, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with echoes("one", "two") as (one, two):
        peers = {"v1": (one.peer("v1"),), "v2": (two.peer("v2"),)}
        await mesh.follow(service("svc", [(ALWAYS, {"v1": 1})], peers))
        monkeypatch.setattr(TcpFilters, "_filter", too_light(TcpFilters._filter))
        confirmed = await mesh.follow(service("svc", [(ALWAYS, {"v2": 1})], peers))
        assert [rejection.destination for rejection in confirmed.rejected] == ["svc"]
        assert "Weight: value must be" in confirmed.rejected[0].reason
        assert await ends(port, 4) == {"one": 4}
        monkeypatch.undo()
        assert (await mesh.follow(service("svc", [(ALWAYS, {"v2": 1})], peers))).rejected == ()
        assert await ends(port, 4) == {"two": 4}


async def test_a_filter_that_is_refused_holds_up_neither_limits_nor_their_routes_and_fills_no_bucket(
    mesh: Mesh, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with echoes("one", "two") as (one, two), backends("web") as (web,):
        peers = {"v1": (one.peer("v1"),), "v2": (two.peer("v2"),)}

        def called(path: str, requests: int) -> ServiceRouting:
            """The service of HTTP: ``path`` is in a header that nobody sends, and makes other routes."""
            limits = (LimitEntry(rule="l", limits=(PlanLimit(requests, per=3600),)),)
            rows = [(when(x=path), {"web": 1}), (ALWAYS, {"web": 1})]
            return service("web", rows, {"web": (web.peer(),)}, limits=limits)

        await mesh.follow(service("svc", [(ALWAYS, {"v1": 1})], peers))
        monkeypatch.setattr(TcpFilters, "_filter", too_light(TcpFilters._filter))
        confirmed = await mesh.follow(service("svc", [(ALWAYS, {"v2": 1})], peers), called("a", 4))
        assert [rejection.destination for rejection in confirmed.rejected] == ["svc"]
        assert await statuses(mesh, 3, "/web/") == {200: 3}
        confirmed = await mesh.follow(service("svc", [(ALWAYS, {"v1": 1, "v2": 1})], peers), called("b", 4))
        assert [rejection.destination for rejection in confirmed.rejected] == ["svc"]
        assert await statuses(mesh, 3, "/web/") == {200: 1, 429: 2}
        monkeypatch.undo()
        assert (
            await mesh.follow(service("svc", [(ALWAYS, {"v2": 1})], peers), called("b", 4))
        ).rejected == ()
        assert await statuses(mesh, 2, "/web/") == {429: 2}
        assert await ends(port, 4) == {"two": 4}


async def test_instances_that_envoy_refuses_are_blamed_on_their_destination_and_hold_up_no_other(
    mesh: Mesh, port: int
) -> None:
    async with echoes("one") as (one,), backends("web") as (web,):
        odd = Peer("odd", Address("127.0.0.1", 70_000), ("v2",))
        peers = {"v1": (one.peer("v1"),), "v2": (odd,)}
        only_first, both = [(ALWAYS, {"v1": 1})], [(ALWAYS, {"v1": 1, "v2": 1})]
        await mesh.follow(service("svc", only_first, peers))
        confirmed = await mesh.follow(service("svc", both, peers), simple("web", web.peer()))
        assert [rejection.destination for rejection in confirmed.rejected] == ["svc"]
        assert "65535" in confirmed.rejected[0].reason
        assert await statuses(mesh, 3, "/web/") == {200: 3}
        assert await ends(port, 4) == {"one": 4}, "the connections stay as they were"
        peers = {"v1": (one.peer("v1"),), "v2": (one.peer("v2"),)}
        confirmed = await mesh.follow(service("svc", both, peers), simple("web", web.peer()))
        assert confirmed.rejected == ()


async def test_a_port_that_is_taken_is_told_with_the_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSetting, match=f"tcp_proxies: port {port} on 127.0.0.1 is taken"):
            async with running(tmp_path, tcp_proxies=(TcpProxy(port, "svc"),)):
                pass


def test_what_the_listener_is_does_not_depend_on_rules() -> None:
    proxy = TcpProxy(7000, "svc")
    assert tcp_listeners("127.0.0.1", [proxy]).keys() == {listener_name(proxy)}
    filters = TcpFilters([proxy])
    unknown, known = filters.render({}), filters.render({"svc": simple("svc")})
    assert unknown.filters.keys() == known.filters.keys() == {listener_name(proxy)}
    assert (unknown.targets, known.targets) == (frozenset(), frozenset({"svc"}))
