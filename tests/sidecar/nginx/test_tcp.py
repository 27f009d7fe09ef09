"""TCP proxies through a real nginx; what they share with the other proxy is tested in tests/conformance."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from amalgam8.model.errors import InvalidSetting
from amalgam8.model.instance import Address
from amalgam8.routing.resolve import Peer, Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.nginx.tcp import Untold, document, streams, tell
from amalgam8.sidecar.tcp import TcpProxy
from tests.conftest import eventually, free_port
from tests.sidecar.connections import echoes, takers, wire
from tests.sidecar.nginx.support import backends, running, simple, until, workers


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
    found = json.loads(document((TcpProxy(7000, "svc"), TcpProxy(7001, "other")), {"svc": service}))
    assert found["7001"] == {"service": "other", "rule": "", "total": 0, "slices": [], "targets": []}
    assert found["7000"]["rule"] == "r"
    assert found["7000"]["targets"] == [
        {
            "name": "svc",
            "peers": [
                {"dst": "svc:v1", "addresses": ["[::1]:9"]},
                {"dst": "svc:", "addresses": ["10.0.0.2:9", "10.0.0.3:9"]},
            ],
        }
    ]


def test_without_tcp_proxies_there_is_no_stream() -> None:
    assert streams("127.0.0.1", (), Path("/s/tcp.sock"), None, "shop") == ""
    assert "listen [::1]:7000 " in streams("::1", (TcpProxy(7000, "x"),), Path("/s/tcp.sock"), None, "shop")
