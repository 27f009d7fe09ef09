"""Serves ASGI applications on a TCP port or a unix socket, with patience that ends.

A client has HEAD_WITHIN seconds and HEAD_LIMIT bytes for the head of a request and BODY_WITHIN seconds
for its body, else it is told so and cut off; one that takes no byte of its answer for UNREAD_FOR seconds
is cut off too. Refuses to install signal handlers: ``runtime.service`` does.
"""

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from amalgam8.model.errors import InvalidSetting

HEAD_WITHIN = 10.0
BODY_WITHIN = 20.0
HEAD_LIMIT = 64 * 1024
UNREAD_FOR = 30.0
CONNECTIONS_LIMIT = 12_000
DESCRIPTORS_KEPT = 64
"""For everything but connections: where all are taken, not even a refusal can be sent."""
IDLE_FOR = 75.0
"""Seconds for which an idle connection is kept."""
LINGER = 1.0
"""Seconds for which a client that was cut off may go on sending, unheard: closed at once, it would be reset
and lose the answer that tells it why."""
END_WITHIN = 4.0
PIECE = 256 * 1024


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket.

    Raises:
        InvalidSetting: the address cannot be listened on; names the setting and why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, since asyncio sets TCP_NODELAY only then: without it each answer that is
    # written in two pieces waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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
async def serving(
    app: ASGIApp, listener: socket.socket, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve ``app`` inside the block; yields the port. Leaving ends open streams within a second."""
    config = uvicorn.Config(
        app if tls is None else _InPieces(app),
        http=_PatientHttp,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=int(IDLE_FOR),
        timeout_graceful_shutdown=1,
        limit_concurrency=_connections(),
        backlog=2048,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    server = _Server(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve_to_the_end(listener))
        try:
            async with asyncio.timeout(10):
                await server.up.wait()
            yield listener.getsockname()[1] if listener.family != socket.AF_UNIX else 0
        finally:
            server.should_exit = True


def _connections() -> int:
    """How many there may be: further ones are answered 503."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_LIMIT
    return max(1, min(CONNECTIONS_LIMIT, soft - DESCRIPTORS_KEPT))


class _InPieces:
    """Sends bodies in pieces: with TLS only what follows one waits for a client that does not read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def in_pieces(message: Message) -> None:
            body: bytes = message.get("body", b"")
            start = 0
            while len(body) - start > PIECE:
                piece = body[start : start + PIECE]
                await send({"type": message["type"], "body": piece, "more_body": True})
                start += PIECE
            await send({**message, "body": body[start:]} if start else message)

        await self._app(scope, receive, in_pieces)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def serve_to_the_end(self, listener: socket.socket) -> None:
        """Serve; when cancelled, close connections and end streams before going."""
        running = asyncio.ensure_future(self.serve(sockets=[listener]))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            self.should_exit = True
            async with asyncio.timeout(END_WITHIN):
                await running
            raise

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.server_state.tasks:  # cancelled a moment ago
            await asyncio.wait(self.server_state.tasks, timeout=1)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _PatientHttp(HttpToolsProtocol):
    """Cuts off clients that send a head or a body too slowly, a head that is too long, or do not read."""

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True
    _cut_off = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head, self._head_bytes = True, 0
        # Whatever the client has not taken counts as unread. With TLS the limit itself is one too much.
        transport.set_write_buffer_limits(high=1 if self.scheme == "https" else 0)
        self._expect_within(HEAD_WITHIN)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_within(None)
        self._await_reading(None)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reading(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._await_reading(None)
        super().resume_writing()

    def _await_reading(self, unread: int | None) -> None:
        """Look again in UNREAD_FOR seconds whether some of these ``unread`` bytes were taken."""
        if self._unread is not None:
            self._unread.cancel()
        self._unread = (
            None if unread is None else self.loop.call_later(UNREAD_FOR, self._cut_unless_read, unread)
        )

    def _cut_unless_read(self, unread: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left >= unread:
            self.transport.abort()
        else:
            self._await_reading(left)

    def data_received(self, data: bytes) -> None:
        if self._cut_off:
            return
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
        if self.url[:8].lower() == b"https://":  # a proxy that took the TLS off may ask like this
            self.scope["scheme"] = "https"
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
        if transport.is_closing() or self._cut_off:
            return
        self._cut_off = True
        if self._owes_an_answer():
            body = f'{{"Error":"{text}","error":"{text}"}}'
            reason = {408: "Request Timeout", 431: "Request Header Fields Too Large"}[status]
            head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\nconnection: close\r\n"
            transport.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
            if transport.can_write_eof():
                transport.write_eof()
                self.loop.call_later(LINGER, transport.close)
                return
        transport.close()

    def _owes_an_answer(self) -> bool:
        """Whether the request that is cut can be told why: it has begun, and no answer is under way."""
        if self._in_head:
            idle = self.cycle is None or self.cycle.response_complete
            return self._head_bytes > 0 and idle
        return not self.cycle.response_started and not self.pipeline
