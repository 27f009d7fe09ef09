"""Follows a watch stream for ever: reopens it when it breaks or falls silent, and resumes where it was.

The reader gets decoded events and hears of lost connections; between attempts there is a jittered pause
that grows to BACKOFF_LIMIT. Refuses to interpret: what an event means is the reader's to know.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from amalgam8.clients.http import Http, Query, Refusal
from amalgam8.clients.sse import Parser, Received
from amalgam8.model.errors import A8Error, BadAnswer, Unavailable
from amalgam8.model.stream import PROTOCOL, Hello, check_protocol

SILENCE = 15.0
BACKOFF_START = 0.1
BACKOFF_LIMIT = 5.0
STEADY = 1.0
"""Seconds that a stream must have lasted for the pauses to start small again."""

S = TypeVar("S")
D = TypeVar("D")


class Lost(msgspec.Struct, frozen=True):
    """The stream ended; it will be reopened after ``retry_in`` seconds."""

    error: A8Error
    retry_in: float


class Watch(Generic[S, D]):
    """A stream of ``Hello``, snapshots of type S and deltas of type D, with ``Lost`` in between."""

    def __init__(
        self,
        http: Http,
        path: str,
        query: Query,
        snapshot: type[S],
        delta: type[D],
        they: str,
        more: Mapping[str, type[Any]] | None = None,
    ) -> None:
        """``more``: other events that the stream may have, by name."""
        self._http = http
        self._path = path
        self._query = [*query, ("protocol", str(PROTOCOL))]
        self._types: Mapping[str, type[Any]] = {
            "hello": Hello,
            "snapshot": snapshot,
            "delta": delta,
            **(more or {}),
        }
        self._they = they
        self.last_id = ""
        """Where the stream would be resumed; clear it to be given a snapshot."""

    async def events(self) -> AsyncGenerator[Hello | S | D | Lost, None]:
        """Yield events until the iterator is closed; never ends by itself."""
        pause = BACKOFF_START
        clock = asyncio.get_running_loop().time
        while True:
            opened = clock()
            try:
                async with contextlib.aclosing(self._once()) as events:
                    async for event in events:
                        yield event
                error: A8Error = Unavailable(f"{self._http.url} ended the stream")
            except (Unavailable, Refusal) as problem:
                error = problem
            if clock() - opened >= STEADY:
                pause = BACKOFF_START
            retry_in = pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads reconnects, keeps no secret
            pause = min(pause * 2, BACKOFF_LIMIT)
            yield Lost(error, retry_in)
            await asyncio.sleep(retry_in)

    async def _once(self) -> AsyncGenerator[Hello | S | D, None]:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        parser = Parser()
        async with self._http.stream(
            self._path, query=self._query, headers=headers, silence=SILENCE
        ) as chunks:
            async for chunk in chunks:
                for received in parser.feed(chunk):
                    if (event := self._decode(received)) is not None:
                        yield event

    def _decode(self, received: Received) -> Any:
        kind = self._types.get(received.name)
        if kind is None:
            return None  # an event that only newer readers know
        try:
            event = msgspec.json.decode(received.data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadAnswer(f"{self._they}: an unreadable {received.name} event: {error}") from None
        if isinstance(event, Hello):
            check_protocol(event.protocol, they=self._they, we="this program")
        if received.id:
            self.last_id = received.id
        return event
