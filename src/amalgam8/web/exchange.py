"""A whole request and its whole answer, as the routes take and give them that have no stream.

``Asked`` is all that a handler may know of a request, whichever way it came in. What an ``Answer`` looks
like as bytes, plain and compressed, is worked out when first needed and kept with it, so that one that is
handed out again and again costs nothing but its sending. Refuses to know connections.
"""

import functools
import gzip
import http
import secrets
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl

import msgspec

GZIP_LEVEL = 1
JSON = b"application/json; charset=utf-8"
STATUS_LINES = {
    one.value: b"HTTP/1.1 %d %b\r\n" % (one.value, one.phrase.encode()) for one in http.HTTPStatus
}
_UUID = "xxxxxxxx-xxxx-4xxx-axxx-xxxxxxxxxxxx"
_MADE_AT_ONCE = 256
_encode = msgspec.json.Encoder().encode

Pairs = tuple[tuple[bytes, bytes], ...]


class Asked(msgspec.Struct, gc=False, eq=False):
    """One request. Names in ``headers`` are lower-case; of a repeated one the first counts.

    ``raw_path`` is the path as it was sent, where that is not ``path``. ``parameter`` is what stands in the
    path where its route has a hole. ``tenant`` is set by ``web.auth``.
    """

    method: str
    path: str
    query: bytes
    headers: dict[str, str]
    scheme: str = "http"
    server: tuple[str, int | None] | None = None
    raw_path: bytes = b""
    body: bytes = b""
    id: str = ""
    parameter: str = ""
    tenant: str = ""

    def host(self) -> str:
        """What the client calls this server."""
        return self.headers.get("host") or "{}:{}".format(*(self.server or ("localhost", 0)))


class Answer(msgspec.Struct, eq=False):
    """What is sent back. ``headers`` are those beside type, length and coding.

    It is of one application, which compresses or does not: its forms are kept.
    """

    body: bytes = b""
    status: int = 200
    headers: Pairs = ()
    kind: bytes = JSON
    whole: "Form | None" = None
    packed: "Form | None" = None

    def form(self, *, may_vary: bool, packed: bool) -> "Form":
        """As it is sent. ``may_vary``: it could be compressed for others; ``packed``: it is for this one."""
        if packed and self.body:
            if self.packed is None:
                body = gzip.compress(self.body, GZIP_LEVEL, mtime=0)
                self.packed = Form(self, body, _fixed(self.status, self.kind, may_vary, True))
            return self.packed
        if self.whole is None:
            self.whole = Form(self, self.body, _fixed(self.status, self.kind, may_vary, False))
        return self.whole


class Form:
    """An answer's header and body. ``fixed``: as ``_fixed`` says."""

    __slots__ = ("_fixed", "_headers", "body", "head")

    def __init__(self, answer: Answer, body: bytes, fixed: tuple[Pairs, bytes]) -> None:
        self._fixed = fixed
        self._headers = answer.headers
        self.body = body
        self.head = b"%b%d\r\n%b" % (fixed[1], len(body), lines(answer.headers) if answer.headers else b"")
        """The status line and the header, without the empty line at its end."""

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """The header, field by field."""
        return [*self._fixed[0], (b"content-length", b"%d" % len(self.body)), *self._headers]


@functools.lru_cache(maxsize=256)
def _fixed(status: int, kind: bytes, may_vary: bool, packed: bool) -> tuple[Pairs, bytes]:
    """Fields that many answers have, and how HTTP/1.1 begins those answers, up to the length of the body."""
    made = [(b"content-type", kind)]
    if may_vary:
        made.append((b"vary", b"Accept-Encoding"))
    if packed:
        made.append((b"content-encoding", b"gzip"))
    return tuple(made), b"%b%bcontent-length: " % (STATUS_LINES[status], lines(made))


def lines(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Header fields as HTTP/1.1 has them."""
    return b"".join([b"%b: %b\r\n" % pair for pair in pairs])


def json_answer(value: Any, status: int = 200, headers: Pairs = ()) -> Answer:
    """An answer whose body is ``value`` as JSON, or no body for None; bytes are JSON already."""
    body = b"" if value is None else value if isinstance(value, bytes) else _encode(value)
    return Answer(body, status, headers)


def pairs(query: bytes) -> list[tuple[str, str]]:
    """The parameters in a query string, in the order in which they were sent."""
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True) if query else []


def request_ids() -> Iterator[str]:
    """Ids for requests that bring none: random UUIDs, many made at a time.

    A number that counts would be cheaper still, and tell each tenant how much the others ask.
    """
    places = [place for place, letter in enumerate(_UUID) if letter == "x"]
    made = bytearray(_UUID.encode() * _MADE_AT_ONCE)
    while True:
        digits = secrets.token_hex(len(places) * _MADE_AT_ONCE // 2).encode()
        for index, place in enumerate(places):
            made[place :: len(_UUID)] = digits[index :: len(places)]
        text = made.decode()
        for start in range(0, len(text), len(_UUID)):
            yield text[start : start + len(_UUID)]
