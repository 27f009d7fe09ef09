"""A real nginx follows what the agent desires, all of its workers, and refuses what it cannot do."""

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from amalgam8.model.caller import caller
from amalgam8.model.errors import InvalidSetting
from amalgam8.sidecar.nginx.adapter import Nginx
from amalgam8.sidecar.nginx.push import exchange
from tests.conftest import eventually, free_port
from tests.sidecar.nginx.support import Client, Mesh, backends, running, simple, split, until, workers


async def test_before_anything_is_known_it_answers_503(mesh: Mesh) -> None:
    reply = await mesh.ask("/reviews/x")
    assert reply.status == 503
    assert reply.headers["x-a8-reason"] == "unavailable; service=reviews; rule="
    assert reply.json["service"] == "reviews"


async def test_calls_go_to_the_instances_in_turn_with_their_path_as_it_came(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        await mesh.follow(simple("reviews", one.peer(), two.peer()))
        calls = [(await mesh.ask("/reviews/a%2Fb//c;d?e=%20")).call for _ in range(4)]
        assert [call.path for call in calls] == ["/a%2Fb//c;d?e=%20"] * 4
        assert sorted(call.name for call in calls) == ["one", "one", "two", "two"]
        assert (await mesh.ask("/reviews")).call.path == "/"
        assert (await mesh.ask("/reviews?x")).call.path == "/?x"


async def test_an_unknown_service_is_a_404_and_one_without_instances_a_503(mesh: Mesh) -> None:
    await mesh.follow(simple("empty"))
    unknown, empty = await mesh.ask("/nobody/x"), await mesh.ask("/empty/x")
    assert (unknown.status, unknown.headers["x-a8-reason"]) == (404, "unknown; service=nobody; rule=")
    assert (empty.status, empty.headers["x-a8-reason"]) == (503, "unavailable; service=empty; rule=")


async def test_connections_to_instances_are_kept(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        async with Client(mesh.port) as client:
            for _ in range(20):
                assert (await client.ask("/reviews/x")).status == 200
        assert one.connections == 1


async def test_weights_are_kept_within_chance(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        await mesh.follow(
            split("reviews", {"v1": 80, "v2": 20}, {"v1": (one.peer("v1"),), "v2": (two.peer("v2"),)})
        )
        async with Client(mesh.port) as client:
            for _ in range(1000):
                await client.ask("/reviews/x")
        assert 740 < one.calls < 860  # 4.7 standard deviations


async def test_every_worker_follows_before_it_is_confirmed(tmp_path: Path) -> None:
    async with running(tmp_path, workers=3) as mesh, backends("one", "two") as (one, two):
        for turn in range(30):
            peer = (one, two)[turn % 2]
            await mesh.follow(simple("reviews", peer.peer()))
            replies = await asyncio.gather(*(mesh.ask("/reviews/x") for _ in range(12)))
            assert {reply.call.name for reply in replies} == {peer.name}


async def test_a_worker_born_later_knows_all_before_its_first_call(tmp_path: Path) -> None:
    async with running(tmp_path, workers=2) as mesh, backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        for _ in range(5):
            before = set(workers(mesh))
            killed = min(before)
            os.kill(killed, signal.SIGKILL)
            await until(functools.partial(_replaced, mesh, killed))
            for _ in range(10):
                assert (await mesh.ask("/reviews/x")).status == 200
        await mesh.follow(simple("ratings", one.peer()))
        assert {(await mesh.ask("/ratings/x")).status for _ in range(10)} == {200}


async def test_killed_workers_under_load_answer_nothing_stale(tmp_path: Path) -> None:
    """Calls of a killed worker break; every call that is answered is answered as the newest document says."""
    async with running(tmp_path, workers=2) as mesh, backends("one", "two") as (one, two):
        pair, turns, done = (one, two), 0, asyncio.Event()
        confirmed = -1
        answered: Counter[bool] = Counter()

        async def load() -> None:
            while not done.is_set():
                known = confirmed
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    reply = await mesh.ask("/reviews/x")
                    newer = {pair[turn % 2].name for turn in range(known, turns + 1)}
                    answered[reply.status == 200 and reply.call.name in newer] += 1

        await mesh.follow(simple("reviews", one.peer()))
        confirmed = 0
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            for turns in range(1, 25):
                mesh.desire(simple("reviews", pair[turns % 2].peer()))
                os.kill(min(workers(mesh)), signal.SIGKILL)
                await mesh.settled()
                confirmed = turns
                seen = answered.total()
                await until(lambda seen=seen: answered.total() > seen + 10)  # type: ignore[misc]
            done.set()
        assert set(answered) == {True}


async def test_a_worker_that_is_killed_while_it_takes_a_document_holds_nobody_up(
    mesh: Mesh, tmp_path: Path
) -> None:
    async def taking() -> bool:
        _, said = await exchange(
            tmp_path / "control.sock", "POST", "/document", b'{"generation":0,"base":0}\n'
        )
        return b"another document is being taken" in said

    async with backends("one") as (one,):
        for turn in range(3):
            many = [simple(f"turn-{turn}-{number}", one.peer()) for number in range(3000)]
            mesh.desire(simple(f"turn-{turn}", one.peer()), *many)
            await eventually(taking)
            os.kill(workers(mesh)[0], signal.SIGKILL)
            await mesh.settled()
            assert (await mesh.ask(f"/turn-{turn}/")).status == 200


async def test_a_killed_nginx_is_started_again_and_told_everything(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        pid = mesh.nginx.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: mesh.nginx.pid not in (pid, None))

        async def answers() -> bool:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                return (await mesh.ask("/reviews/x")).status == 200
            return False

        await eventually(answers)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]\n",
        b"null\n",
        b'{"generation":9}\n',
        b'{"generation":9,"base":0}\n{"name":"x"}\n',
        b'{"generation":9,"base":0}\n{"name":"x","key":"x","targets":[],"routes":[{"slices":[{"target":1}]}]}\n',
        b'{"generation":9,"base":0}\n{"name":"x","key":"x","routes":[]}\n',
        b'{"generation":9,"base":0}\n"' + b"[" * 5000 + b"\n",
        b'{"generation":9,"base":0}',
    ],
)
async def test_a_broken_document_is_refused_as_a_whole(mesh: Mesh, tmp_path: Path, document: bytes) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        status, _ = await exchange(tmp_path / "control.sock", "POST", "/document", document)
        assert status == 400
        assert (await mesh.ask("/reviews/x")).status == 200


