"""A gRPC server that echoes, and a client that asks it everything gRPC can be asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from amalgam8.model.instance import Address
from amalgam8.routing.resolve import Peer

LIMIT = 10.0


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    """``/svc.Echo/Say`` answers once, ``/svc.Echo/Chat`` each message, ``/svc.Echo/Fail`` with a status."""

    def service(self, details: Any) -> Any:
        """The handler of a call's path."""
        name = details.method.removeprefix("/svc.Echo/")
        if name == "Chat":
            return grpc.stream_stream_rpc_method_handler(self._chat)
        known = {"Say": self._say, "Fail": self._fail}
        return grpc.unary_unary_rpc_method_handler(known[name]) if name in known else None

    async def _say(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x-trailer", "last"),))
        return b"said " + request

    async def _fail(self, _: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not so")
        return b""

    async def _chat(self, requests: Any, _: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield b"heard " + request


@contextlib.asynccontextmanager
async def echoing(pair: tuple[bytes, bytes] | None = None, host: str = "127.0.0.1") -> AsyncIterator[Peer]:
    """The instance; ``pair``: its private key and certificate chain, for TLS."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    if pair is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        yield Peer("echo", Address(host, port, pair is not None))
    finally:
        await server.stop(None)


async def talk(port: int, authority: str = "svc:80", before: str = "") -> None:
    """Once, with trailers; failing; and a conversation. ``before`` stands in front of each path."""
    target = f"127.0.0.1:{port}"
    options = (("grpc.default_authority", authority),)
    async with asyncio.timeout(LIMIT), grpc.aio.insecure_channel(target, options=options) as channel:
        call = channel.unary_unary(f"{before}/svc.Echo/Say")(b"hi")
        assert await call == b"said hi"
        assert ("x-trailer", "last") in tuple(await call.trailing_metadata())
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary(f"{before}/svc.Echo/Fail")(b"")
        assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert failed.value.details() == "not so"
        chat = channel.stream_stream(f"{before}/svc.Echo/Chat")()
        for word in (b"one", b"two"):  # each is answered before the next is said
            await chat.write(word)
            assert await chat.read() == b"heard " + word
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF


async def code(port: int, authority: str = "svc:80", path: str = "/svc.Echo/Say") -> grpc.StatusCode:
    """The status of a call."""
    options = (("grpc.default_authority", authority),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        call = channel.unary_unary(path)(b"hi", timeout=LIMIT)
        return await call.code()
