"""Server-sent events: the server's end of the watch streams.

``hello`` first, then what was missed or a whole snapshot, then deltas as they come, and a comment every
PROOF_OF_LIFE seconds. Each watcher is a cursor into its source: one that reads slowly gets a fresh
snapshot, one that does not read at all is cut off. Wire format: ``docs/reference/streams.md``.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec
from starlette.types import Message, Receive, Scope, Send

from amalgam8.model.stream import event_id, parse_event_id
from amalgam8.runtime.feed import Gap

PROOF_OF_LIFE = 5.0
STUCK_AFTER = 30.0
"""Seconds after which a watcher that takes no bytes is cut off."""


class Event(msgspec.Struct, frozen=True):
    """``data`` is one line of JSON; ``revision`` what the watcher knows once it has read it."""

    name: str
    revision: int
    data: bytes


class Source(Protocol):
    """What a stream tells of."""

    epoch: str

    def hello(self) -> bytes:
        """JSON of the first event."""

    def snapshot(self) -> Event:
        """All there is now."""

    def since(self, revision: int) -> tuple[int, Event | None]:
        """What came after ``revision`` and the revision reached; no event if nothing concerns this watcher.

        Raises:
            Gap: it cannot tell; a snapshot is needed.
        """

    async def newer(self, revision: int) -> int:
        """Return once there may be something above ``revision``."""


class EventStream:
    """An ASGI response that follows ``source`` until the client goes away.

    ``resume`` is the client's ``Last-Event-ID``; ``ended`` is called once, whatever ended the stream.
    """

    def __init__(self, source: Source, resume: str = "", ended: Callable[[], None] = lambda: None) -> None:
        self._source = source
        self._resume = resume
        self._ended = ended

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [
                        (b"content-type", b"text/event-stream; charset=utf-8"),
                        (b"cache-control", b"no-store"),
                        (b"x-accel-buffering", b"no"),
                    ],
                }
            )
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write(send))
                await _gone(receive)
                writer.cancel()
        except* (TimeoutError, OSError):
            pass  # a stuck or vanished watcher; it comes back by itself
        finally:
            self._ended()

    async def _write(self, send: Send) -> None:
        source = self._source
        await _send(send, frame("hello", None, source.hello()))
        cursor = _cursor(source.epoch, self._resume)
        while True:
            try:
                if cursor is None:
                    raise Gap
                cursor, event = source.since(cursor)
            except Gap:
                event = source.snapshot()
                cursor = event.revision
            if event is not None:
                await _send(send, frame(event.name, event_id(source.epoch, event.revision), event.data))
            while True:
                try:
                    async with asyncio.timeout(PROOF_OF_LIFE):
                        await source.newer(cursor)
                    break
                except TimeoutError:
                    await _send(send, b":\n\n")


def frame(name: str, identity: str | None, data: bytes) -> bytes:
    """One event as bytes."""
    head = f"id: {identity}\n".encode() if identity is not None else b""
    return b"event: " + name.encode() + b"\n" + head + b"data: " + data + b"\n\n"


def _cursor(epoch: str, resume: str) -> int | None:
    known = parse_event_id(resume)
    return known[1] if known and known[0] == epoch else None


async def _send(send: Send, data: bytes) -> None:
    message: Message = {"type": "http.response.body", "body": data, "more_body": True}
    async with asyncio.timeout(STUCK_AFTER):
        await send(message)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
