"""The yardstick: a bare ASGI application that answers the same bytes to everything, with a content length.

Run as ``python -m benchmarks.bare PORT BYTES LOOP``; serves until ended on uvicorn with httptools, as
``pip install uvicorn[standard]`` gives it with uvloop as the LOOP, or with ``asyncio``.
"""

import sys
from typing import Any

import uvicorn


def main() -> None:
    port, size, loop = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    body = b"x" * size
    headers = [(b"content-type", b"application/json"), (b"content-length", str(size).encode())]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    uvicorn.run(
        application,
        host="127.0.0.1",
        port=port,
        loop=loop,
        http="httptools",
        log_level="error",
        access_log=False,
    )


if __name__ == "__main__":
    main()
