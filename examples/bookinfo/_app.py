"""What the bookinfo services share: their settings, their HTTP server, and calls to each other.

A service never knows where another one lives. It asks its own sidecar for `/<service>/<path>`, and the
sidecar picks the version and the instance. Refuses to retry, cache or balance anything by itself.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import httpcore
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

# What must travel along for rules and traces to work further down. Of the cookies only `user`.
FORWARDED_HEADERS = ("x-request-id", "traceparent")


def version() -> str:
    """The first tag in A8_SERVICE (`name:tag,tag`), without `version=`; `v1` when there is none."""
    tags = os.environ.get("A8_SERVICE", "").partition(":")[2]
    return tags.split(",")[0].strip().removeprefix("version=") or "v1"


def timeout_from(name: str, default: float) -> float:
    """A time limit in seconds from the environment; the services' own defaults are what the demo is about."""
    return float(os.environ.get(name, default))


class UnavailableError(Exception):
    """The other service gave no usable answer; the text says why."""


class Mesh:
    """Calls to other services, all of them through this instance's own sidecar."""

    def __init__(self) -> None:
        self._sidecar = os.environ.get("A8_PROXY_URL", "http://127.0.0.1:6379").rstrip("/")
        self._pool = httpcore.AsyncConnectionPool(max_connections=200, keepalive_expiry=30)

    async def get(self, path: str, caller: Request, answer: type[T], timeout: float) -> T:
        """GET `/<service>/<path>` for `caller`; the JSON of a 200 must have the shape of `answer`."""
        try:
            async with asyncio.timeout(timeout):
                reply = await self._pool.request("GET", self._sidecar + path, headers=forwarded(caller))
        except TimeoutError:
            raise UnavailableError(f"{path} did not answer within {timeout:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise UnavailableError(f"{path} broke off: {error!r}") from error
        if reply.status != 200:
            raise UnavailableError(f"{path} answered {reply.status}")
        try:
            return msgspec.json.decode(reply.content, type=answer)
        except msgspec.DecodeError as error:
            raise UnavailableError(f"{path} answered nonsense: {error}") from error

    async def close(self) -> None:
        await self._pool.aclose()


def forwarded(request: Request) -> list[tuple[bytes, bytes]]:
    """The headers of a request that go along with the calls made for it.

    The cookie goes along exactly as it came. The others stay behind: a rule that looks for `user=...` at the
    start of the header then works whatever else the browser has collected for this host.
    """
    found = [(name, request.headers[name]) for name in FORWARDED_HEADERS if name in request.headers]
    cookies = (pair.strip() for pair in request.headers.get("cookie", "").split(";"))
    found += [("cookie", pair) for pair in cookies if pair.startswith("user=")][:1]
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in found]


def serve(routes: Sequence[BaseRoute], mesh: Mesh | None = None) -> None:
    """Run a service until SIGTERM. HOST and PORT say where it listens; PORT 0 takes any free one."""
    port = os.environ.get("PORT", "")
    if not port.isdecimal() or int(port) > 65535:
        sys.exit(f"PORT={port!r}: must be a number from 0 to 65535")

    async def health(_: Request) -> Response:
        return Response("")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        if mesh:
            await mesh.close()

    app = Starlette(routes=[*routes, Route("/health", health)], lifespan=lifespan)
    app.router.redirect_slashes = False  # those go to absolute paths, wrong behind a gateway's prefix

    async def until_stopped(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(asyncio.CancelledError):  # stopped with a call under way: no traceback
            await app(scope, receive, send)

    # uvicorn stops cleanly and then raises the signal again, for whoever handled it before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        until_stopped,
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(port),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,  # seconds; the proxy in front is to close idle connections, not this side
        timeout_graceful_shutdown=1,
    )
