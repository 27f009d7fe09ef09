"""Stand-ins for registry and controller: real sockets, the real wire, and a will of the test's own.

They say what a test wants them to say, wrong things too, and write down what they are told. Where right
answers are wanted, tests use the real ones.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from amalgam8.clients.registry import Granted, Registration
from amalgam8.model.instance import Endpoint, Instance, instance_id
from amalgam8.model.report import ReportAnswer, SidecarReport
from amalgam8.model.stream import PROTOCOL, Hello, InstanceDelta, InstanceSnapshot
from amalgam8.routing.plan import DestinationPlan, PlanDelta, PlanSnapshot
from amalgam8.runtime.feed import Gap
from amalgam8.runtime.latest import Latest
from amalgam8.web.app import Api, json_response
from amalgam8.web.errors import controller_style, registry_style
from amalgam8.web.serve import bind, serving
from amalgam8.web.sse import Event, EventStream


@contextlib.asynccontextmanager
async def served(app: ASGIApp, port: int = 0) -> AsyncIterator[int]:
    """Serve on loopback inside the block; yields the port."""
    async with serving(app, bind("127.0.0.1", port, "port")) as bound:
        yield bound


def instance(
    service: str, port: int, *tags: str, status: str = "UP", ttl: int = 60, host: str = "127.0.0.1"
) -> Instance:
    endpoint = Endpoint("http", f"{host}:{port}")
    return Instance(instance_id(service, endpoint), service, endpoint, ttl, status, tags=tags)


class Told:
    """A source for one stream: deltas told since the first, and how to make a snapshot."""

    def __init__(self, epoch: str, key: str = "") -> None:
        self.epoch = epoch
        self.protocol = PROTOCOL
        self.key = key
        self.revision = 1
        self.first = 1
        self._log: list[Event] = []
        self._newest = Latest(0)

    def hello(self) -> bytes:
        return msgspec.json.encode(Hello(self.epoch, self.revision, self.protocol, self.key))

    def snapshot(self) -> Event:
        return Event("snapshot", self.revision, msgspec.json.encode(self.whole()))

    def since(self, revision: int) -> tuple[int, Event | None]:
        if not self.first <= revision <= self.revision:
            raise Gap
        event = next((event for event in self._log if event.revision > revision), None)
        return (event.revision, event) if event else (revision, None)

    async def newer(self, revision: int) -> int:
        while self.revision == revision:
            await self._newest.newer(self._newest.version)
        return self.revision

    def whole(self) -> Any:
        raise NotImplementedError

    def tell(self, delta: Any) -> None:
        self._log.append(Event("delta", self.revision, msgspec.json.encode(delta)))
        self._newest.set(self.revision)


class Instances(Told):
    """The registry's stream."""

    def __init__(self, epoch: str, known: Iterable[Instance] = ()) -> None:
        super().__init__(epoch)
        self.known = {one.id: one for one in known}

    def whole(self) -> InstanceSnapshot:
        return InstanceSnapshot(self.revision, tuple(self.known.values()))

    def change(self, *upserted: Instance, removed: Iterable[Instance] = ()) -> None:
        gone = tuple(one.id for one in removed)
        self.known.update({one.id: one for one in upserted})
        for identity in gone:
            self.known.pop(identity, None)
        self.revision += 1
        self.tell(InstanceDelta(self.revision, upserted, gone))


class Parts(Told):
    """The controller's stream."""

    def __init__(self, epoch: str, known: dict[str, DestinationPlan] | None = None) -> None:
        super().__init__(epoch, key="the-key")
        self.known = dict(known or {})

    def whole(self) -> PlanSnapshot:
        return PlanSnapshot(self.revision, f"hash-{self.revision}", dict(self.known))

    def change(self, changed: dict[str, DestinationPlan], *removed: str) -> None:
        self.known.update(changed)
        for name in removed:
            self.known.pop(name, None)
        self.revision += 1
        self.tell(PlanDelta(self.revision, f"hash-{self.revision}", changed, removed))


class RegistryStandIn:
    """Takes registrations and keeps a list of what happened: ``("register", id)`` and so on."""

    def __init__(self, told: Instances | None = None, ttl: int = 60) -> None:
        self.told = told or Instances("epoch-1")
        self.ttl = ttl
        self.calls: list[tuple[str, str]] = []
        self.resumed: list[str] = []
        self.tokens: list[str] = []
        self.refuse: int = 0
        self.live: dict[str, Registration] = {}
        self.deregistering: Callable[[], None] = lambda: None
        routes: list[BaseRoute] = [
            Route("/api/v1/instances/watch", self._watch),
            Route("/api/v1/instances", self._register, methods=["POST"]),
            Route("/api/v1/instances/{id}/heartbeat", self._renew, methods=["PUT"]),
            Route("/api/v1/instances/{id}", self._deregister, methods=["DELETE"]),
        ]
        self.app = Api(routes, style=registry_style, body_limit=100_000)

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    async def _watch(self, request: Request) -> Any:
        self.tokens.append(request.headers.get("authorization", ""))
        self.resumed.append(request.headers.get("last-event-id", ""))
        return EventStream(self.told, request.headers.get("last-event-id", ""))

    async def _register(self, request: Request) -> Response:
        body = msgspec.json.decode(await request.body(), type=Registration)
        identity = instance_id(body.service_name, body.endpoint)
        self.calls.append(("register", identity))
        if self.refuse:
            return json_response({"Error": "not now"}, self.refuse)
        self.live[identity] = body
        return json_response(Granted(identity, self.ttl), 201)

    async def _renew(self, request: Request) -> Response:
        identity = request.path_params["id"]
        self.calls.append(("renew", identity))
        return json_response(None, 200 if identity in self.live else 410)

    async def _deregister(self, request: Request) -> Response:
        identity = request.path_params["id"]
        self.calls.append(("deregister", identity))
        self.deregistering()
        return json_response(None, 200 if self.live.pop(identity, None) else 410)


class ControllerStandIn:
    """Keeps the reports that it gets, newest last."""

    def __init__(self, told: Parts | None = None) -> None:
        self.told = told or Parts("epoch-1")
        self.reports: list[tuple[str, SidecarReport]] = []
        self.refuse = 0
        self.report_in: float | None = None
        self.asked: list[dict[str, str]] = []
        routes: list[BaseRoute] = [
            Route("/v1/plan/watch", self._watch),
            Route("/v1/sidecars/{id}", self._report, methods=["PUT"]),
        ]
        self.app = Api(routes, style=controller_style, body_limit=100_000)

    async def _watch(self, request: Request) -> Any:
        self.asked.append(dict(request.query_params))
        return EventStream(self.told, request.headers.get("last-event-id", ""))

    async def _report(self, request: Request) -> Response:
        if self.refuse:
            return json_response({"error": "no", "description": "not now"}, self.refuse)
        report = msgspec.json.decode(await request.body(), type=SidecarReport)
        self.reports.append((request.path_params["id"], report))
        if self.report_in is not None:
            return json_response(ReportAnswer(self.report_in))
        return json_response(None, 204)
