"""A service that says which version it is: `GET /hello` -> one line of text, and the cookie `version`.

Settings come from the environment: PORT (0 takes any free one), HOST, A8_SERVICE (`name:tag,tag`).
"""

import os
import signal
import socket
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


def version() -> str:
    """The first tag in A8_SERVICE, else A8_SERVICE_VERSION, else `UNVERSIONED`."""
    first_tag = os.environ.get("A8_SERVICE", "").partition(":")[2].split(",")[0].strip()
    return first_tag or os.environ.get("A8_SERVICE_VERSION") or "UNVERSIONED"


async def hello(_: Request) -> Response:
    container = os.environ.get("HOSTNAME") or socket.gethostname()
    cookie = f"version={version()}; Path=/"  # by hand: http.cookies reserves that name
    return PlainTextResponse(
        f"Hello version: {version()}, container: {container}\n", headers={"Set-Cookie": cookie}
    )


async def health(_: Request) -> Response:
    return Response("")


def main() -> None:
    port = os.environ.get("PORT", "")
    if not port.isdecimal() or int(port) > 65535:
        sys.exit(f"PORT={port!r}: must be a number from 0 to 65535")
    # uvicorn stops cleanly and then raises the signal again, for whoever handled it before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        Starlette(routes=[Route("/hello", hello), Route("/health", health)]),
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(port),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,  # seconds; the proxy in front is to close idle connections, not this side
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
