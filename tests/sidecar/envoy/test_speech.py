"""gRPC through a real Envoy: HTTP/2 to the instance, streams and trailers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from amalgam8.model.instance import Address
from amalgam8.routing.plan import FaultEntry, PlanAbort
from amalgam8.routing.resolve import Peer, Route, ServiceRouting, Slice, Target
from tests.sidecar.envoy.support import LIMIT, Mesh, simple


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    """``/svc.Echo/Say`` answers once, ``/svc.Echo/Chat`` each message, ``/svc.Echo/Fail`` with a status."""

    def service(self, details: Any) -> Any:
        name = details.method.rpartition("/")[2]
        if name == "Chat":
            return grpc.stream_stream_rpc_method_handler(self._chat)
        return grpc.unary_unary_rpc_method_handler(self._say if name == "Say" else self._fail)

    async def _say(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x-trailer", "last"),))
        return b"said " + request

    async def _fail(self, _: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not so")
        return b""

    async def _chat(self, requests: Any, _: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield b"heard " + request


@pytest.fixture
async def echo() -> AsyncIterator[Peer]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Peer("echo", Address("127.0.0.1", port))
    await server.stop(None)


async def talk(mesh: Mesh) -> None:
    """By ``Host``, since a gRPC client has no say about its path."""
    target = f"127.0.0.1:{mesh.port}"
    options = (("grpc.default_authority", "svc:80"),)
    async with asyncio.timeout(LIMIT), grpc.aio.insecure_channel(target, options=options) as channel:
        call = channel.unary_unary("/svc.Echo/Say")(b"hi")
        assert await call == b"said hi"
        assert ("x-trailer", "last") in tuple(await call.trailing_metadata())
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary("/svc.Echo/Fail")(b"")
        assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert failed.value.details() == "not so"
        chat = channel.stream_stream("/svc.Echo/Chat")()
        for word in (b"one", b"two"):  # each is answered before the next is said
            await chat.write(word)
            assert await chat.read() == b"heard " + word
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF


async def test_grpc_streams_and_trailers_pass(mesh: Mesh, echo: Peer) -> None:
    assert (await mesh.follow(simple("svc", echo))).rejected == ()
    await talk(mesh)


async def test_grpc_passes_the_second_pass(mesh: Mesh, echo: Peer) -> None:
    target = Target("svc")
    fault = (FaultEntry(rule="f", aborts=(PlanAbort(500, 1e-6),)),)
    route = Route((Slice(target, timeout=9.0),))
    await mesh.follow(ServiceRouting("svc", (route,), faults=fault, peers={target: (echo,)}))
    await talk(mesh)


async def test_a_refusal_is_a_status_of_grpc(mesh: Mesh) -> None:
    await mesh.follow(simple("svc"))
    options = (("grpc.default_authority", "svc"),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.port}", options=options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary("/svc.Echo/Say")(b"hi", timeout=LIMIT)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
