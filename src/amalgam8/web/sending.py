"""Sends answers by ASGI: the headers that every one has added, and compressed where that is asked for.

Streams are never compressed: what is held back in order to pack it well is what a watcher waits for.
Refuses to choose a status or a body.
"""

import gzip
from collections.abc import Mapping

from starlette.types import Message, Send

from amalgam8.web.exchange import GZIP_LEVEL, Answer, Pairs

_NO_WEIGHT = ("q=0", "q=0.0", "q=0.00", "q=0.000")


class Sender:
    """Sends one response, with the extra headers added and compressed where asked."""

    def __init__(self, send: Send, extra: Pairs, compress: bool, packed: bool) -> None:
        self._send = send
        self._extra = extra
        self._compress = compress
        self._packed = packed
        self._held: Message | None = None
        self.status = 0

    async def send(self, message: Message) -> None:
        """What a response of the framework sends, or a stream."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            vary = [(b"vary", b"Accept-Encoding")] if self._compress else []
            message["headers"] = [*message.get("headers", ()), *self._extra, *vary]
            if self._packed and not _streams(message):
                self._held = message
                return
        elif self._held is not None and message["type"] == "http.response.body":
            start, self._held = self._held, None
            body = message.get("body", b"")
            if body and not message.get("more_body"):
                body = gzip.compress(body, GZIP_LEVEL, mtime=0)
                start["headers"] = [
                    *(pair for pair in start["headers"] if pair[0].lower() != b"content-length"),
                    (b"content-encoding", b"gzip"),
                    (b"content-length", str(len(body)).encode()),
                ]
                message = {**message, "body": body}
            await self._send(start)
        await self._send(message)

    async def whole(self, answer: Answer) -> None:
        self.status = answer.status
        form = answer.form(may_vary=self._compress, packed=self._packed)
        headers = [*form.pairs(), *self._extra]
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": form.body})


def _streams(start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in start["headers"]
    )


def wants_gzip(headers: Mapping[str, str]) -> bool:
    for element in headers.get("accept-encoding", "").split(","):
        coding, _, quality = element.partition(";")
        if coding.strip().lower() == "gzip":
            return quality.replace(" ", "") not in _NO_WEIGHT
    return False
