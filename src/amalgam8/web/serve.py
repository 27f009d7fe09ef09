"""Serves ASGI applications on a TCP port or a unix socket, with patience that ends.

A client has HEAD_WITHIN seconds and HEAD_LIMIT bytes for the head of a request and BODY_WITHIN seconds
for its body, else it is told so and cut off. Refuses to install signal handlers: ``runtime.service`` does.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from amalgam8.model.errors import InvalidSetting

HEAD_WITHIN = 10.0
BODY_WITHIN = 20.0
HEAD_LIMIT = 64 * 1024
CONNECTIONS_LIMIT = 12_000
IDLE_FOR = 75.0
"""Seconds for which an idle connection is kept."""


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket.

    Raises:
        InvalidSetting: the address cannot be listened on; names the setting and why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = (
            "is already taken" if taken else f"cannot be listened on: {getattr(error, 'strerror', error)}"
        )
        raise InvalidSetting(f"{setting}: port {port} on {host} {reason}") from None
    listener.setblocking(False)
    return listener


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[int]:
    """Serve ``app`` inside the block; yields the port. Leaving ends open streams within a second."""
    config = uvicorn.Config(
        app,
        http=_PatientHttp,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=int(IDLE_FOR),
        timeout_graceful_shutdown=1,
        limit_concurrency=CONNECTIONS_LIMIT,
        backlog=2048,
    )
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    server = _Server(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=[listener]))
        try:
            async with asyncio.timeout(10):
                await server.up.wait()
            yield listener.getsockname()[1] if listener.family != socket.AF_UNIX else 0
        finally:
            server.should_exit = True


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _PatientHttp(HttpToolsProtocol):
    """Cuts off clients that send a head or a body too slowly, or a head that is too long."""

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head, self._head_bytes = True, 0
        self._expect_within(HEAD_WITHIN)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_within(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            if self._deadline is None:
                self._expect_within(HEAD_WITHIN)
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT + len(data):
                self._cut(431, f"the head is larger than the limit of {HEAD_LIMIT} bytes")
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._expect_within(BODY_WITHIN)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._expect_within(None)
        super().on_message_complete()

    def _expect_within(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        self._deadline = None
        self._cut(408, "the request did not arrive in time")

    def _cut(self, status: int, text: str) -> None:
        self._expect_within(None)
        transport: Any = self.transport
        if transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            body = f'{{"Error":"{text}","error":"{text}"}}'
            reason = {408: "Request Timeout", 431: "Request Header Fields Too Large"}[status]
            head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\nconnection: close\r\n"
            transport.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        transport.close()
