"""The controller's REST API: rules, and the table of all routes.

Wire format: the original's API of versions 0.3 to 1.x (``docs/reference/controller-api.md``). Handlers
read, hand over and answer; what a write means stands in ``rulebook``. Refuses unknown query parameters
of writes, since a misspelt filter would delete everything.
"""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from amalgam8.controller import rulebook
from amalgam8.controller.book import Change, Kind, Rulebook
from amalgam8.controller.catalogue import Catalogue
from amalgam8.controller.explain_api import ExplainApi
from amalgam8.controller.history_api import APPLY_LIMIT, APPLY_ROUTE, IMPORT_LIMIT, IMPORT_ROUTE, HistoryApi
from amalgam8.controller.metrics import CONTENT_TYPE, WATCH_ROUTE, Metrics
from amalgam8.controller.openapi import document
from amalgam8.controller.rollouts import Rollouts
from amalgam8.controller.rollouts_api import RolloutsApi
from amalgam8.controller.rulebook import Selection
from amalgam8.controller.sidecars_api import SidecarsApi
from amalgam8.controller.tenants import Tenants
from amalgam8.controller.terms import Body, Writer, check_query, etag
from amalgam8.model.caller import name_problem
from amalgam8.model.errors import InvalidQuery
from amalgam8.model.rule import Rule
from amalgam8.model.rule_reader import read_document, read_list, read_rules
from amalgam8.model.schema import rule_schema
from amalgam8.web.app import Api, json_response
from amalgam8.web.auth import Auth
from amalgam8.web.errors import controller_style
from amalgam8.web.plain import PlainRoute

BODY_LIMIT = 1024 * 1024
FILTERS = ("id", "tag", "destination")
FILTER_LIMIT = 1000
"""Filter values in one request."""


def controller_api(
    tenants: Tenants,
    metrics: Metrics,
    auth: Auth,
    clock: Callable[[], float],
    rollouts: Rollouts,
    *,
    require_https: bool = False,
    catalogue: Catalogue | None = None,
) -> Api:
    """The application. ``clock`` (s, steady) is for the age of what sidecars report.

    With ``require_https`` it is served over secure connections only. Without a ``catalogue`` no instances
    are known.
    """
    writer = Writer(tenants, clock)
    rules = RulesApi(tenants, writer, auth)
    history = HistoryApi(tenants, writer, auth)
    sidecars = SidecarsApi(tenants, metrics, auth, clock)

    async def health(_request: Request) -> Response:
        return json_response(None)

    schema = msgspec.json.encode(rule_schema())

    async def show_schema(_request: Request) -> Response:
        return Response(schema, media_type="application/schema+json")

    described = document(version("amalgam8"))

    async def openapi(_request: Request) -> Response:
        return json_response(described)

    async def show_metrics(request: Request) -> Response:
        return Response(metrics.show(auth.sees(request.headers)), headers={"content-type": CONTENT_TYPE})

    routes: list[BaseRoute] = [
        Route("/health", health),
        Route("/metrics", show_metrics),
        Route("/openapi.json", openapi),
        Route("/v1/schema/rules.json", show_schema),
        Route("/v1/rules", rules.any, methods=["GET", "POST", "PUT", "DELETE"]),
        Route(WATCH_ROUTE, sidecars.watch),
        Route("/v1/sidecars", sidecars.list),
        PlainRoute("/v1/sidecars/{id}/limits", sidecars.limits, method="PUT", waits=tenants.waits),
        Route("/v1/traffic", sidecars.traffic),
        PlainRoute("/v1/sidecars/{id}", sidecars.report, method="PUT", waits=tenants.waits),
        Route("/v1/rules/{id}/status", rules.status),
        *history.routes(),
        *ExplainApi(tenants, catalogue or Catalogue(clock), auth).routes(),
        *RolloutsApi(tenants, rollouts, auth).routes(),
    ]
    for name, kind in (("routes", "route"), ("actions", "action")):
        of_kind = cast("Kind", kind)
        routes += [
            Route(f"/v1/rules/{name}", partial(rules.by_destination, of_kind)),
            Route(
                f"/v1/rules/{name}/{{destination}}",
                partial(rules.of_destination, of_kind),
                methods=["GET", "PUT", "DELETE"],
            ),
        ]
    return Api(
        routes,
        style=controller_style,
        body_limit=BODY_LIMIT,
        larger_bodies={IMPORT_ROUTE: IMPORT_LIMIT, APPLY_ROUTE: APPLY_LIMIT},
        https_only=("/",) if require_https else (),
        served=metrics.served,
    )


