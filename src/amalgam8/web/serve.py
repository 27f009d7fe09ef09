"""Serves ASGI applications on a TCP port or a unix socket; ``web.protocol`` speaks with each client.

An application that answers some requests at once, as ``web.app.Api`` does, is asked for those without ASGI
between. Refuses to install signal handlers: ``runtime.service`` does.
"""

import asyncio
import contextlib
import errno
import functools
import logging
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from amalgam8.model.errors import InvalidSetting
from amalgam8.web.app import Api
from amalgam8.web.protocol import PatientHttp

CONNECTIONS_LIMIT = 12_000
DESCRIPTORS_KEPT = 64
"""For everything but connections: where all are taken, not even a refusal can be sent."""
IDLE_FOR = 75.0
"""Seconds for which an idle connection is kept."""
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
        # uvicorn wants a class by its types, and calls whatever it is given.
        http=functools.partial(PatientHttp, quick=app if isinstance(app, Api) else None),  # type: ignore[arg-type]  # a class is asked for; what makes one will do
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
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
