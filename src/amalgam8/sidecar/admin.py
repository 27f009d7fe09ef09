"""The admin port: what the sidecar knows, what it wants, and what the proxy has confirmed. Read only.

``/state`` (instances and rules in force), ``/-/plan`` (the Plan as it came), ``/-/status``,
``/-/traces`` (records of the newest traced calls), ``/metrics``.
Listens on loopback alone, since it asks nobody who they are. Refuses to show tokens or URLs.
"""

import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amalgam8.model.caller import Caller
from amalgam8.model.errors import Unavailable
from amalgam8.routing.connect import Connection
from amalgam8.routing.plan import DestinationPlan, PlanSnapshot
from amalgam8.routing.resolve import SHARES
from amalgam8.sidecar.figures import Figure, exposition
from amalgam8.sidecar.follow import Follower, Stream
from amalgam8.sidecar.names import Names
from amalgam8.sidecar.proxy import Confirmed, Proxy, Stamp
from amalgam8.sidecar.registration import Registration
from amalgam8.sidecar.report import Reporter
from amalgam8.sidecar.routing import Join
from amalgam8.sidecar.tcp import Connections, TcpProxy
from amalgam8.web.app import Api, json_response
from amalgam8.web.errors import controller_style

BODY_LIMIT = 1024
"""Nothing here takes a body."""

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Driven(msgspec.Struct, frozen=True):
    """A proxy and the parts of the agent that serve it."""

    proxy: Proxy
    follower: Follower
    join: Join
    reporter: Reporter
    names: Names
    connections: Connections


class Admin:
    """``driven`` and ``registration`` are None where the settings ask for neither."""

    def __init__(
        self, identity: str, caller: Caller, driven: Driven | None, registration: Registration | None
    ) -> None:
        self._identity = identity
        self._caller = caller
        self._driven = driven
        self._registration = registration
        self._started = time.monotonic()
        self.app = Api(
            [
                Route("/state", self._state),
                Route("/-/plan", self._plan),
                Route("/-/status", self._status),
                Route("/-/traces", self._traces),
                Route("/metrics", self._metrics),
            ],
            style=controller_style,
            body_limit=BODY_LIMIT,
        )

    async def _state(self, _request: Request) -> Response:
        follower = self._driven.follower if self._driven else None
        plan = follower.seen.value.plan if follower else None
        return json_response(
            {
                "instances": follower.instances.known if follower else [],
                "rules": in_force(plan.parts, time.time()) if plan else {},
            }
        )

    async def _plan(self, _request: Request) -> Response:
        plan = self._driven.follower.seen.value.plan if self._driven else None
        if plan is None:
            raise Unavailable("no Plan has come from the controller yet")
        return json_response(PlanSnapshot(plan.stamp.revision, plan.stamp.hash, dict(plan.parts)))

    async def _status(self, _request: Request) -> Response:
        registration = self._registration
        return json_response(
            {
                "id": self._identity,
                "service": self._caller.service,
                "tags": self._caller.tags,
                "uptime": round(time.monotonic() - self._started, 3),
                "registration": {
                    "id": registration.id,
                    "endpoint": registration.endpoint,
                    "registered": registration.registered,
                }
                if registration
                else None,
                "proxy": _proxy_status(self._driven) if self._driven else None,
            }
        )

    async def _traces(self, _request: Request) -> Response:
        return json_response({"traces": self._driven.proxy.traces() if self._driven else []})

    async def _metrics(self, _request: Request) -> Response:
        figures = [Figure("a8_sidecar_uptime_seconds", "gauge", time.monotonic() - self._started)]
        if self._registration:
            figures += _registration_figures(self._registration)
        text = exposition(figures)
        if self._driven:
            text = exposition([*figures, *_proxy_figures(self._driven)]) + await self._driven.proxy.metrics()
        return Response(text, media_type=METRICS_TYPE)


