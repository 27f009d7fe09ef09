"""An ASGI application around a table of routes: ids, limits, content types, errors, compression.

What each API would otherwise repeat stands here: a request id in every answer, a bound on the body, 415
for anything but JSON, errors in the API's own style, gzip where asked for, and a record of each request
for metrics. Handlers take a Starlette Request, raise A8Errors and return Responses. Refuses to know any
route of its own.
"""

import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Message, Receive, Scope, Send

from amalgam8.model.errors import A8Error, BodyTooLarge
from amalgam8.runtime.logs import Log
from amalgam8.web.errors import CODES, ErrorStyle, status_of
from amalgam8.web.exchange import Answer, Asked, Pairs, json_answer, request_ids
from amalgam8.web.plain import Found, Handler, PlainRoute, PlainTable
from amalgam8.web.sending import Sender, wants_gzip
from amalgam8.web.tls import is_secure

_JSON = frozenset({"application/json"})
_JSON_OR_XML = _JSON | {"application/xml", "text/xml"}
METHODS = frozenset({"GET", "POST", "PUT", "DELETE"})
_PRINTABLE = re.compile(r"[\x21-\x7e]{1,128}")

# RFC 6750: what is wrong with a token is told only to those who sent one.
_CHALLENGE = 'Bearer realm="amalgam8"'
_CHALLENGES = {
    "auth_not_authorized": f'{_CHALLENGE}, error="invalid_token"',
    "auth_header_malformed": f'{_CHALLENGE}, error="invalid_request"',
}

_log = Log("web")


class Served(msgspec.Struct, frozen=True, gc=False):
    """One answered request, for metrics; ``route`` is the path of the table, never the path asked for.

    ``tenant`` is empty where the request was refused before, or has none.
    """

    method: str
    route: str
    status: int
    seconds: float
    tenant: str = ""


class Api:
    """The application. ``id_headers`` carry the request id in answers; the first is read from requests.

    ``larger_bodies`` are limits of single paths, where they are not ``body_limit``.
    Requests for paths that begin with one of ``https_only`` are sent to https where they are not secure;
    bodies may be XML where they begin with one of ``xml_at``.
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        *,
        style: ErrorStyle,
        body_limit: int,
        larger_bodies: Mapping[str, int] | None = None,
        id_headers: Sequence[str] = ("A8-Request-Id",),
        compress: bool = False,
        https_only: tuple[str, ...] = (),
        xml_at: tuple[str, ...] = (),
        served: Callable[[Served], None] | None = None,
    ) -> None:
        self.routes = tuple(routes)
        self._plain = PlainTable(routes)
        self._router = Router(routes, redirect_slashes=False)
        self._style = style
        self._body_limit = body_limit
        self._larger_bodies = larger_bodies or {}
        self._id_header = id_headers[0].lower()
        self._id_headers = tuple(header.encode() for header in id_headers)
        self._id_lines = b"".join(header + b": %b\r\n" for header in self._id_headers)
        self._ids = request_ids()
        self._compress = compress
        self._https_only = https_only
        self._xml_at = xml_at
        self._served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        if scope["method"] not in METHODS:
            # Starlette answers HEAD wherever GET is; here every other method is a 405 on known paths. The
            # server below looks at its own scope to see that HEAD gets no body: change a copy.
            scope = {**scope, "method": "UNSUPPORTED"}
        asked = _asked(scope)
        self._name(asked)
        scope.setdefault("state", {})["request_id"] = asked.id
        sender = Sender(send, self._id_pairs(asked), self._compress, self._packs(asked))
        found = self._plain.find(asked.method, asked.path)
        try:
            if self._must_move(asked):
                await sender.whole(_moved(asked))
            elif found is not None:
                asked.body = await self._body(asked, receive)
                await sender.whole(await self._handler(found, asked)(asked))
            else:
                await self._framework(scope, asked, receive, sender)
        except _ClientGone:
            return
        except Exception as error:
            if sender.status:  # the answer has begun: all that is left is to cut it
                raise ConnectionAbortedError(str(error)) from error
            await sender.whole(self._refusal(error, asked, _path(found[0] if found else scope.get("route"))))
        if self._served is not None:
            path = _path(found[0] if found else scope.get("route"))
            tenant = asked.tenant or scope["state"].get("tenant", "")
            seconds = time.perf_counter() - started
            self._served(Served(scope["method"], path, sender.status, seconds, tenant))

    def at_once(self, method: str, path: str, announced: int) -> Found | None:
        """The route of a request that can be answered at once, with a body of so many bytes."""
        found = self._plain.find(method, path)
        if found is None or found[0].waits or announced > self._larger_bodies.get(path, self._body_limit):
            return None
        return found

    def answer(self, found: Found, asked: Asked) -> tuple[bytes, bytes]:
        """The head (without its empty line) and the body of the answer to a request that ``at_once`` took."""
        started = time.perf_counter()
        self._name(asked)
        try:
            if self._https_only and self._must_move(asked):
                reply = _moved(asked)
            else:
                reply = _driven(self._handler(found, asked)(asked))
        except Exception as error:
            reply = self._refusal(error, asked, found[0].path)
        packed = "accept-encoding" in asked.headers and self._packs(asked)
        form = reply.form(may_vary=self._compress, packed=packed)
        if self._served is not None:
            seconds = time.perf_counter() - started
            self._served(Served(asked.method, found[0].path, reply.status, seconds, asked.tenant))
        return form.head + self._id_lines % ((asked.id.encode(),) * len(self._id_headers)), form.body

    def _handler(self, found: Found, asked: Asked) -> Handler:
        """Who answers, once it is known that he can."""
        if asked.body and not self._is_readable(asked):
            raise HTTPException(415)
        route, asked.parameter = found
        return route.handler

    async def _framework(self, scope: Scope, asked: Asked, receive: Receive, sender: Sender) -> None:
        """Hand the request to Starlette's routes."""
        body = await self._body(asked, receive)
        if body and not self._is_readable(asked):
            raise HTTPException(415)
        scope["app"] = self  # else Starlette answers 404 and 405 itself, in plain text
        await self._router(scope, _once(body, receive), sender.send)

    def _name(self, asked: Asked) -> None:
        given = asked.headers.get(self._id_header)
        asked.id = given if given is not None and _PRINTABLE.fullmatch(given) else next(self._ids)

    def _packs(self, asked: Asked) -> bool:
        return self._compress and wants_gzip(asked.headers)

    def _must_move(self, asked: Asked) -> bool:
        return asked.path.startswith(self._https_only) and not is_secure(asked.scheme, asked.headers)

    def _id_pairs(self, asked: Asked) -> Pairs:
        return tuple((header, asked.id.encode()) for header in self._id_headers)

    def _allowed(self, path: str) -> str:
        """The methods that some route takes at this path."""
        found = [
            route.methods or {"GET"}
            for route in self.routes
            if isinstance(route, (Route, PlainRoute)) and route.path_regex.match(path)
        ]
        return ", ".join(sorted(set[str]().union(*found) & METHODS))

    def _refusal(self, error: Exception, asked: Asked, route: str) -> Answer:
        """The answer that says why there is no other; ``route`` is the path of the table."""
        members: Mapping[str, Any] = {}
        headers: dict[str, str] = {}
        if isinstance(error, A8Error):
            status, code, text = status_of(error), error.code, str(error)
            headers, members = dict(error.headers), error.members
            if status == 401:
                headers["WWW-Authenticate"] = _CHALLENGES.get(code, _CHALLENGE)
        elif isinstance(error, HTTPException):
            status, code = error.status_code, CODES.get(error.status_code, "refused")
            text = _sentence(error, asked.path)
            if status == 405:
                headers["Allow"] = self._allowed(asked.path)
        else:
            # Not the path itself: Eureka's holds a token.
            _log.error("a request failed", exc_info=error, route=route, request_id=asked.id)
            status, code, text = 500, "internal", "Internal Server Error"
        body: dict[str, Any] = {**self._style(code, text, asked.id), **members}
        pairs = tuple((name.encode(), value.encode("latin-1")) for name, value in headers.items())
        return json_answer(body, status, pairs)

    def _is_readable(self, asked: Asked) -> bool:
        """Whether the body is of a type that is taken here."""
        kind = asked.headers.get("content-type", "")
        if kind == "application/json":
            return True
        return _is_one_of(_JSON_OR_XML if asked.path.startswith(self._xml_at) else _JSON, kind)

    async def _body(self, asked: Asked, receive: Receive) -> bytes:
        """The whole body, within the limit."""
        limit = self._larger_bodies.get(asked.path, self._body_limit)
        announced = asked.headers.get("content-length", "0")
        too_large = BodyTooLarge(f"the body is larger than the limit of {limit} bytes")
        if announced.isdigit() and int(announced) > limit:
            raise too_large
        if announced == "0" and "transfer-encoding" not in asked.headers:
            return b""
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise too_large
            chunks.append(chunk)
            if not message.get("more_body"):
                break
        return b"".join(chunks)


