"""The registry's REST API, version 1, over a Store.

Wire format: ``docs/reference/registry-api.md``. Handlers read, ask and answer; every decision is the
store's or a pure function's. Lists of instances are joined from JSON that each lease keeps.
"""

import time
from collections.abc import Callable, Iterable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from amalgam8.model.caller import name_problem
from amalgam8.model.errors import InstanceNotFound, InvalidQuery, ServiceNotFound
from amalgam8.model.stream import check_protocol
from amalgam8.registry.lease import Lease
from amalgam8.registry.metrics import CONTENT_TYPE, WATCH_ROUTE, Metrics
from amalgam8.registry.query import parse_query, projection
from amalgam8.registry.registration import BODY_LIMIT, Ttls, read_registration
from amalgam8.registry.store import Store
from amalgam8.registry.uptime import uptime
from amalgam8.registry.watch import SERVICES_LIMIT, Services, Watchers
from amalgam8.web.app import Api, json_response
from amalgam8.web.errors import registry_style
from amalgam8.web.sse import EventStream
from amalgam8.web.tenant import tenant_of

ID_HEADERS = ("A8-Request-Id", "Request_id", "Sd-Request-Id")
"""The last is what clients of the original look for, to tell a refusal from an unreachable registry."""


class Registry:
    """The handlers. ``clock`` counts seconds and is read for the uptime only."""

    def __init__(
        self,
        store: Store,
        ttls: Ttls,
        watchers: Watchers,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._ttls = ttls
        self._watchers = watchers
        self._metrics = metrics
        self._clock = clock
        self._started = clock()

    def application(self) -> Api:
        """The ASGI application."""
        routes: list[BaseRoute] = [
            Route("/", self.root),
            Route("/uptime", self.uptime),
            Route("/metrics", self.metrics),
            Route("/api/v1/instances", self.find, methods=["GET"]),
            Route("/api/v1/instances", self.register, methods=["POST"]),
            Route(WATCH_ROUTE, self.watch, methods=["GET"]),
            Route("/api/v1/instances/{id}", self.instance, methods=["GET"]),
            Route("/api/v1/instances/{id}", self.remove, methods=["DELETE"]),
            Route("/api/v1/instances/{id}/heartbeat", self.renew, methods=["PUT"]),
            Route("/api/v1/services", self.services, methods=["GET"]),
            Route("/api/v1/services/{name}", self.service, methods=["GET"]),
        ]
        return Api(
            routes,
            style=registry_style,
            body_limit=BODY_LIMIT,
            id_headers=ID_HEADERS,
            compress=True,
            served=self._metrics.served,
        )

    async def root(self, _request: Request) -> Response:
        return json_response(None)

    async def uptime(self, _request: Request) -> Response:
        return json_response(uptime(self._store, self._clock() - self._started))

    async def metrics(self, _request: Request) -> Response:
        return Response(self._metrics.show(), headers={"content-type": CONTENT_TYPE})

    async def register(self, request: Request) -> Response:
        tenant = tenant_of(request)
        instance = read_registration(await request.body(), self._ttls)
        await self._store.register(tenant, instance)
        links = _links(request, instance.id)
        return json_response(
            {"id": instance.id, "ttl": instance.ttl, "links": links}, 201, {"location": links["self"]}
        )

    async def renew(self, request: Request) -> Response:
        await self._store.renew(tenant_of(request), request.path_params["id"])
        return json_response(None)

    async def remove(self, request: Request) -> Response:
        await self._store.remove(tenant_of(request), request.path_params["id"])
        return json_response(None)

    async def find(self, request: Request) -> Response:
        tenant = tenant_of(request)
        query = parse_query(request.query_params.multi_items())
        found = self._store.view(tenant).select(query)
        if query.fields is None:
            return json_response(b'{"instances":%b}' % _whole(found))
        project = projection(query.fields)
        return json_response({"instances": [project(lease.shown()) for lease in found]})

    async def instance(self, request: Request) -> Response:
        identity = request.path_params["id"]
        lease = self._store.view(tenant_of(request)).get(identity)
        if lease is None:
            raise InstanceNotFound(f"there is no instance with the id {identity[:64]!r}")
        return json_response(lease.json())

    async def services(self, request: Request) -> Response:
        return json_response({"services": list(self._store.view(tenant_of(request)).services())})

    async def service(self, request: Request) -> Response:
        name = request.path_params["name"]
        found = self._store.view(tenant_of(request)).of_service(name)
        if not found:
            raise ServiceNotFound(f"there is no service named {name[:64]!r}")
        return json_response(
            b'{"service_name":%b,"instances":%b}' % (msgspec.json.encode(name), _whole(found))
        )

    async def watch(self, request: Request) -> EventStream:
        tenant = tenant_of(request)
        services = _chosen(request.query_params.multi_items())
        return self._watchers.stream(tenant, services, request.headers.get("last-event-id", ""))


def _whole(leases: Iterable[Lease]) -> bytes:
    return b"[%b]" % b",".join([lease.json() for lease in leases])


def _links(request: Request, identity: str) -> dict[str, str]:
    headers = request.headers
    secure = (
        request.scope["scheme"] == "https"
        or headers.get("x-forwarded-proto", "").lower() == "https"
        or headers.get("$wssc", "").lower() == "https"
    )
    host = headers.get("host") or "{}:{}".format(*request.scope["server"])
    this = f"{'https' if secure else 'http'}://{host}/api/v1/instances/{identity}"
    return {"self": this, "heartbeat": f"{this}/heartbeat"}


def _chosen(pairs: Iterable[tuple[str, str]]) -> Services:
    """The services that a watcher asks for; checks its protocol."""
    services: set[str] = set()
    for name, value in pairs:
        if name == "protocol":
            if not (value.isascii() and value.isdigit() and len(value) < 10):
                raise InvalidQuery("protocol must be a number")
            check_protocol(int(value), they="the client", we="the registry")
        elif name != "service_name":
            raise InvalidQuery(f"{name[:64]!r} is no parameter; there are service_name and protocol")
        elif problem := name_problem(value):
            raise InvalidQuery(f"service_name {problem}")
        else:
            services.add(value)
    if len(services) > SERVICES_LIMIT:
        raise InvalidQuery(f"more than {SERVICES_LIMIT} services; leave service_name out to watch all")
    return frozenset(services)