def in_force(parts: Any, now: float) -> dict[str, DestinationPlan]:
    """The parts without entries that have lapsed at ``now`` (seconds since the epoch)."""

    def live(entries: Any) -> Any:
        return tuple(entry for entry in entries if entry.expires is None or entry.expires > now)

    names = DestinationPlan.__struct_fields__
    return {
        name: DestinationPlan(**{kind: live(getattr(part, kind)) for kind in names})
        for name, part in parts.items()
    }


def _proxy_status(driven: Driven) -> dict[str, Any]:
    desired = driven.proxy.desired.value.stamp
    confirmed = driven.proxy.confirmed.value
    return {
        "name": driven.proxy.name,
        "desired": desired,
        "confirmed": confirmed.stamp if confirmed else None,
        "rejected": confirmed.rejected if confirmed else (),
        "registry": _stream_status(driven.follower.registry),
        "controller": _stream_status(driven.follower.controller),
        "names": driven.names.answers,
        "tcp": [_tcp_status(proxy, found) for proxy, found in driven.connections.now()],
    }


def _tcp_status(proxy: TcpProxy, found: Connection | None) -> dict[str, Any]:
    """Where connections to a port go, and which rules do not apply to them in full."""
    shares = found.slices if found else ()
    return {
        "port": proxy.port,
        "service": proxy.service,
        "tags": proxy.tags,
        "known": found is not None,
        "refused": found is not None and found.refusal is not None,
        "rule": found.rule if found else "",
        "versions": [{"tags": piece.target.tags, "share": piece.weight / SHARES} for piece in shares],
        "unfit": found.unfit if found else (),
    }


def _stream_status(stream: Stream) -> dict[str, Any]:
    """``age``: for how many seconds what is known may have been out of date; 0 while connected."""
    return {
        "connected": bool(stream.connected),
        "age": round(stream.age, 3),
        "lost": stream.lost,
        "reason": stream.reason,
    }


def _registration_figures(registration: Registration) -> list[Figure]:
    counts = registration.counts
    return [
        Figure("a8_sidecar_registered", "gauge", registration.registered),
        Figure("a8_sidecar_registrations_total", "counter", counts.registrations),
        Figure("a8_sidecar_heartbeats_total", "counter", counts.heartbeats),
        Figure("a8_sidecar_registry_failures_total", "counter", counts.failures),
    ]


def _proxy_figures(driven: Driven) -> list[Figure]:
    follower, proxy = driven.follower, driven.proxy
    confirmed = proxy.confirmed.value or Confirmed(Stamp())
    seen = follower.seen.value
    figures = []
    for name, stream in (("registry", follower.registry), ("controller", follower.controller)):
        of = {"stream": name}
        figures += [
            Figure("a8_sidecar_stream_connected", "gauge", bool(stream.connected), of),
            Figure("a8_sidecar_stream_age_seconds", "gauge", stream.age, of),
            Figure("a8_sidecar_stream_lost_total", "counter", stream.lost, of),
        ]
    for state, stamp in (("desired", proxy.desired.value.stamp), ("confirmed", confirmed.stamp)):
        of = {"state": state}
        figures += [
            Figure("a8_sidecar_plan_revision", "gauge", stamp.plan.revision, of),
            Figure("a8_sidecar_registry_revision", "gauge", stamp.registry.revision, of),
        ]
    return [
        *figures,
        Figure("a8_sidecar_rejected_destinations", "gauge", len(confirmed.rejected)),
        Figure("a8_sidecar_services", "gauge", len(proxy.desired.value.routing)),
        Figure("a8_sidecar_rules_destinations", "gauge", len(seen.plan.parts) if seen.plan else 0),
        Figure("a8_sidecar_instances", "gauge", len(follower.instances.known)),
        Figure("a8_sidecar_instances_held", "gauge", follower.instances.held),
        Figure("a8_sidecar_resolutions_total", "counter", driven.join.resolutions),
        Figure("a8_sidecar_resolution_seconds_total", "counter", driven.join.seconds),
        Figure("a8_sidecar_reports_total", "counter", driven.reporter.sent, {"result": "sent"}),
        Figure("a8_sidecar_reports_total", "counter", driven.reporter.failed, {"result": "failed"}),
    ]
