"""HTTP/1.1 on a connection: uvicorn's protocol, with patience that ends, and a short way for short requests.

A client has HEAD_WITHIN seconds and HEAD_LIMIT bytes for the head of a request and BODY_WITHIN seconds for
its body, else it is told so and cut off; one that takes no byte of its answer for UNREAD_FOR seconds is cut
off too. A request that the application answers at once is never made a task: it is answered as its last byte
comes, unless an earlier one is unanswered or unread; short answers are sent once all that came with it was
answered too. All else is uvicorn's. Refuses to know routes.
"""

import asyncio
import math
import re
from typing import Any, Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from amalgam8.web.exchange import STATUS_LINES, Asked, lines
from amalgam8.web.plain import Found

HEAD_WITHIN = 10.0
BODY_WITHIN = 20.0
HEAD_LIMIT = 64 * 1024
UNREAD_FOR = 30.0
LINGER = 1.0
"""Seconds for which a client that was cut off may go on sending, unheard: closed at once, it would be reset
and lose the answer that tells it why."""
IN_A_ROW = 64
"""Requests of one client that are answered at once, before others have their turn."""
HELD_UP_TO = 4096
"""Bytes of an answer that is held until all that is there was heard. Each client that waits has to be woken,
which takes as long as a short answer: woken once, it finds many."""

LONGER = frozenset({"transfer-encoding", "expect", "upgrade", "proxy-connection"})
"""Headers of requests that are left to uvicorn."""

_PLAIN = re.compile(rb"(/[!-\"$&->@-~]*)(?:\?([!-\"$-~]*))?")
"""A path without escapes, and what is asked."""


class AnswersAtOnce(Protocol):
    """An application that need not wait for some requests; ``web.app.Api`` is one."""

    def at_once(self, method: str, path: str, announced: int) -> Found | None:
        """The route, if the request can be answered so; ``announced`` bytes of body follow."""

    def answer(self, found: Found, asked: Asked) -> tuple[bytes, bytes]:
        """Head, without its empty line, and body."""


NONE, HEAD, BODY = range(3)
"""Which part of a request is expected next; NONE: a client is between two requests."""


