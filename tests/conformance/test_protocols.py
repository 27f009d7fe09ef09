"""What apps speak goes through each proxy as it came: gRPC, long bodies where rules act, odd paths."""

import asyncio
import contextlib
import resource
import shutil
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from amalgam8.routing.condition import Condition
from amalgam8.routing.plan import AccessEntry, FaultEntry, PlanAbort
from amalgam8.routing.resolve import Peer, Route, ServiceRouting, Slice, Target
from tests.conformance.http2 import Http2Client
from tests.conformance.proxies import PROXIES, Proxy, memory
from tests.sidecar.echo import code, echoing, talk
from tests.sidecar.envoy.support import LIMIT, Backend, Client, backends

LONG = 100_000_000
GROWTH = 16_000_000
"""What a proxy's memory may grow by while LONG bytes pass."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Mesh:
    """A started proxy, and calls through it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.port = proxy.port

    async def follow(self, *peers: Peer, piece: dict[str, Any] | None = None, **more: Any) -> None:
        """Service ``svc`` is these; ``piece`` of its one slice, ``more`` of the service."""
        target = Target("svc")
        route = Route((Slice(target, **(piece or {})),), rule="r")
        service = ServiceRouting("svc", (route,), peers={target: peers}, **more)
        assert await self.proxy.apply({"svc": service}) == {}


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=sorted(PROXIES))
async def mesh(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mesh]:
    proxy = PROXIES[request.param]()
    await proxy.start(tmp_path_factory.mktemp(request.param))
    try:
        yield Mesh(proxy)
    finally:
        await proxy.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def one() -> AsyncIterator[Backend]:
    async with backends("one") as (found,):
        yield found


@contextlib.asynccontextmanager
async def asking(mesh: Mesh, within: float = LIMIT) -> AsyncIterator[Client]:
    async with Client(mesh.port) as client, asyncio.timeout(within):
        yield client


async def test_grpc_streams_and_trailers_pass(mesh: Mesh) -> None:
    async with echoing() as echo:
        await mesh.follow(echo)
        await talk(mesh.port)
        await talk(mesh.port, "mesh", "/svc")


async def test_grpc_passes_where_faults_timeouts_and_retries_are(mesh: Mesh) -> None:
    fault = FaultEntry(rule="f", aborts=(PlanAbort(500, 1e-6),))
    async with echoing() as echo:
        await mesh.follow(echo, piece={"timeout": 9.0, "retries": 2}, faults=(fault,))
        await talk(mesh.port)


async def test_a_rules_timeout_ends_a_conversation_of_grpc(mesh: Mesh) -> None:
    async with echoing() as echo:
        await mesh.follow(echo, piece={"timeout": 0.3})
        options = (("grpc.default_authority", "svc"),)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.port}", options=options) as channel:
            chat = channel.stream_stream("/svc.Echo/Chat")(timeout=LIMIT)
            await chat.write(b"one")
            assert await chat.read() == b"heard one"
            assert await chat.code() is not grpc.StatusCode.OK


async def test_a_refusal_is_a_status_of_grpc(mesh: Mesh) -> None:
    await mesh.follow()
    assert await code(mesh.port) is grpc.StatusCode.UNAVAILABLE
    assert await code(mesh.port, "mesh", "/nobody/svc.Echo/Say") is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("method", "piece"), [("POST", {}), ("PUT", {"retries": 2}), ("POST", {"timeout": 60.0})], ids=str
)
async def test_long_bodies_pass_without_being_kept(
    mesh: Mesh, one: Backend, method: str, piece: dict[str, Any]
) -> None:
    await mesh.follow(one.peer(), piece=piece)
    async with asking(mesh, 9 * LIMIT) as client, _no_files(mesh):
        assert (await client.ask("/svc/", method=method, body=b"x" * 1000)).status == 200
        before = memory(mesh.proxy)
        client.send("/svc/up", [("content-length", str(LONG))], method)
        chunk = b"x" * 1_000_000
        for _ in range(LONG // len(chunk)):
            client.writer.write(chunk)
            await client.writer.drain()
        reply = await client.head()
        reply.body = await client.reader.readexactly(int(reply.headers["content-length"]))
        assert reply.call.size == LONG
        client.send(f"/svc/bytes-{LONG}")
        assert (await client.head()).headers["content-length"] == str(LONG)
        left = LONG
        while left:
            left -= len(await client.reader.read(1 << 20))
        assert memory(mesh.proxy) - before < GROWTH


ODD = (
    *("/%2F", "/a%2Fb", "/a/%2e%2e/x", "/a/../b", "/a/./b", "//", "//a//b/", "/;a=b;c", "/a%20b", "/a+b"),
    *(
        "/%C3%BC",
        "/%c3%bc",
        "/a?b?c",
        "/?",
        "/a?x=%2F&y=%20+",
        "/a%3Fb",
        "/a%25b",
        "/~a|b",
        "/a'b(c)",
    ),
    *("/%00", "/%zz", "/%", "/../x", "/%2e%2e/x", "/a/../../../b"),
)


@pytest.mark.parametrize("path", ODD)
async def test_odd_paths_arrive_as_they_were_sent(mesh: Mesh, one: Backend, path: str) -> None:
    await mesh.follow(one.peer())
    for sent, headers in ((f"/svc{path}", ()), (path, (("host", "svc"),))):
        async with asking(mesh) as client:
            reply = await client.ask(sent, headers)
        assert (reply.status, reply.call.path) == (200, path)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_http_2_without_tls_and_http_1_share_a_port(mesh: Mesh, one: Backend) -> None:
    await mesh.follow(one.peer())
    url = f"http://127.0.0.1:{mesh.port}/svc/%2F//x?y"
    asked = await asyncio.gather(
        *(_curl("--http2-prior-knowledge", url) for _ in range(3)),
        *(_curl("--http1.1", url) for _ in range(3)),
    )
    assert all(b'"path":"/%2F//x?y"' in said for said in asked)
    assert [said.rpartition(b"}")[2] for said in asked] == [b"2"] * 3 + [b"1.1"] * 3
    body = await _curl("--http2-prior-knowledge", "--data-binary", "@-", url, body=b"x" * 3_000_000)
    assert b'"size":3000000' in body


async def test_cookies_are_one_list_however_they_are_split(mesh: Mesh, one: Backend) -> None:
    allow = AccessEntry(rule="r", verdict="allow", match=Condition((("cookie", "^a=1; b=2$"),)))
    await mesh.follow(one.peer(), access=(allow,))
    for cookies in (["a=1; b=2"], ["a=1", "b=2"]):
        headers = [("cookie", cookie) for cookie in cookies]
        async with asking(mesh) as client, Http2Client(mesh.port) as other:
            assert (await client.ask("/svc/x", headers)).status == 200
            assert (await other.ask("/svc/x", headers)).status == 200
            assert (await client.ask("/svc/x", [*headers, ("cookie", "c=3")])).status == 403
            assert (await other.ask("/svc/x", [*headers, ("cookie", "c=3")])).status == 403


async def _curl(*arguments: str, body: bytes = b"") -> bytes:
    command = ["curl", "-s", "--path-as-is", "-w", "%{http_version}", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, input=body, capture_output=True, timeout=LIMIT, check=True
    )
    return bytes(done.stdout)


@contextlib.asynccontextmanager
async def _no_files(mesh: Mesh) -> AsyncIterator[None]:
    """Meanwhile no process of the proxy can write a long file."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in mesh.proxy.pids()}
    for pid, (_, most) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1 << 20, most))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
