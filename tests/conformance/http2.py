"""A client for HTTP/2 without TLS: one connection, as many streams at a time as are asked for."""

import asyncio
import contextlib
from collections.abc import Iterable

import h2.config
import h2.connection
import h2.events

from tests.sidecar.envoy.support import LIMIT, Reply


class Broken(ConnectionError):
    """The stream was reset, or the connection went away before the answer was complete."""


class Http2Client:
    """Use it as a context manager; ``ask`` may be called by many tasks at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        config = h2.config.H2Configuration(client_side=True, header_encoding="latin1")
        self._state = h2.connection.H2Connection(config)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._parts: dict[int, Reply] = {}
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> "Http2Client":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._state.initiate_connection()
        self._flush()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def ask(
        self,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        method: str = "GET",
        authority: str = "mesh",
        body: bytes = b"",
    ) -> Reply:
        """The answer to a request, whose body (a short one) does not say its length.

        Raises:
            Broken: there was none, or not all of it.
        """
        stream = self._state.get_next_available_stream_id()
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[stream] = answer
        own = [(":method", method), (":path", path), (":scheme", "http"), (":authority", authority)]
        self._state.send_headers(stream, [*own, *headers], end_stream=not body)
        self._flush()
        if body:
            self._state.send_data(stream, body, end_stream=True)
            self._flush()
        async with asyncio.timeout(LIMIT):
            return await answer

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(65536):
                for event in self._state.receive_data(data):
                    self._take(event)
                self._flush()
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(Broken("the connection went away"))

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            found = {str(name): str(value) for name, value in event.headers}
            self._parts[event.stream_id] = Reply(int(found.pop(":status")), found, b"")
        elif isinstance(event, h2.events.DataReceived):
            self._parts[event.stream_id].body += event.data
            self._state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self._waiting.pop(event.stream_id).set_result(self._parts.pop(event.stream_id))
        elif isinstance(event, h2.events.StreamReset):
            self._waiting.pop(event.stream_id).set_exception(Broken(f"reset: {event.error_code}"))

    def _flush(self) -> None:
        self._writer.write(self._state.data_to_send())
