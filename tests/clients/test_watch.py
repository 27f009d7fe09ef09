"""Watch streams over real sockets: resume, reconnect, silence, other protocols, nonsense."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from amalgam8.clients import watch as module
from amalgam8.clients.http import Http, Refusal
from amalgam8.clients.registry import RegistryClient
from amalgam8.clients.watch import Lost
from amalgam8.model.errors import BadAnswer, ProtocolMismatch, Unavailable, Unreachable
from amalgam8.model.stream import Hello, InstanceDelta, InstanceSnapshot
from amalgam8.web.app import Api
from amalgam8.web.errors import registry_style
from tests.conftest import free_port
from tests.wire import Instances, RegistryStandIn, instance, served

ONE, TWO = instance("reviews", 1), instance("reviews", 2)
HELLO = b'event: hello\ndata: {"epoch":"e","revision":1,"protocol":1}\n\n'


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_START", 0.001)
    monkeypatch.setattr(module, "BACKOFF_LIMIT", 0.01)


@contextlib.asynccontextmanager
async def watching(port: int) -> AsyncIterator[Any]:
    """The events, one at a time."""
    http = Http(f"http://127.0.0.1:{port}")
    async with contextlib.aclosing(RegistryClient(http).watch().events()) as events:

        async def following() -> Any:
            async with asyncio.timeout(10):
                return await anext(events)

        yield following
    await http.close()


def scripted(*answers: bytes | int) -> tuple[Api, list[str]]:
    """A server that gives these streams one after the other, or a status; and the resumes it saw."""
    left, resumes = list(answers), list[str]()

    async def watch(request: Request) -> StreamingResponse:
        resumes.append(request.headers.get("last-event-id", ""))
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, int):
            return StreamingResponse(iter([b'{"Error":"not now"}']), answer, media_type="application/json")
        return StreamingResponse(iter([answer]), media_type="text/event-stream")

    return Api([Route("/api/v1/instances/watch", watch)], style=registry_style, body_limit=0), resumes


async def test_hello_snapshot_delta() -> None:
    registry = RegistryStandIn(Instances("e", [ONE]))
    async with served(registry.app) as port, watching(port) as following:
        assert await following() == Hello("e", 1, 1)
        assert await following() == InstanceSnapshot(1, (ONE,))
        registry.told.change(TWO, removed=[ONE])
        assert await following() == InstanceDelta(2, (TWO,), (ONE.id,))


async def test_it_resumes_after_what_it_has_seen() -> None:
    registry, port = RegistryStandIn(Instances("e", [ONE])), free_port()
    async with watching(port) as following:
        lost = await following()
        assert isinstance(lost, Lost)
        assert isinstance(lost.error, Unreachable)
        async with served(registry.app, port):
            while isinstance(event := await following(), Lost):
                pass
            assert event == Hello("e", 1, 1)
            assert await following() == InstanceSnapshot(1, (ONE,))
        registry.told.change(TWO)
        assert isinstance(await following(), Lost)
        async with served(registry.app, port):
            while isinstance(event := await following(), Lost):
                pass
            assert event == Hello("e", 2, 1)
            assert await following() == InstanceDelta(2, (TWO,))
        assert registry.resumed == ["", "e.1"]


async def test_a_stream_that_ends_is_opened_again() -> None:
    snapshot = b'event: snapshot\nid: e.7\ndata: {"revision":7,"instances":[]}\n\n'
    api, resumes = scripted(HELLO + snapshot, HELLO)
    async with served(api) as port, watching(port) as following:
        events = [await following() for _ in range(4)]
        assert [type(event) for event in events] == [Hello, InstanceSnapshot, Lost, Hello]
        assert isinstance(events[2].error, Unavailable)
        assert resumes == ["", "e.7"]


async def test_silence_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.05)
    registry = RegistryStandIn(Instances("e", [ONE]))
    async with served(registry.app) as port, watching(port) as following:
        events = [await following() for _ in range(4)]
        assert [type(event) for event in events] == [Hello, InstanceSnapshot, Lost, Hello]
        assert "was silent for" in str(events[2].error)


async def test_a_refusal_is_a_loss_with_its_reason() -> None:
    api, _ = scripted(503, HELLO)
    async with served(api) as port, watching(port) as following:
        lost = await following()
        assert isinstance(lost.error, Refusal)
        assert lost.error.reason == "not now"
        assert isinstance(await following(), Hello)


@pytest.mark.parametrize(
    ("protocol", "words"),
    [(0, "the registry is older, upgrade it"), (2, "this program is older, upgrade it")],
)
async def test_another_protocol_says_who_is_older(protocol: int, words: str) -> None:
    api, _ = scripted(HELLO.replace(b'"protocol":1', b'"protocol":%d' % protocol))
    async with served(api) as port, watching(port) as following:
        with pytest.raises(ProtocolMismatch, match=words):
            await following()


@pytest.mark.parametrize("data", [b"{", b'{"revision":"x"}', b"\xff"])
async def test_nonsense_is_a_loss(data: bytes) -> None:
    api, resumes = scripted(HELLO + b"event: snapshot\nid: e.9\ndata: " + data + b"\n\n", HELLO)
    async with served(api) as port, watching(port) as following:
        assert isinstance(await following(), Hello)
        lost = await following()
        assert isinstance(lost.error, BadAnswer)
        assert isinstance(await following(), Hello)
        assert resumes == ["", ""]  # what could not be read was not seen


async def test_events_of_the_future_are_passed_over() -> None:
    api, _ = scripted(HELLO + b'event: weather\nid: e.9\ndata: {"sunny":true}\n\n' + HELLO)
    async with served(api) as port, watching(port) as following:
        assert [type(await following()) for _ in range(3)] == [Hello, Hello, Lost]


async def test_pauses_grow_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_START", 0.001)
    monkeypatch.setattr(module, "BACKOFF_LIMIT", 0.004)
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)
    async with watching(free_port()) as following:
        assert [(await following()).retry_in for _ in range(5)] == [0.001, 0.002, 0.004, 0.004, 0.004]


async def test_a_server_that_greets_and_hangs_up_is_not_asked_without_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)
    api, _ = scripted(HELLO)
    async with served(api) as port, watching(port) as following:
        pauses = [
            event.retry_in for event in [await following() for _ in range(10)] if isinstance(event, Lost)
        ]
        assert pauses == [0.001, 0.002, 0.004, 0.008, 0.01]
