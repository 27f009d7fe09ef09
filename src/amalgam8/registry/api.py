"""The registry's REST API, version 1, over a Store.

Wire format: ``docs/reference/registry-api.md``. Handlers read, ask and answer; every decision is the
store's or a pure function's. Lists of instances are joined from JSON that each lease keeps.
"""

import functools
import time
from collections.abc import Callable, Iterable

import msgspec
from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from amalgam8.catalogs.following import State
from amalgam8.model.caller import name_problem
from amalgam8.model.errors import InstanceNotFound, InvalidQuery, ServiceNotFound
from amalgam8.model.instance import Instance
from amalgam8.model.stream import check_protocol
from amalgam8.registry.eureka_api import PREFIXES as EUREKA
from amalgam8.registry.eureka_api import EurekaApi
from amalgam8.registry.heartbeats import read_heartbeats, renew_many
from amalgam8.registry.history import History
from amalgam8.registry.lease import Lease
from amalgam8.registry.metrics import CONTENT_TYPE, WATCH_ROUTE, Metrics
from amalgam8.registry.openapi import document
from amalgam8.registry.query import InstanceQuery, parse_query, projection
from amalgam8.registry.registration import BODY_LIMIT, Ttls, read_registration
from amalgam8.registry.store import Store
from amalgam8.registry.uptime import uptime, version
from amalgam8.registry.watch import SERVICES_LIMIT, Services, Watchers
from amalgam8.web.app import Api
from amalgam8.web.auth import Auth
from amalgam8.web.errors import registry_style
from amalgam8.web.exchange import Answer, Asked, json_answer, pairs
from amalgam8.web.plain import PlainRoute
from amalgam8.web.sse import EventStream
from amalgam8.web.tls import is_secure

ID_HEADERS = ("A8-Request-Id", "Request_id", "Sd-Request-Id")
"""The last is what clients of the original look for, to tell a refusal from an unreachable registry."""

QUERY_KEPT = 256
"""Bytes of a query string up to which it is remembered how it reads."""