class _ClientGone(Exception):
    """The client went away before its request was complete: there is nobody to answer."""


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response whose body is ``value`` as JSON, or no body for None."""
    body = b"" if value is None else value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Response(body, status, headers, media_type="application/json; charset=utf-8")


def _asked(scope: Scope) -> Asked:
    # From the last to the first, so that of a repeated one the first stays.
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
    return Asked(
        scope["method"],
        scope["path"],
        scope["query_string"],
        headers,
        scheme=scope["scheme"],
        server=scope["server"],
        raw_path=scope.get("raw_path") or b"",
    )


def _driven(handled: Coroutine[Any, Any, Answer]) -> Answer:
    """What a coroutine returns that does not wait for anything."""
    try:
        handled.send(None)
    except StopIteration as done:
        answer: Answer = done.value
        return answer
    handled.close()
    raise RuntimeError("a route that says it does not wait has waited")


def _moved(asked: Asked) -> Answer:
    """To the same place by https."""
    query = b"?" + asked.query if asked.query else b""
    location = f"https://{asked.host()}{((asked.raw_path or asked.path.encode()) + query).decode('latin-1')}"
    return Answer(b"", 301, ((b"location", location.encode("latin-1")),))


def request_id_of(request: Request) -> str:
    """The id that the answer to this request carries."""
    return str(request.state.request_id)


def _is_one_of(kinds: frozenset[str], content_type: str) -> bool:
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = [
        part.removeprefix("charset=").strip('"') for part in parameters if part.startswith("charset=")
    ]
    return kind in kinds and all(charset in ("utf-8", "utf8") for charset in charsets)


def _once(body: bytes, receive: Receive) -> Receive:
    """Hand the body to the handler once; afterwards wait for the client to go away."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _sentence(error: HTTPException, path: str) -> str:
    return {
        404: f"there is nothing at {path}",
        405: f"{path} does not take this method",
        415: "the body must be application/json in UTF-8: set the header Content-Type",
    }.get(error.status_code, str(error.detail))


def _path(route: object) -> str:
    """The path of the table, never the path asked for."""
    return str(getattr(route, "path", "other"))
