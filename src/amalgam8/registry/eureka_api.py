"""Eureka's REST API, version 2, over the same store: its clients take the registry for a Eureka server.

Wire format: ``docs/reference/eureka-api.md``; documents in JSON or XML by ``catalogs.eureka_document``. What
is not known is a 404, after which Eureka's clients register again. The tenant's token stands in the path;
without one it is ``default``. Refuses to answer for another application than the path names.
"""

import time
from collections.abc import Callable, Iterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from amalgam8.catalogs.eureka_document import (
    STATUS_LIMIT,
    Document,
    decode,
    hashcode,
    ids_meant,
    read_instance,
    write_applications,
    write_instance,
)
from amalgam8.model.errors import (
    BadAnswer,
    CapacityExceeded,
    InstanceGone,
    InstanceNotFound,
    InvalidInstance,
    InvalidJson,
    InvalidQuery,
    ServiceNotFound,
)
from amalgam8.model.instance import Instance
from amalgam8.registry.eureka_answer import NETFLIX, answer, document_of, empty, extension_of
from amalgam8.registry.eureka_change import overridden, restored, under_override, with_metadata
from amalgam8.registry.eureka_delta import Ring
from amalgam8.registry.lease import Lease
from amalgam8.registry.registration import Ttls
from amalgam8.registry.store import Store
from amalgam8.registry.view import View
from amalgam8.web.app import json_response, request_id_of
from amalgam8.web.auth import DEFAULT, Auth
from amalgam8.web.errors import registry_style

OURS = "/api/eureka"
BASES = (OURS + "/{token}/v2", OURS + "//v2", OURS + "/v2", NETFLIX + "/v2", NETFLIX)
"""All lead to the same. An empty token is no token; where there is no place for one, it is ``default``."""

PREFIXES = (OURS + "/", NETFLIX + "/")


