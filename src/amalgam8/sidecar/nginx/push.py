"""Speaks to nginx over its control socket: documents go in, figures come out.

Refuses to wait for ever: TIMEOUT covers one exchange, and a document's answer comes when every worker
follows it.
"""

import asyncio
from pathlib import Path

import h11
import msgspec

from amalgam8.model.errors import Unreachable

TIMEOUT = 20.0
ANSWER_LIMIT = 4 * 1024 * 1024


class Head(msgspec.Struct, frozen=True):
    """A document's first line. ``base`` 0: it holds every service; else those that changed since ``base``."""

    generation: int
    base: int = 0
    removed: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """What nginx said of a document; ``service`` is the one that made it refuse, where it knows."""

    status: int = 0
    error: str = ""
    service: str = ""
    generation: int = 0
    workers: int = 0


async def push(socket: Path, head: Head, lines: list[bytes]) -> Answer:
    """POST a document; returns when every worker follows it, or it was refused.

    Raises:
        Unreachable: no answer that can be read.
    """
    body = b"".join([msgspec.json.encode(head), b"\n", *lines])
    status, answer = await exchange(socket, "POST", "/document", body)
    try:
        return msgspec.structs.replace(msgspec.json.decode(answer, type=Answer), status=status)
    except msgspec.MsgspecError as error:
        raise Unreachable(f"the proxy answers {status} to a document") from error


async def exchange(socket: Path, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """One request on the control socket: status and body of the answer.

    Raises:
        Unreachable: no answer.
    """
    try:
        async with asyncio.timeout(TIMEOUT):
            return await _exchange(socket, method, path, body)
    except (OSError, TimeoutError, h11.ProtocolError) as error:
        raise Unreachable(f"the proxy does not answer: {str(error) or 'timeout'}") from error


async def _exchange(socket: Path, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        connection = h11.Connection(h11.CLIENT)
        headers = [("host", "control"), ("connection", "close"), ("content-length", str(len(body)))]
        request = h11.Request(method=method, target=path, headers=headers)
        for part in (request, h11.Data(data=body), h11.EndOfMessage()):
            writer.write(connection.send(part) or b"")
        await writer.drain()
        status, answer = 0, bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                answer += event.data
                if len(answer) > ANSWER_LIMIT:
                    raise Unreachable(f"the proxy's answer is longer than {ANSWER_LIMIT} bytes")
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(answer)
            elif isinstance(event, h11.ConnectionClosed):
                raise Unreachable("the proxy closed the connection")
    finally:
        writer.close()
