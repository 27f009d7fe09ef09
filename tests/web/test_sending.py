"""What is added to an answer on its way out by ASGI, and what is not compressed."""

import gzip

import pytest
from starlette.types import Message

from amalgam8.web.exchange import json_answer
from amalgam8.web.sending import Sender, wants_gzip

EXTRA = ((b"A8-Request-Id", b"1"),)


async def sent(messages: list[Message], *, compress: bool = True, packed: bool = True) -> list[Message]:
    found: list[Message] = []

    async def send(message: Message) -> None:
        found.append(message)

    sender = Sender(send, EXTRA, compress, packed)
    for message in messages:
        await sender.send(message)
    assert sender.status == 200
    return found


def start(kind: bytes, *more: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind), *more]}


async def test_a_body_is_packed_and_its_length_told_anew() -> None:
    body = {"type": "http.response.body", "body": b"x" * 100}
    first, second = await sent([start(b"application/json", (b"Content-Length", b"100")), body])
    headers = dict(first["headers"])
    assert gzip.decompress(second["body"]) == b"x" * 100
    assert (headers[b"content-encoding"], headers[b"A8-Request-Id"]) == (b"gzip", b"1")
    assert headers[b"content-length"] == str(len(second["body"])).encode()
    assert b"Content-Length" not in headers


async def test_a_stream_goes_out_as_it_comes() -> None:
    messages = [
        start(b"text/event-stream; charset=utf-8"),
        {"type": "http.response.body", "body": b"a", "more_body": True},
    ]
    first, second = await sent(messages)
    assert b"content-encoding" not in dict(first["headers"])
    assert second["body"] == b"a"


async def test_a_whole_answer_has_the_same_fields() -> None:
    found: list[Message] = []

    async def send(message: Message) -> None:
        found.append(message)

    sender = Sender(send, EXTRA, True, False)
    await sender.whole(json_answer({"a": 1}, 201))
    assert (sender.status, found[0]["status"], found[1]["body"]) == (201, 201, b'{"a":1}')
    assert dict(found[0]["headers"])[b"A8-Request-Id"] == b"1"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("gzip", True),
        ("br, GZIP", True),
        ("gzip;q=0.1", True),
        ("gzip; q=0", False),
        ("br", False),
        ("", False),
    ],
)
def test_who_wants_gzip(accept: str, wanted: bool) -> None:
    assert wants_gzip({"accept-encoding": accept}) is wanted
