"""TCP proxies through a real nginx; what they share with the other proxy is tested in tests/conformance."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from amalgam8.model.errors import InvalidSetting
from amalgam8.model.instance import Address
from amalgam8.model.rule import Resilience
from amalgam8.routing.plan import Policy
from amalgam8.routing.resolve import Peer, Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.nginx.tcp import Untold, Ways, document, streams, tell
from amalgam8.sidecar.tcp import TcpProxy
from amalgam8.sidecar.trust import NO_TRUST, Trust
from tests.conftest import eventually, free_port
from tests.sidecar.connections import echoes, takers, wire
from tests.sidecar.nginx.support import backends, running, simple, until, workers


def limited(*peers: Peer, lb_type: str = "", **members: Any) -> ServiceRouting:
    target = Target("svc", policy=Policy(lb_type, Resilience(**members)))
    return ServiceRouting("svc", (Route((Slice(target),)),), peers={target: peers})


async def test_every_worker_follows_at_once_and_killed_ones_come_back_knowing(tmp_path: Path) -> None:
    port = free_port()
    proxies = (TcpProxy(port, "svc"),)
    async with running(tmp_path, workers=3, tcp_proxies=proxies) as mesh, echoes("one", "two") as pair:
        for turn in range(20):
            await mesh.follow(simple("svc", pair[turn % 2].peer()))
            found = await asyncio.gather(*(wire(port) for _ in range(9)))
            assert {each.name for each in found} == {pair[turn % 2].name}
            for each in found:
                each.close()
        before = workers(mesh)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: len(workers(mesh)) == 3 and not set(workers(mesh)) & set(before))
        assert await takers(port, 9) == {"two": 9}


async def test_a_killed_nginx_is_told_everything_again(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, tcp_proxies=(TcpProxy(port, "svc"),)) as mesh, echoes("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        pid = mesh.nginx.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

        async def taken() -> bool:
            try:
                return await takers(port, 1) == {"one": 1}
            except OSError:
                return False

        await until(lambda: mesh.nginx.pid not in (pid, None))
        await eventually(taken)


async def test_who_refuses_loses_one_connection_and_is_left_out(tmp_path: Path) -> None:
    port = free_port()
    dead = Peer("dead", Address("127.0.0.1", 1))
    async with running(tmp_path, tcp_proxies=(TcpProxy(port, "svc"),)) as mesh, echoes("one") as (one,):
        await mesh.follow(simple("svc", one.peer(), dead))
        found = await takers(port, 30)
        assert found["one"] >= 28
        assert 1 <= found[""] <= 2
        await mesh.follow(simple("svc", dead))  # who else: it is tried, and may be back
        assert await takers(port, 2) == {"": 2}


async def test_an_address_that_refuses_makes_way_for_the_next_of_its_name(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, tcp_proxies=(TcpProxy(port, "svc"),)) as mesh, echoes("one") as (one,):
        named = Peer("one", Address("localhost", one.port), (), ("127.0.0.9", "127.0.0.1"))
        await mesh.follow(simple("svc", named))
        await takers(port, 1)
        assert await takers(port, 10) == {"one": 10}


async def test_instances_in_turn(tmp_path: Path) -> None:
    port = free_port()
    async with (
        running(tmp_path, workers=2, tcp_proxies=(TcpProxy(port, "svc"),)) as mesh,
        echoes("one", "two") as (one, two),
    ):
        await mesh.follow(simple("svc", one.peer(), two.peer()))
        assert await takers(port, 20) == {"one": 10, "two": 10}


async def test_the_instance_with_the_fewest_connections_takes_the_next_one(tmp_path: Path) -> None:
    port = free_port()
    async with (
        running(tmp_path, workers=2, tcp_proxies=(TcpProxy(port, "svc"),)) as mesh,
        echoes("one", "two", "three") as found,
    ):
        await mesh.follow(limited(*(each.peer() for each in found), lb_type="least_request"))
        wires = [await wire(port) for _ in range(6)]
        assert Counter(each.name for each in wires) == {"one": 2, "two": 2, "three": 2}
        for each in wires:
            if each.name == "two":
                each.close()

        # That a connection has ended is known a moment after its app closed it.
        async def twos_turn() -> bool:
            return await takers(port, 4) == {"two": 4}

        await eventually(twos_turn)
        for each in wires:
            each.close()


async def test_a_rule_says_how_long_who_refuses_is_left_out(tmp_path: Path) -> None:
    port, place = free_port(), free_port()
    late = Peer("late", Address("127.0.0.1", place))
    async with running(tmp_path, tcp_proxies=(TcpProxy(port, "svc"),)) as mesh, echoes("one") as (one,):
        await mesh.follow(limited(one.peer(), late, sleep_window=0.3))
        began = time.monotonic()
        assert (await takers(port, 2))[""] == 1
        async with echoes("late", port=place):

            async def is_back() -> bool:
                return await takers(port, 2) == {"one": 1, "late": 1}

            await eventually(is_back)
        assert 0.29 < time.monotonic() - began < 2.9


async def test_what_a_worker_that_died_had_counted_goes(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, tcp_proxies=(TcpProxy(port, "svc"),)) as mesh, echoes("one") as (one,):
        await mesh.follow(limited(one.peer(), max_connections=1))
        held = await wire(port)
        assert await takers(port, 1) == {"": 1}
        (pid,) = workers(mesh)
        os.kill(pid, signal.SIGKILL)

        async def taken() -> bool:
            return await takers(port, 1) == {"one": 1}

        await eventually(taken)
        held.close()


async def test_nobody_else_is_led_on(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, tcp_proxies=(TcpProxy(port, "svc"),)) as mesh, echoes("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        for name in ("tcp-plain.sock", "tcp-tls.sock"):
            await until(lambda name=name: (tmp_path / name).stat().st_mode & 0o777 == 0o600)  # type: ignore[misc]
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / name))
            assert await reader.read() == b""
            writer.close()
        assert one.connections == 0


async def test_connections_and_bytes_are_counted_by_port(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, tcp_proxies=(TcpProxy(port, 's"v'),)) as mesh, echoes("one") as (one,):
        await mesh.follow(simple('s"v', one.peer()))
        for _ in range(2):
            connection = await wire(port)
            await connection.echoed(100_000)
            connection.close()
        of = f'{{destination="s\\"v",port="{port}"}}'

        async def counted() -> bool:
            text = (await mesh.nginx.metrics()).decode()
            lines = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in text.splitlines()}
            return [
                lines[f"a8_proxy_tcp_{name}_total{of}"]
                for name in ("connections", "received_bytes", "sent_bytes")
            ] == ["2", "200000", "200016"]

        await eventually(counted)
        assert b"a8_proxy_uptime_seconds" in await mesh.nginx.metrics()


async def test_the_socket_is_its_owners_alone_and_refuses_nonsense(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, tcp_proxies=(TcpProxy(port, "svc"),)) as mesh, echoes("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        socket = tmp_path / "tcp.sock"
        await until(lambda: socket.stat().st_mode & 0o777 == 0o600)
        for nonsense in (b"", b"{", b"null"):
            with pytest.raises(Untold):
                await tell(socket, tmp_path / "other.json", nonsense)
        reader, writer = await asyncio.open_unix_connection(str(socket))
        writer.write(b"/no/such/file\n")
        assert b"ok" not in await reader.readline()
        writer.close()
        assert await takers(port, 2) == {"one": 2}


async def test_what_is_too_much_to_be_told_is_rejected_and_http_goes_on(tmp_path: Path) -> None:
    port = free_port()
    async with (
        running(tmp_path, tcp_proxies=(TcpProxy(port, "svc"),)) as mesh,
        echoes("one") as (one,),
        backends("http") as (http,),
    ):
        await mesh.follow(simple("svc", one.peer()))
        many = [Peer(f"p{i}", Address("10.0.0.1", 1024 + i), ("t" * 100_000,)) for i in range(180)]
        confirmed = await mesh.follow(simple("svc", *many), simple("web", http.peer()))
        assert [each.destination for each in confirmed.rejected] == ["svc"]
        assert "TCP connections go where they went" in confirmed.rejected[0].reason
        assert (await mesh.ask("/web/")).status == 200
        assert await takers(port, 2) == {"one": 2}
        assert (await mesh.follow(simple("svc", one.peer()))).rejected == ()


async def test_two_settings_of_one_port_and_a_taken_one(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(InvalidSetting, match=f"tcp_proxies: port {port} on 127.0.0.1 is taken"):
        async with running(tmp_path, tcp_proxies=(TcpProxy(port, "svc"),)):
            pass
    server.close()


def test_a_document_has_all_ports_and_no_instance_that_cannot_be_reached() -> None:
    plain, tls = Peer("a", Address("::1", 9), ("v1",)), Peer("b", Address("10.0.0.1", 443, True))
    unknown, named = Peer("c", Address("db", 9)), Peer("d", Address("db", 9), (), ("10.0.0.2", "10.0.0.3"))
    target = Target("svc")
    service = ServiceRouting(
        "svc", (Route((Slice(target),), rule="r"),), peers={target: (plain, tls, unknown, named)}
    )
    limits = Resilience(max_connections=3, sleep_window=0.5, max_requests=4)
    limited = Target("web", policy=Policy("random", limits))
    other = ServiceRouting("web", (Route((Slice(limited),)),), peers={limited: ()})
    proxies = tuple(TcpProxy(7000 + i, name) for i, name in enumerate(("svc", "other", "web")))
    routing = {"svc": service, "web": other}
    found = json.loads(document(proxies, routing, Trust(verify=False)))
    assert found["7001"] == {"service": "other", "rule": "-", "total": 0, "slices": [], "targets": []}
    assert found["7000"]["rule"] == "r"
    assert found["7000"]["targets"] == [
        {
            "name": "svc",
            "peers": [
                {"dst": "svc:v1", "addresses": ["[::1]:9"]},
                {"dst": "svc:", "addresses": ["10.0.0.1:443"], "name": "10.0.0.1"},
                {"dst": "svc:", "addresses": ["10.0.0.2:9", "10.0.0.3:9"]},
            ],
        }
    ]
    assert found["7002"]["targets"] == [
        {"name": limited.name, "peers": [], "lb": "random", "most": 3, "window": 500}
    ]


def test_instances_that_nobody_can_vouch_for_get_no_connections() -> None:
    target = Target("svc")
    peers = (Peer("b", Address("10.0.0.1", 443, True)),)
    service = ServiceRouting("svc", (Route((Slice(target),)),), peers={target: peers})
    for believed, count in ((NO_TRUST, 0), (Trust("/ca.pem"), 1)):
        found = json.loads(document((TcpProxy(7000, "svc"),), {"svc": service}, believed))
        assert len(found["7000"]["targets"][0]["peers"]) == count


def test_without_tcp_proxies_there_is_no_stream() -> None:
    more = (Path("/s/tcp.sock"), Ways(Path("/s/plain"), Path("/s/tls")), NO_TRUST, None, "shop")
    assert streams("127.0.0.1", (), *more) == ""
    assert "listen [::1]:7000 " in streams("::1", (TcpProxy(7000, "x"),), *more)