_DONE = json_answer(None)


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
        waits = self._store.waits
        routes: list[BaseRoute] = [
            PlainRoute("/", self.root),
            PlainRoute("/uptime", self.uptime),
            PlainRoute("/metrics", self.metrics),
            PlainRoute("/openapi.json", self.openapi),
            PlainRoute("/api/v1/instances", self.find),
            PlainRoute("/api/v1/instances", self.register, method="POST", waits=waits),
            Route(WATCH_ROUTE, self.watch, methods=["GET"]),
            PlainRoute("/api/v1/instances/{id}", self.instance),
            PlainRoute("/api/v1/instances/{id}", self.remove, method="DELETE", waits=waits),
            PlainRoute("/api/v1/instances/{id}/heartbeat", self.renew, method="PUT", waits=waits),
            PlainRoute("/api/v1/heartbeats", self.renew_many, method="PUT", waits=waits),
            PlainRoute("/api/v1/events", self.events),
            PlainRoute("/api/v1/services", self.services),
            PlainRoute("/api/v1/services/{name}", self.service),
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

    async def root(self, _asked: Asked) -> Answer:
        return json_answer(None)

    async def uptime(self, _asked: Asked) -> Answer:
        document = uptime(
            self._store, self._clock() - self._started, self._states(), len(self._history.frozen)
        )
        return json_answer(document, 200 if all(one["healthy"] for one in document.values()) else 503)

    async def metrics(self, asked: Asked) -> Answer:
        return Answer(self._metrics.show(self._auth.sees(asked.headers)), kind=CONTENT_TYPE)

    async def openapi(self, _asked: Asked) -> Answer:
        return json_answer(self._document)

    async def register(self, asked: Asked) -> Answer:
        tenant = self._auth.whose(asked)
        instance = read_registration(asked.body, self._ttls)
        await self._store.register(tenant, instance)
        return _granted(_base(asked), instance)

    async def renew(self, asked: Asked) -> Answer:
        await self._store.renew(self._auth.whose(asked), asked.parameter)
        return _DONE

    async def renew_many(self, asked: Asked) -> Answer:
        tenant = self._auth.whose(asked)
        return json_answer(await renew_many(self._store, tenant, read_heartbeats(asked.body)))

    async def events(self, asked: Asked) -> Answer:
        tenant = self._auth.whose(asked)
        service = _only_service(pairs(asked.query))
        return json_answer({"events": self._history.events(tenant, service)})

    async def remove(self, asked: Asked) -> Answer:
        await self._store.remove(self._auth.whose(asked), asked.parameter)
        return _DONE

    async def find(self, asked: Asked) -> Answer:
        view = self._store.view(self._auth.whose(asked))
        query = _query(asked)
        shelf = view.shelf(query.service_name) if query.service_name is not None else None
        if shelf is None:
            return _found(view.select(query), query)
        kept = shelf.kept.get(query)
        return kept or shelf.keep(query, _found(view.select(query), query))

    async def instance(self, asked: Asked) -> Answer:
        lease = self._store.view(self._auth.whose(asked)).get(asked.parameter)
        if lease is None:
            raise InstanceNotFound(f"there is no instance with the id {asked.parameter[:64]!r}")
        return json_answer(lease.json())

    async def services(self, asked: Asked) -> Answer:
        return json_answer({"services": list(self._store.view(self._auth.whose(asked)).services())})

    async def service(self, asked: Asked) -> Answer:
        name = asked.parameter
        shelf = self._store.view(self._auth.whose(asked)).shelf(name)
        if shelf is None:
            raise ServiceNotFound(f"there is no service named {name[:64]!r}")
        kept = shelf.kept.get(None)
        if kept is None:
            body = b'{"service_name":%b,"instances":%b}' % (msgspec.json.encode(name), _whole(shelf))
            kept = shelf.keep(None, json_answer(body))
        return kept

    async def watch(self, request: Request) -> EventStream:
        tenant = self._auth.tenant_of(request)
        services = _chosen(request.query_params.multi_items())
        return self._watchers.stream(tenant, services, request.headers.get("last-event-id", ""))


def _granted(base: str, instance: Instance) -> Answer:
    place, text = _places(base)
    identity = instance.id.encode()
    body = b'{"id":"%b","ttl":%d,"links":{"self":%b%b","heartbeat":%b%b/heartbeat"}}'
    return Answer(
        body % (identity, instance.ttl, text, identity, text, identity),
        201,
        ((b"location", place + identity),),
    )


@functools.lru_cache(maxsize=64)
def _places(base: str) -> tuple[bytes, bytes]:
    """Where instances are, for those who reach this server so; and the same as JSON that is left open."""
    here = f"{base}/api/v1/instances/"
    return here.encode("latin-1"), msgspec.json.encode(here)[:-1]


def _found(leases: Iterable[Lease], query: InstanceQuery) -> Answer:
    if query.fields is None:
        return json_answer(b'{"instances":%b}' % _whole(leases))
    project = projection(query.fields)
    return json_answer({"instances": [project(lease.shown()) for lease in leases]})


def _whole(leases: Iterable[Lease]) -> bytes:
    return b"[%b]" % b",".join([lease.json() for lease in leases])


def _query(asked: Asked) -> InstanceQuery:
    # Clients ask the same over and over; what is long is not worth its memory.
    return _read_query(asked.query) if len(asked.query) <= QUERY_KEPT else parse_query(pairs(asked.query))


@functools.lru_cache(maxsize=1024)
def _read_query(text: bytes) -> InstanceQuery:
    return parse_query(pairs(text))


def _base(asked: Asked) -> str:
    """How the client reaches this server."""
    return f"{'https' if is_secure(asked.scheme, asked.headers) else 'http'}://{asked.host()}"


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
