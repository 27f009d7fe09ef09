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

from amalgam8.catalogs.following import State
from amalgam8.model.caller import name_problem
from amalgam8.model.errors import InstanceNotFound, InvalidQuery, ServiceNotFound
from amalgam8.model.stream import check_protocol
from amalgam8.registry.eureka_api import PREFIXES as EUREKA
from amalgam8.registry.eureka_api import EurekaApi
from amalgam8.registry.heartbeats import read_heartbeats, renew_many
from amalgam8.registry.history import History
from amalgam8.registry.lease import Lease
from amalgam8.registry.metrics import CONTENT_TYPE, WATCH_ROUTE, Metrics
from amalgam8.registry.openapi import document
from amalgam8.registry.query import parse_query, projection
from amalgam8.registry.registration import BODY_LIMIT, Ttls, read_registration
from amalgam8.registry.store import Store
from amalgam8.registry.uptime import uptime, version
from amalgam8.registry.watch import SERVICES_LIMIT, Services, Watchers
from amalgam8.web.app import Api, json_response
from amalgam8.web.auth import Auth
from amalgam8.web.errors import registry_style
from amalgam8.web.sse import EventStream
from amalgam8.web.tls import is_secure

ID_HEADERS = ("A8-Request-Id", "Request_id", "Sd-Request-Id")
"""The last is what clients of the original look for, to tell a refusal from an unreachable registry."""


class Registry:
    """The handlers. ``states`` says how the catalogues are.

    ``clock`` counts seconds and is read for the uptime only.
    """

    def __init__(
        self,
        store: Store,
        ttls: Ttls,
        watchers: Watchers,
        metrics: Metrics,
        auth: Auth,
        states: Callable[[], Iterable[State]] = tuple,
        history: History | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._auth = auth
        self._history = history or History()
        self._store = store
        self._ttls = ttls
        self._watchers = watchers
        self._metrics = metrics
        self._states = states
        self._document = b""
        self._clock = clock
        self._started = clock()

    def application(self, *, require_https: bool = False) -> Api:
        """The ASGI application. With ``require_https`` the API is served over secure connections only."""
        routes: list[BaseRoute] = [
            Route("/", self.root),
            Route("/uptime", self.uptime),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
            Route("/api/v1/instances", self.find, methods=["GET"]),
            Route("/api/v1/instances", self.register, methods=["POST"]),
            Route(WATCH_ROUTE, self.watch, methods=["GET"]),
            Route("/api/v1/instances/{id}", self.instance, methods=["GET"]),
            Route("/api/v1/instances/{id}", self.remove, methods=["DELETE"]),
            Route("/api/v1/instances/{id}/heartbeat", self.renew, methods=["PUT"]),
            Route("/api/v1/heartbeats", self.renew_many, methods=["PUT"]),
            Route("/api/v1/events", self.events, methods=["GET"]),
            Route("/api/v1/services", self.services, methods=["GET"]),
            Route("/api/v1/services/{name}", self.service, methods=["GET"]),
            *EurekaApi(self._store, self._ttls, self._auth).routes(),
        ]
        self._document = document(routes, version())
        return Api(
            routes,
            style=registry_style,
            body_limit=BODY_LIMIT,
            id_headers=ID_HEADERS,
            compress=True,
            https_only=("/api/", *EUREKA) if require_https else (),
            xml_at=EUREKA,
            served=self._metrics.served,
        )

    async def root(self, _request: Request) -> Response:
        return json_response(None)

    async def uptime(self, _request: Request) -> Response:
        document = uptime(
            self._store, self._clock() - self._started, self._states(), len(self._history.frozen)
        )
        return json_response(document, 200 if all(one["healthy"] for one in document.values()) else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.show(self._auth.sees(request)), headers={"content-type": CONTENT_TYPE})

    async def openapi(self, _request: Request) -> Response:
        return json_response(self._document)

    async def register(self, request: Request) -> Response:
        tenant = self._auth.tenant_of(request)
        instance = read_registration(await request.body(), self._ttls)
        await self._store.register(tenant, instance)
        links = _links(request, instance.id)
        return json_response(
            {"id": instance.id, "ttl": instance.ttl, "links": links}, 201, {"location": links["self"]}
        )

    async def renew(self, request: Request) -> Response:
        await self._store.renew(self._auth.tenant_of(request), request.path_params["id"])
        return json_response(None)

    async def renew_many(self, request: Request) -> Response:
        tenant = self._auth.tenant_of(request)
        ids = read_heartbeats(await request.body())
        return json_response(await renew_many(self._store, tenant, ids))

    async def events(self, request: Request) -> Response:
        tenant = self._auth.tenant_of(request)
        service = _only_service(request.query_params.multi_items())
        return json_response({"events": self._history.events(tenant, service)})

    async def remove(self, request: Request) -> Response:
        await self._store.remove(self._auth.tenant_of(request), request.path_params["id"])
        return json_response(None)

    async def find(self, request: Request) -> Response:
        tenant = self._auth.tenant_of(request)
        query = parse_query(request.query_params.multi_items())
        found = self._store.view(tenant).select(query)
        if query.fields is None:
            return json_response(b'{"instances":%b}' % _whole(found))
        project = projection(query.fields)
        return json_response({"instances": [project(lease.shown()) for lease in found]})

    async def instance(self, request: Request) -> Response:
        identity = request.path_params["id"]
        lease = self._store.view(self._auth.tenant_of(request)).get(identity)
        if lease is None:
            raise InstanceNotFound(f"there is no instance with the id {identity[:64]!r}")
        return json_response(lease.json())

    async def services(self, request: Request) -> Response:
        return json_response({"services": list(self._store.view(self._auth.tenant_of(request)).services())})

    async def service(self, request: Request) -> Response:
        name = request.path_params["name"]
        found = self._store.view(self._auth.tenant_of(request)).of_service(name)
        if not found:
            raise ServiceNotFound(f"there is no service named {name[:64]!r}")
        return json_response(
            b'{"service_name":%b,"instances":%b}' % (msgspec.json.encode(name), _whole(found))
        )

    async def watch(self, request: Request) -> EventStream:
        tenant = self._auth.tenant_of(request)
        services = _chosen(request.query_params.multi_items())
        return self._watchers.stream(tenant, services, request.headers.get("last-event-id", ""))


def _whole(leases: Iterable[Lease]) -> bytes:
    return b"[%b]" % b",".join([lease.json() for lease in leases])


def _links(request: Request, identity: str) -> dict[str, str]:
    headers = request.headers
    secure = is_secure(request.scope["scheme"], headers)
    host = headers.get("host") or "{}:{}".format(*request.scope["server"])
    this = f"{'https' if secure else 'http'}://{host}/api/v1/instances/{identity}"
    return {"self": this, "heartbeat": f"{this}/heartbeat"}


def _only_service(pairs: Iterable[tuple[str, str]]) -> str:
    """The value of ``service_name``, or nothing."""
    service = ""
    for name, value in pairs:
        if name != "service_name":
            raise InvalidQuery(f"{name[:64]!r} is no parameter; there is service_name")
        service = service or value
    return service


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