async def test_a_document_above_the_limit_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
    writer.write(b"POST /document HTTP/1.1\r\nhost: x\r\ncontent-length: 33554433\r\n\r\n")
    assert b" 413 " in await reader.readline()
    writer.close()


async def test_a_thousand_services_are_followed_while_calls_go_on(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        stop = asyncio.Event()

        async def calls() -> int:
            count = 0
            async with Client(mesh.port) as client:
                while not stop.is_set():
                    assert (await client.ask("/svc0/x")).status == 200
                    count += 1
            return count

        await mesh.follow(simple("svc0", one.peer()))
        load = asyncio.create_task(calls())
        for each in (one, two):
            await mesh.follow(*(simple(f"svc{number}", *[each.peer()] * 5) for number in range(1000)))
            assert (await mesh.ask("/svc999/x")).call.name == each.name
        stop.set()
        assert await load > 10
        assert (await mesh.ask("/svc0/x")).call.name == "two"


async def test_the_control_socket_is_its_owners_alone(mesh: Mesh, tmp_path: Path) -> None:
    sockets = [tmp_path / name for name in ("control.sock", "hop.sock", "odd.sock")]
    await until(lambda: all(each.exists() and each.stat().st_mode & 0o777 == 0o600 for each in sockets))


async def test_a_thousand_flips_under_load_fail_no_call(tmp_path: Path) -> None:
    async with running(tmp_path, workers=2) as mesh, backends("one", "two") as (one, two):
        await mesh.follow(simple("reviews", one.peer()))
        done, seen = asyncio.Event(), set[int]()

        async def load() -> None:
            async with Client(mesh.port) as client:
                while not done.is_set():
                    seen.add((await client.ask("/reviews/x")).status)

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            for turn in range(1000):
                await mesh.follow(simple("reviews", (one, two)[turn % 2].peer()))
            done.set()
        assert seen == {200}


async def test_a_taken_port_is_refused_with_a_sentence(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(InvalidSetting, match=f"port {port} on 127.0.0.1 is taken"):
        await _nginx(tmp_path, port=port).run()
    server.close()


async def test_a_missing_binary_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="is no executable file"):
        await _nginx(tmp_path, binary="/nowhere/nginx").run()
    with pytest.raises(InvalidSetting, match="is no nginx"):
        await _nginx(tmp_path, binary="/bin/true").run()


async def test_a_record_that_cannot_be_written_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"^access_log: .* cannot be written to \(No such file"):
        await _nginx(tmp_path, access_log=tmp_path / "no" / "a.log").run()


async def test_it_ends_with_all_its_workers(tmp_path: Path) -> None:
    async with running(tmp_path, workers=2) as mesh:
        await until(lambda: len(workers(mesh)) == 2)
        running_now = workers(mesh)
    assert not any(Path(f"/proc/{pid}").exists() for pid in running_now)


async def test_figures_have_the_names_of_the_project(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("reviews", one.peer()))
        await mesh.ask("/reviews/x")
        await mesh.ask("/nobody/x")
        text = (await mesh.nginx.metrics()).decode()
        assert 'a8_proxy_calls_total{status="2xx"} 1\n' in text
        assert 'a8_proxy_calls_total{status="4xx"} 1\n' in text
        assert "a8_proxy_restarts_total 0\n" in text


def _nginx(folder: Path, port: int | None = None, **more: Any) -> Nginx:
    return Nginx(
        state_dir=folder,
        listen_host="127.0.0.1",
        http_port=port or free_port(),
        own_service=caller("shop"),
        **more,
    )


def _replaced(mesh: Mesh, killed: int) -> bool:
    now = workers(mesh)
    return len(now) == 2 and killed not in now


def test_a_sidecar_with_nginx_imports_nothing_of_the_other_proxy() -> None:
    program = """
import sys
from pathlib import Path
from typing import Any
from amalgam8.sidecar.main import main, make_proxy
from amalgam8.sidecar.settings import Settings
make_proxy(Settings(proxy_adapter="nginx"), Path("/nowhere"))
print(*sorted(name for name in sys.modules if name.split(".")[0] in ("grpc", "google", "envoy", "xds")
    or name.startswith("amalgam8.sidecar.envoy")))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == ""
