"""Where sidecars meet the controller: the stream of their Plan, their reports, and what those add up to.

Wire format: ``docs/reference/streams.md`` and ``controller-api.md``. Refuses ids that are no UUIDs,
sidecars of another protocol, and reports without the key that the stream gave.
"""

import re
from collections.abc import Callable
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amalgam8.controller.fleet import Row
from amalgam8.controller.metrics import Metrics
from amalgam8.controller.tenants import Tenants
from amalgam8.controller.traffic import Rate
from amalgam8.controller.watch import PlanSource
from amalgam8.model.caller import Caller, caller, name_problem
from amalgam8.model.errors import InvalidInput, InvalidQuery, InvalidReport
from amalgam8.model.report import ReportAnswer, SidecarReport
from amalgam8.model.slices import SliceReport
from amalgam8.model.slices import problem as slices_problem
from amalgam8.model.stream import PROTOCOL, check_protocol
from amalgam8.model.traffic import problem
from amalgam8.web.app import json_response
from amalgam8.web.auth import Auth
from amalgam8.web.exchange import Answer, Asked, json_answer
from amalgam8.web.sse import EventStream

TAGS_LIMIT = 64
TEXT_LIMIT = 1024
"""Bytes of a tag, or of the name of a proxy."""

REJECTED_LIMIT = 5000

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Listing(msgspec.Struct, frozen=True):
    sidecars: list[Row]


class TrafficListing(msgspec.Struct, frozen=True):
    """``sidecars``: how many there are that report."""

    traffic: list[Rate]
    sidecars: int


NOTHING = json_answer(None)


class SidecarsApi:
    """Handlers of ``/v1/plan/watch`` and ``/v1/sidecars``. ``clock`` is steady, in seconds."""

    def __init__(self, tenants: Tenants, metrics: Metrics, auth: Auth, clock: Callable[[], float]) -> None:
        self._auth = auth
        self._tenants = tenants
        self._metrics = metrics
        self._clock = clock

    async def watch(self, request: Request) -> Response:
        """``GET /v1/plan/watch?id=&service=&tags=&protocol=``."""
        name = self._auth.tenant_of(request)
        query = request.query_params
        _check_protocol(query.get("protocol", str(PROTOCOL)))
        identity = _identity(query.get("id", ""), InvalidQuery)
        tags = query.get("tags", "")
        who = _caller(query.get("service", ""), tags.split(",") if tags else (), InvalidQuery)
        tenant = await self._tenants.get(name)
        tenant.fleet.opened(identity, who, self._clock())
        source = PlanSource(
            self._tenants.epoch,
            tenant.fleet.key(identity),
            who,
            tenant.mirror,
            tenant.plans,
            tenant.limits,
            identity,
            partial(self._metrics.sent, name),
        )
        resume = request.headers.get("last-event-id", "")
        return EventStream(source, resume, partial(tenant.fleet.closed, identity))  # type: ignore[return-value]  # a Response

    async def report(self, asked: Asked) -> Answer:
        """``PUT /v1/sidecars/{id}``."""
        name = self._auth.whose(asked)
        identity = _identity(asked.parameter, InvalidReport)
        report = _report(asked.body)
        tenant = await self._tenants.get(name)
        now = self._clock()
        tenant.fleet.check(identity, report.key)
        if report.traffic is not None:  # first, since a sidecar that leaves is forgotten
            tenant.calls.take(identity, report.traffic, now)
        tenant.fleet.report(identity, report, now)
        pace = tenant.calls.pace(now)
        return NOTHING if pace is None else json_answer(ReportAnswer(pace))

    async def limits(self, asked: Asked) -> Answer:
        """``PUT /v1/sidecars/{id}/limits``: what a sidecar wants of the budgets that the fleet shares."""
        name = self._auth.whose(asked)
        identity = _identity(asked.parameter, InvalidReport)
        report = _slices(asked.body)
        tenant = await self._tenants.get(name)
        tenant.fleet.check(identity, report.key)
        tenant.fleet.wants(identity, report)
        who = tenant.fleet.who(identity)
        return json_answer(tenant.limits.take(identity, who, report, tenant.mirror.book, self._clock()))

    async def list(self, request: Request) -> Response:
        """``GET /v1/sidecars``."""
        tenant = await self._tenants.get(self._auth.tenant_of(request))
        return json_response(Listing(tenant.fleet.rows(self._clock(), tenant.plans.plan)))

    async def traffic(self, request: Request) -> Response:
        """``GET /v1/traffic?destination=``: what is called now, as all sidecars together count it."""
        tenant = await self._tenants.get(self._auth.tenant_of(request))
        if unknown := sorted(set(request.query_params) - {"destination"}):
            raise InvalidQuery(f"{unknown[0]} is no parameter; the one is destination")
        wanted = set(request.query_params.getlist("destination"))
        now = self._clock()
        present = [sidecar for sidecar in tenant.fleet.present(now) if not sidecar.gone(now)]
        tenant.calls.want(now)
        rates = [rate for rate in tenant.calls.rates(now) if not wanted or rate.service in wanted]
        return json_response(TrafficListing(rates, len(present)))


def _report(body: bytes) -> SidecarReport:
    try:
        report = msgspec.json.decode(body, type=SidecarReport)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidReport(f"the report cannot be read: {error}") from None
    _caller(report.service, report.tags, InvalidReport)
    if len(report.proxy.encode()) > TEXT_LIMIT:
        raise InvalidReport(f"$.proxy: is longer than {TEXT_LIMIT} bytes")
    if len(report.rejected) > REJECTED_LIMIT:
        raise InvalidReport(f"$.rejected: more than {REJECTED_LIMIT} destinations")
    if report.traffic is not None and (wrong := problem(report.traffic)):
        raise InvalidReport(f"$.traffic{wrong if wrong.startswith('[') else ': ' + wrong}")
    return report


def _slices(body: bytes) -> SliceReport:
    try:
        report = msgspec.json.decode(body, type=SliceReport)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidReport(f"the report cannot be read: {error}") from None
    if wrong := slices_problem(report):
        raise InvalidReport(f"$.{wrong}")
    return report


def _identity(text: str, refusal: type[InvalidInput]) -> str:
    identity = text.lower()
    if not _UUID.fullmatch(identity):
        raise refusal("the sidecar's id must be a UUID such as 123e4567-e89b-42d3-a456-426614174000")
    return identity


def _caller(service: str, tags: tuple[str, ...] | list[str], refusal: type[InvalidInput]) -> Caller:
    """The caller; a sidecar without a service of its own (a proxy only) has an empty name."""
    if service and (problem := name_problem(service)):
        raise refusal(f"service name {problem}")
    if len(tags) > TAGS_LIMIT:
        raise refusal(f"{len(tags)} tags; at most {TAGS_LIMIT} are allowed")
    if any(not tag or len(tag.encode()) > TEXT_LIMIT for tag in tags):
        raise refusal(f"a tag holds 1 to {TEXT_LIMIT} bytes; several are given as v1,blue")
    return caller(service, tags)


def _check_protocol(text: str) -> None:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise InvalidQuery("protocol must be a whole number")
    check_protocol(int(text), they="the sidecar", we="the controller")
