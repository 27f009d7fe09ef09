"""One HTTP connection pool to one server, with every failure as one of our errors.

A thin layer over httpcore: base URL, bearer token, JSON, a time limit on everything. Refuses to retry:
whether a request may be repeated is its sender's to know.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import httpcore
import msgspec

from amalgam8.model.errors import A8Error, BadAnswer, Unreachable

ANSWER_LIMIT = 256 * 1024 * 1024
TIMEOUT = 30.0

Query = Sequence[tuple[str, str]]


class Answer(msgspec.Struct, frozen=True):
    """A whole response; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body.

        Raises:
            BadAnswer: no JSON.
        """
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadAnswer(f"an answer with status {self.status} is not JSON") from None


class Refusal(A8Error):
    """The server understood and refused: ``status``, its ``reason`` and its stable ``kind``."""

    code = "refusal"

    def __init__(self, status: int, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.kind = kind


class Http:
    """Requests to the server at ``url``; ``token`` is sent as ``Authorization: Bearer``.

    ``tls`` says whom to trust where the system's authorities will not do; ``headers`` go with each request;
    ``name`` stands for the server in errors, where the URL holds a secret.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        timeout: float = TIMEOUT,
        connections: int = 8,
        tls: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        name: str = "",
    ) -> None:
        self.url = url.rstrip("/")
        self._name = name or self.url
        self._timeout = timeout
        self._headers = {
            "Accept": "application/json",
            **({"Authorization": f"Bearer {token}"} if token else {}),
            **(headers or {}),
        }
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=(tls or ssl.create_default_context()) if url.startswith("https:") else None,
            max_connections=connections,
            keepalive_expiry=60.0,
        )

    async def close(self) -> None:
        await self._pool.aclose()

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        expect: Sequence[int] = (),
        timeout: float | None = None,
    ) -> Answer:
        """Send one request; ``body`` is bytes of JSON or a value to be made JSON.

        Raises:
            Unreachable: no answer: refused, cut off or too late.
            BadAnswer: the answer is larger than ANSWER_LIMIT bytes.
            Refusal: a status of 400 or above that is not in ``expect``.
        """
        limit = timeout or self._timeout
        content = None if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        sent = self._sent(
            {**({"Content-Type": "application/json"} if content is not None else {}), **(headers or {})}
        )
        try:
            async with (
                asyncio.timeout(limit),
                self._pool.stream(
                    method,
                    self._target(path, query),
                    headers=sent,
                    content=content,
                    extensions=_times(limit),
                ) as response,
            ):
                whole = bytearray()
                async for chunk in response.aiter_stream():
                    whole += chunk
                    if len(whole) > ANSWER_LIMIT:
                        raise BadAnswer(f"{self._name} answered more than {ANSWER_LIMIT} bytes")
        except (httpcore.TimeoutException, TimeoutError):
            raise Unreachable(f"{self._name} did not answer within {limit:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise Unreachable(f"{self._name} cannot be reached: {_words(error)}") from None
        answer = Answer(response.status, _lower(response.headers), bytes(whole))
        if answer.status >= 400 and answer.status not in expect:
            raise refusal(answer)
        return answer

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, *, query: Query = (), headers: Mapping[str, str] | None = None, silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a response that goes on, and yield its chunks; ``silence`` seconds without one end it.

        Raises:
            Unreachable: cut off or silent for too long.
            Refusal: the server answered with a status of 400 or above.
        """
        sent = self._sent({"Accept": "text/event-stream", **(headers or {})})
        try:
            async with self._pool.stream(
                "GET", self._target(path, query), headers=sent, extensions=_times(silence)
            ) as response:
                if response.status >= 400:
                    async with asyncio.timeout(self._timeout):
                        body = await response.aread()
                    raise refusal(Answer(response.status, _lower(response.headers), body))
                yield response.aiter_stream()
        except (httpcore.TimeoutException, TimeoutError):
            raise Unreachable(f"{self._name} was silent for {silence:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise Unreachable(f"{self._name} cannot be reached: {_words(error)}") from None

    def _sent(self, headers: Mapping[str, str]) -> list[tuple[bytes | str, bytes | str]]:
        # Bytes, since text beyond ASCII is sent as it is: UTF-8, which our servers read.
        return [(name.encode(), value.encode()) for name, value in {**self._headers, **headers}.items()]

    def _target(self, path: str, query: Query) -> str:
        return self.url + path + (f"?{urlencode(query)}" if query else "")


def segment(text: str) -> str:
    """A text as one segment of a path."""
    return quote(text, safe="")


def refusal(answer: Answer) -> Refusal:
    """The error body of either API as an error."""
    try:
        found = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    members: dict[str, Any] = found if isinstance(found, dict) else {}
    reason = (
        members.get("description")
        or members.get("Error")
        or f"the server answered with status {answer.status}"
    )
    return Refusal(answer.status, str(reason), str(members.get("code", "")))


def _times(limit: float) -> dict[str, Any]:
    return {"timeout": {"connect": min(limit, 5.0), "read": limit, "write": limit, "pool": limit}}


def _lower(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
