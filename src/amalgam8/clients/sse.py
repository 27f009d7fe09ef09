"""Server-sent events: bytes in, events out. A state machine without I/O.

Format: the HTML standard's ``text/event-stream``, of which ``event``, ``id`` and ``data`` are read.
"""

import msgspec

from amalgam8.model.errors import BadAnswer

EVENT_LIMIT = 256 * 1024 * 1024


class Received(msgspec.Struct, frozen=True):
    name: str
    id: str
    data: bytes


class Parser:
    """Feed it chunks as they come; it hands out the events that are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0

    def feed(self, chunk: bytes) -> list[Received]:
        """Take a chunk, return the events that it completes; comments vanish.

        Raises:
            BadAnswer: an event larger than EVENT_LIMIT, or with a name or id that is no text.
        """
        self._buffer += chunk
        found: list[Received] = []
        while (end := self._buffer.find(b"\n\n", max(self._scanned - 1, 0))) >= 0:
            event = _event(bytes(self._buffer[:end]))
            del self._buffer[: end + 2]
            self._scanned = 0
            if event is not None:
                found.append(event)
        self._scanned = len(self._buffer)
        if self._scanned > EVENT_LIMIT:
            raise BadAnswer(f"an event is larger than {EVENT_LIMIT} bytes")
        return found


def _event(block: bytes) -> Received | None:
    name, identity, data = "message", "", []
    for line in block.split(b"\n"):
        field, _, value = line.rstrip(b"\r").partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = _text(value)
        elif field == b"id":
            identity = _text(value)
        elif field == b"data":
            data.append(value)
    return Received(name, identity, b"\n".join(data)) if data else None


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadAnswer("an event's name or id is not UTF-8") from None