class Listing(msgspec.Struct, frozen=True):
    rules: list[Rule]
    revision: int


class RulesApi:
    """Handlers of everything under ``/v1/rules``."""

    def __init__(self, tenants: Tenants, writer: Writer, auth: Auth) -> None:
        self._tenants = tenants
        self._writer = writer
        self._auth = auth

    async def any(self, request: Request) -> Response:
        """``/v1/rules``, whatever the method."""
        tenant = await self._tenants.get(self._auth.tenant_of(request))
        if request.method == "GET":
            return _listing(tenant.mirror.book, _selection(request))
        if request.method == "DELETE":
            check_query(request, FILTERS)
            selection = _selection(request)
            return await self._writer.write(
                request, tenant, lambda book, write: rulebook.remove(book, selection, write), known=FILTERS
            )
        rules = read_rules(await request.body())
        if request.method == "PUT":
            return await self._writer.write(
                request, tenant, lambda book, write: rulebook.replace(book, rules, write)
            )
        return await self._writer.write(
            request, tenant, lambda book, write: rulebook.create(book, rules, write), _ids, 201
        )

    async def by_destination(self, kind: Kind, request: Request) -> Response:
        """``GET /v1/rules/routes`` and ``…/actions``."""
        book = (await self._tenants.get(self._auth.tenant_of(request))).mirror.book
        services: dict[str, list[Rule]] = {}
        for rule in rulebook.select(book, _selection(request, kind)):
            services.setdefault(rule.destination, []).append(rule)
        return json_response({"services": services}, headers=etag(book.revision))

    async def of_destination(self, kind: Kind, request: Request) -> Response:
        """``/v1/rules/routes/{destination}`` and ``…/actions/…``, whatever the method."""
        tenant = await self._tenants.get(self._auth.tenant_of(request))
        destination = request.path_params["destination"]
        selection = Selection(destinations=(destination,), kind=kind)
        if request.method == "GET":
            return _listing(tenant.mirror.book, selection)
        if request.method == "DELETE":
            return await self._writer.write(
                request, tenant, lambda book, write: rulebook.remove(book, selection, write)
            )
        if problem := name_problem(destination):
            raise InvalidQuery(f"the destination {problem}")
        document = read_document(await request.body())
        rules = read_list(document, may_be_empty=True, destination=destination)
        return await self._writer.write(
            request,
            tenant,
            lambda book, write: rulebook.replace_for(book, kind, destination, rules, write),
            _ids,
            201,
        )

    async def status(self, request: Request) -> Response:
        """``GET /v1/rules/{id}/status``: where the rule is applied."""
        tenant = await self._tenants.get(self._auth.tenant_of(request))
        found = tenant.ledger.status(request.path_params["id"], self._writer.moment())
        return json_response(found, headers=etag(tenant.mirror.book.revision))


def _listing(book: Rulebook, selection: Selection) -> Response:
    return json_response(
        Listing(rulebook.select(book, selection), book.revision), headers=etag(book.revision)
    )


def _ids(change: Change | None) -> Body:
    """The rules that were put, in the order of the request."""
    return {"ids": [rule.id for rule in change.after] if change else []}


def _selection(request: Request, kind: Kind | None = None) -> Selection:
    ids, tags, destinations = (tuple(request.query_params.getlist(name)) for name in FILTERS)
    if len(ids) + len(tags) + len(destinations) > FILTER_LIMIT:
        raise InvalidQuery(f"more than {FILTER_LIMIT} filter values")
    return Selection(ids, tags, destinations, kind)