class PatientHttp(HttpToolsProtocol):
    """``quick`` answers what it can; the application in uvicorn's configuration does the rest."""

    # With these in its dictionary as well it would have more than Python finds by their place (30).
    __slots__ = (
        "_always",
        "_asked",
        "_cut_off",
        "_deadline",
        "_found",
        "_head_bytes",
        "_heard",
        "_held",
        "_in_a_row",
        "_leaving",
        "_most",
        "_quick",
        "_stage",
        "_unread",
    )

    def __init__(self, *arguments: Any, quick: AnswersAtOnce | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._quick = quick
        self._found: Found | None = None
        self._asked: Asked | None = None
        self._always: tuple[object, bytes] = (None, b"")
        self._held = b""
        self._most = self.limit_concurrency or math.inf
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._stage = HEAD
        self._heard = 0.0
        self._in_a_row = 0
        self._leaving = False
        self._cut_off = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of TCP
        super().connection_made(transport)
        # Whatever the client has not taken counts as unread. With TLS the limit itself is one too much.
        transport.set_write_buffer_limits(high=1 if self.scheme == "https" else 0)
        if self.scheme == "https":
            self._quick = None  # what is written at once is not seen to be unread
        self._expect_within(HEAD_WITHIN)

    def eof_received(self) -> None:
        self._send_held()  # as the transport closes itself now

    def connection_lost(self, exc: Exception | None) -> None:
        self._held = b""
        self._expect_within(None)
        self._await_reading(None)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reading(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._await_reading(None)
        super().resume_writing()

    def _await_reading(self, unread: int | None) -> None:
        """Look again in UNREAD_FOR seconds whether some of these ``unread`` bytes were taken."""
        if self._unread is not None:
            self._unread.cancel()
        self._unread = (
            None if unread is None else self.loop.call_later(UNREAD_FOR, self._cut_unless_read, unread)
        )

    def _cut_unless_read(self, unread: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left >= unread:
            self.transport.abort()
        else:
            self._await_reading(left)

    def data_received(self, data: bytes) -> None:
        if self._cut_off:
            return
        self._heard = self.loop.time()
        self._in_a_row = 0
        if self._stage != BODY:
            self._stage = HEAD
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT + len(data):
                self._cut(431, f"the head is larger than the limit of {HEAD_LIMIT} bytes")
                return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # to nothing that is known here: it is answered as if it had not been asked for
        except httptools.HttpParserError:
            self._send_held()
            self.send_400_response("Invalid HTTP request received.")
            return
        # Most requests come in one piece, and no clock was ever set for them.
        if self._stage == NONE:
            if self.timeout_keep_alive_task is None and not self._is_busy():
                self._close_when_idle(self.timeout_keep_alive)
        elif self._deadline is None:
            self._expect_within(HEAD_WITHIN if self._stage == HEAD else BODY_WITHIN)

    def on_message_begin(self) -> None:
        self._stage = HEAD
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._stage, self._head_bytes = BODY, 0
        if self._deadline is not None:
            self._expect_within(None)
        if not self._takes():
            self._leave_to_uvicorn()

    def on_body(self, body: bytes) -> None:
        if self._asked is None:
            super().on_body(body)
        else:
            self._asked.body += body

    def on_message_complete(self) -> None:
        self._stage = NONE
        if self._deadline is not None:
            self._expect_within(None)
        if self._asked is None:
            super().on_message_complete()
        else:
            self._answer()

    def _takes(self) -> bool:
        """Whether the request that begins is one that is answered at once; if so, it is noted."""
        if self._held:
            self._send_held()  # else it would not be known whether the earlier answers are read
        url = _PLAIN.fullmatch(self.url)
        if (
            url is None
            or self._quick is None
            or self._is_busy()
            or self.flow.write_paused
            or self._in_a_row >= IN_A_ROW
            or len(self.connections) >= self._most
            or not self.parser.should_keep_alive()
        ):
            return False
        # From the last to the first, so that of a repeated one the first stays.
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(self.headers)}
        if not LONGER.isdisjoint(headers):
            return False
        # Older versions keep a connection only where that is asked for.
        if "connection" in headers and self.parser.get_http_version() != "1.1":
            return False
        method, path = self.parser.get_method().decode(), url[1].decode()
        self._found = self._quick.at_once(method, path, int(headers.get("content-length", 0)))
        if self._found is None:
            return False
        self._asked = Asked(method, path, url[2] or b"", headers, "http", self.server)
        return True

    def _answer(self) -> None:
        asked, found, quick = self._asked, self._found, self._quick
        self._asked = self._found = None
        if asked is None or found is None or quick is None:
            return
        head, body = quick.answer(found, asked)
        state = self.server_state
        state.total_requests += 1
        self._in_a_row += 1
        if self._always[0] is not state.default_headers:  # they are others each second: there is the date
            self._always = (state.default_headers, lines(state.default_headers) + b"\r\n")
        self._held = b"%b%b%b" % (head, self._always[1], body)
        if self._leaving:
            self._send_held()
            self.transport.close()
        elif len(self._held) > HELD_UP_TO:
            self._send_held()
        else:
            self.loop.call_soon(self._send_held)

    def _send_held(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self.transport.write(held)

    def _leave_to_uvicorn(self) -> None:
        """Let it begin with the request, as if it had heard of it from its first byte on."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        if url[:8].lower() == b"https://":  # a proxy that took the TLS off may ask like this
            self.scope["scheme"] = "https"
        super().on_headers_complete()

    def shutdown(self) -> None:
        """The server ends: answer what has begun, and take nothing more."""
        self._send_held()
        if self._asked is None:
            super().shutdown()
        else:
            self._leaving = True

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _close_when_idle(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was idle for long enough; else look again when it may have been."""
        self.timeout_keep_alive_task = None
        left = self.timeout_keep_alive - (self.loop.time() - self._heard)
        if self._stage != NONE or self._is_busy():
            self._close_when_idle(self.timeout_keep_alive)
        elif left > 0:
            self._close_when_idle(left)
        elif not self.transport.is_closing():
            self.transport.close()

    def _expect_within(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        self._deadline = None
        self._cut(408, "the request did not arrive in time")

    def _cut(self, status: int, text: str) -> None:
        self._expect_within(None)
        transport: Any = self.transport
        if transport.is_closing() or self._cut_off:
            return
        self._cut_off = True
        self._send_held()
        if self._owes_an_answer():
            body = f'{{"Error":"{text}","error":"{text}"}}'
            head = f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
            transport.write(STATUS_LINES[status] + f"{head}\r\n{body}".encode())
            if transport.can_write_eof():
                transport.write_eof()
                self.loop.call_later(LINGER, transport.close)
                return
        transport.close()

    def _owes_an_answer(self) -> bool:
        """Whether the request that is cut can be told why: it has begun, and no answer is under way."""
        if self._stage != BODY:
            return self._head_bytes > 0 and not self._is_busy()
        if self._asked is not None:
            return True
        return not self.cycle.response_started and not self.pipeline
