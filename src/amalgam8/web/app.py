"""An ASGI application around a table of routes: ids, limits, content types, errors, compression.

What each API would otherwise repeat stands here: a request id in every answer, a bound on the body, 415
for anything but JSON, errors in the API's own style, gzip where asked for, and a record of each request
for metrics. Handlers take a Starlette Request, raise A8Errors and return Responses. Refuses to know any
route of its own.
"""

import gzip
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
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
from amalgam8.web.tls import is_secure

GZIP_LEVEL = 1
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


class Served(msgspec.Struct, frozen=True):
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
        self._router = Router(routes, redirect_slashes=False)
        self._style = style
        self._body_limit = body_limit
        self._larger_bodies = larger_bodies or {}
        self._id_headers = tuple(header.encode() for header in id_headers)
        self._compress = compress
        self._https_only = https_only
        self._xml_at = xml_at
        self._served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(self._id_headers[0].lower(), "")
        request_id = given if _PRINTABLE.fullmatch(given) else str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, self._extra_headers(request_id), self._compress and _wants_gzip(headers))
        try:
            if self._must_move(scope, headers):
                await answer.whole(_moved(scope, headers))
            else:
                body = await self._body(scope["path"], headers, receive)
                if scope["method"] not in METHODS:
                    # Starlette answers HEAD wherever GET is; here every other method is a 405 on known
                    # paths. The server below looks at its own scope to see that HEAD gets no body: change
                    # a copy.
                    scope = {**scope, "method": "UNSUPPORTED"}
                scope["app"] = self  # else Starlette answers 404 and 405 itself, in plain text
                await self._router(scope, _once(body, receive), answer.send)
        except _ClientGone:
            return
        except A8Error as error:
            await self._refuse(
                answer,
                status_of(error),
                error.code,
                str(error),
                request_id,
                dict(error.headers),
                error.members,
            )
        except HTTPException as error:
            code = CODES.get(error.status_code, "refused")
            allow = {"Allow": self._allowed(scope["path"])} if error.status_code == 405 else None
            await self._refuse(answer, error.status_code, code, _sentence(error, scope), request_id, allow)
        except Exception as error:
            # Not the path itself: Eureka's holds a token.
            route = getattr(scope.get("route"), "path", "other")
            _log.error("a request failed", exc_info=error, route=route, request_id=request_id)
            await self._refuse(answer, 500, "internal", "Internal Server Error", request_id)
        if self._served is not None:
            route = scope.get("route")
            path = getattr(route, "path", "other")
            tenant = scope["state"].get("tenant", "")
            self._served(Served(scope["method"], path, answer.status, time.perf_counter() - started, tenant))

    def _must_move(self, scope: Scope, headers: dict[bytes, str]) -> bool:
        if not scope["path"].startswith(self._https_only):
            return False
        return not is_secure(
            scope["scheme"], {name.decode("latin-1"): text for name, text in headers.items()}
        )

    def _extra_headers(self, request_id: str) -> list[tuple[bytes, bytes]]:
        extra = [(header, request_id.encode()) for header in self._id_headers]
        return [*extra, (b"vary", b"Accept-Encoding")] if self._compress else extra

    def _allowed(self, path: str) -> str:
        """The methods that some route takes at this path."""
        found = [
            route.methods or {"GET"}
            for route in self.routes
            if isinstance(route, Route) and route.path_regex.match(path)
        ]
        return ", ".join(sorted(set().union(*found) & METHODS))

    async def _refuse(
        self,
        answer: "_Answer",
        status: int,
        code: str,
        text: str,
        request_id: str,
        headers: dict[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        if answer.status:  # the answer has begun: all that is left is to cut it
            raise ConnectionAbortedError(text)
        if status == 401:
            headers = {**(headers or {}), "WWW-Authenticate": _CHALLENGES.get(code, _CHALLENGE)}
        body: dict[str, Any] = {**self._style(code, text, request_id), **(members or {})}
        await answer.whole(json_response(body, status, headers))

    async def _body(self, path: str, headers: dict[bytes, str], receive: Receive) -> bytes:
        """The whole body, within the limit and of the right type."""
        limit = self._larger_bodies.get(path, self._body_limit)
        announced = headers.get(b"content-length", "0")
        too_large = BodyTooLarge(f"the body is larger than the limit of {limit} bytes")
        if announced.isdigit() and int(announced) > limit:
            raise too_large
        if announced == "0" and b"transfer-encoding" not in headers:
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
        kinds = _JSON_OR_XML if path.startswith(self._xml_at) else _JSON
        if size and not _is_one_of(kinds, headers.get(b"content-type", "")):
            raise HTTPException(415)
        return b"".join(chunks)


class _ClientGone(Exception):
    """The client went away before its request was complete: there is nobody to answer."""


class _Answer:
    """Sends one response, with the extra headers added and compressed where asked."""

    def __init__(self, send: Send, extra: list[tuple[bytes, bytes]], compress: bool) -> None:
        self._send = send
        self._extra = extra
        self._compress = compress
        self._held: Message | None = None
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._extra]
            if self._compress and not _streams(message):
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

    async def whole(self, response: Response) -> None:
        await self.send(
            {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        )
        await self.send({"type": "http.response.body", "body": response.body})


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response whose body is ``value`` as JSON, or no body for None."""
    body = b"" if value is None else value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Response(body, status, headers, media_type="application/json; charset=utf-8")


def _moved(scope: Scope, headers: dict[bytes, str]) -> Response:
    """To the same place by https."""
    host = headers.get(b"host") or "{}:{}".format(*scope["server"])
    path = scope.get("raw_path") or scope["path"].encode()
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    location = f"https://{host}{(path + query).decode('latin-1')}"
    return Response(b"", 301, {"location": location}, media_type="application/json; charset=utf-8")


def request_id_of(request: Request) -> str:
    """The id that the answer to this request carries."""
    return str(request.state.request_id)


def _streams(start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in start["headers"]
    )


def _wants_gzip(headers: dict[bytes, str]) -> bool:
    for element in headers.get(b"accept-encoding", "").split(","):
        coding, _, quality = element.partition(";")
        if coding.strip().lower() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


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


def _sentence(error: HTTPException, scope: Scope) -> str:
    path = scope["path"]
    return {
        404: f"there is nothing at {path}",
        405: f"{path} does not take this method",
        415: "the body must be application/json in UTF-8: set the header Content-Type",
    }.get(error.status_code, str(error.detail))