class EurekaApi:
    """The handlers. ``wall`` is Unix time in seconds."""

    def __init__(
        self, store: Store, ttls: Ttls, auth: Auth, *, wall: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._ttls = ttls
        self._auth = auth
        self._wall = wall
        # So that a version never comes again, whichever process it was told by.
        self._base = int(wall() * 1_000_000)
        self._tenants: dict[str, _Tenant] = {}

    def routes(self) -> list[BaseRoute]:
        """The same table below each of BASES."""
        table: tuple[tuple[str, str, Callable[..., object]], ...] = (
            ("GET", "/apps", self.apps),
            ("GET", "/apps/", self.apps),
            ("GET", "/apps/delta", self.delta),
            ("GET", "/apps/{app}", self.app),
            ("POST", "/apps/{app}", self.register),
            ("GET", "/apps/{app}/{id}", self.app_instance),
            ("PUT", "/apps/{app}/{id}", self.renew),
            ("DELETE", "/apps/{app}/{id}", self.cancel),
            ("PUT", "/apps/{app}/{id}/status", self.set_status),
            ("DELETE", "/apps/{app}/{id}/status", self.unset_status),
            ("PUT", "/apps/{app}/{id}/metadata", self.set_metadata),
            ("GET", "/instances/{id}", self.instance),
            ("GET", "/vips/{address}", self.vip),
            ("GET", "/svips/{address}", self.secure_vip),
        )
        return [
            Route(base + path, handler, methods=[method]) for base in BASES for method, path, handler in table
        ]

    async def register(self, request: Request) -> Response:
        tenant = self._tenant_of(request)
        registered = read_instance(_document(await request.body()), request.path_params["app"])
        instance, extension = registered.instance, registered.extension
        _check_status(instance.status)
        instance = msgspec.structs.replace(
            instance,
            ttl=self._ttls.clamp(instance.ttl),
            extension=msgspec.Raw(msgspec.json.encode(extension)),
        )
        known = self._store.view(tenant).get(instance.id)
        if known is not None:
            instance = under_override(instance, known.instance)
        try:
            await self._store.register(tenant, instance)
        except CapacityExceeded as error:
            # Not the 403 of the other API: the original answers so, and Eureka's clients try again.
            return json_response(registry_style(error.code, str(error), request_id_of(request)), 500)
        return empty(204)

    async def renew(self, request: Request) -> Response:
        tenant, lease = self._lease(request)
        with _GoneIsNotFound():
            await self._store.renew(tenant, lease.instance.id)
        return empty()

    async def cancel(self, request: Request) -> Response:
        tenant, lease = self._lease(request)
        with _GoneIsNotFound():
            await self._store.remove(tenant, lease.instance.id)
        return empty()

    async def set_status(self, request: Request) -> Response:
        self._tenant_of(request)
        status = request.query_params.get("value")
        if not status:
            raise InvalidQuery("value is missing: which status?")
        _check_status(status)
        return await self._amend(request, lambda one: overridden(one, status), other_app=True)

    async def unset_status(self, request: Request) -> Response:
        self._tenant_of(request)
        status = request.query_params.get("value", "")
        _check_status(status)
        return await self._amend(request, lambda one: restored(one, status))

    async def set_metadata(self, request: Request) -> Response:
        members = dict(request.query_params.multi_items())
        return await self._amend(request, lambda one: with_metadata(one, members))

    async def apps(self, request: Request) -> Response:
        tenant = self._tenant_of(request)
        followed = self._followed(tenant)
        shown = write_applications(
            map(document_of, followed.view),
            version=self._base + followed.view.feed.revision,
            hashcode=followed.hashcode(),
        )
        return answer(request, shown)

    async def delta(self, request: Request) -> Response:
        tenant, now = self._tenant_of(request), self._wall()
        first = tenant not in self._tenants
        followed = self._followed(tenant)
        if first:
            # Who has fetched everything did so elsewhere: what has changed since is not known here.
            followed.ring.lose(now)
        shown = write_applications(
            followed.changed(now),
            version=self._base + followed.view.feed.revision,
            hashcode=followed.hashcode() if followed.ring.complete(now) else "",
        )
        return answer(request, shown)

    async def app(self, request: Request) -> Response:
        name = request.path_params["app"]
        found = list(_of_app(self._view(request), name))
        if not found:
            raise ServiceNotFound(f"there is no application named {name[:64]!r}")
        shown = {"name": name.upper(), "instance": [document_of(lease) for lease in found]}
        return answer(request, {"application": shown})

    async def app_instance(self, request: Request) -> Response:
        _, lease = self._lease(request)
        return answer(request, {"instance": document_of(lease)})

    async def instance(self, request: Request) -> Response:
        key = request.path_params["id"]
        view = self._view(request)
        lease = view.get(key) or next((one for one in view if one.instance.id.endswith(f":{key}")), None)
        if lease is None:
            raise _unknown(key)
        return answer(request, {"instance": document_of(lease)})

    async def vip(self, request: Request) -> Response:
        return self._at_address(request, "vipAddress")

    async def secure_vip(self, request: Request) -> Response:
        return self._at_address(request, "secureVipAddress")

    def _at_address(self, request: Request, member: str) -> Response:
        wanted = request.path_params["address"].strip().lower()
        found = [
            shown
            for shown in map(document_of, self._view(request))
            if wanted in (part.strip().lower() for part in str(shown.get(member) or "").split(","))
        ]
        if not found:
            return answer(request, {"applications": {}})
        code = hashcode(shown["status"] for shown in found)
        return answer(request, write_applications(found, hashcode=code))

    async def _amend(
        self, request: Request, change: Callable[[Instance], Instance], *, other_app: bool = False
    ) -> Response:
        tenant, lease = self._lease(request, other_app=other_app)
        with _GoneIsNotFound():
            await self._store.amend(tenant, lease.instance.id, change)
        return empty()

    def _tenant_of(self, request: Request) -> str:
        return self._auth.tenant_of(request, self._token(request))

    def _token(self, request: Request) -> str:
        if request.scope["path"].startswith(OURS + "//"):
            return ""
        token: str = request.path_params.get("token", DEFAULT)
        return token

    def _view(self, request: Request) -> View:
        return self._store.view(self._tenant_of(request))

    def _lease(self, request: Request, *, other_app: bool = False) -> tuple[str, Lease]:
        """The tenant and the instance that a path ``/apps/{app}/{id}`` means, whoever looks after it.

        Raises:
            InstanceNotFound: there is none.
            InvalidQuery: with ``other_app``, where it is one of another application.
        """
        tenant = self._tenant_of(request)
        app, key = request.path_params["app"], request.path_params["id"]
        view = self._store.view(tenant)
        others = False
        for identity in ids_meant(app, key):
            lease = view.get(identity)
            if lease is not None and lease.instance.service_name.lower() == app.lower():
                return tenant, lease
            others = others or lease is not None
        if others and other_app:
            raise InvalidQuery(f"{key[:64]!r} is no instance of {app[:64]!r}")
        raise _unknown(key)

    def _followed(self, tenant: str) -> "_Tenant":
        view = self._store.view(tenant)
        found = self._tenants.get(tenant)
        if found is None or found.view is not view:
            made = self._tenants[tenant] = _Tenant(view, self._wall)
            if found is not None:
                made.ring.lose(self._wall())
            return made
        return found


class _Tenant:
    """A tenant's view, what has changed in it of late, and its hash code, counted once per revision."""

    def __init__(self, view: View, wall: Callable[[], float]) -> None:
        self.view = view
        self.ring = Ring()
        self._counted = (-1, "")
        view.feed.on_change(lambda change: self.ring.hear(change, wall()))

    def hashcode(self) -> str:
        revision = self.view.feed.revision
        if self._counted[0] != revision:
            self._counted = (revision, hashcode(lease.instance.status or "UNKNOWN" for lease in self.view))
        return self._counted[1]

    def changed(self, now: float) -> Iterator[Document]:
        for recent in self.ring.recent(now):
            if recent.last is not None:
                yield write_instance(recent.last, extension_of(recent.last), action=recent.action)
            elif (lease := self.view.get(recent.id)) is not None:
                yield document_of(lease, recent.action)


class _GoneIsNotFound:
    """Eureka's clients register again after a 404, and after nothing else."""

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, InstanceGone):
            raise InstanceNotFound(str(error)) from None


def _document(body: bytes) -> Document:
    try:
        document = decode(body).get("instance")
    except BadAnswer as error:
        raise InvalidJson(f"the body is no document: {error}") from None
    if not isinstance(document, dict):
        raise InvalidJson("the body must have one member, 'instance', which is an object")
    return document


def _check_status(status: str) -> None:
    if len(status.encode(errors="replace")) > STATUS_LIMIT or not status.isprintable():
        raise InvalidInstance(f"status must be a text of at most {STATUS_LIMIT} bytes that can be shown")


def _of_app(view: View, app: str) -> Iterator[Lease]:
    for service in list(view.services()):
        if service.lower() == app.lower():
            yield from view.of_service(service)


def _unknown(key: str) -> InstanceNotFound:
    return InstanceNotFound(f"there is no instance with the id {key[:64]!r} (any more); register it again")
