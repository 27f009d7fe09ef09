"""The REST API of the past: history, rollback, confirmation; and of whole states: apply, export, import.

Wire format: ``docs/reference/controller-api.md``. Handlers read, hand over and answer; what going back means
stands in ``undo``, what a declared set means in ``declare``.
"""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from amalgam8.controller import archive, declare, undo
from amalgam8.controller.book import Change, Rulebook, apply
from amalgam8.controller.difference import Entry, entry, steps, told
from amalgam8.controller.rulebook import Write
from amalgam8.controller.tenants import Tenant, Tenants
from amalgam8.controller.terms import Body, Writer, check_query, etag, terms_of
from amalgam8.model.errors import InvalidJson, InvalidQuery, RevisionNotFound
from amalgam8.model.rule_reader import read_document, read_list
from amalgam8.web.app import json_response
from amalgam8.web.auth import Auth

PAGE = 50
PAGE_LIMIT = 500
"""Revisions in one page of the history."""

APPLY_ROUTE = "/v1/apply"
APPLY_LIMIT = 16 * 1024 * 1024
IMPORT_ROUTE = "/v1/import"
IMPORT_LIMIT = 128 * 1024 * 1024
"""Bytes of an import."""

_FLAGS = {"true": True, "1": True, "": True, "false": False, "0": False}


class Page(msgspec.Struct, frozen=True):
    """Revisions, newest first; ``next`` is the ``before`` of the next page, None: this is the last."""

    revision: int
    revisions: list[Entry]
    next: int | None


class HistoryApi:
    """Handlers of ``/v1/history``, ``rollback``, ``confirm``, ``apply``, ``export`` and ``import``."""

    def __init__(self, tenants: Tenants, writer: Writer, auth: Auth) -> None:
        self._tenants = tenants
        self._writer = writer
        self._auth = auth

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/history", self.page),
            Route("/v1/history/{revision}", self.one),
            Route("/v1/rollback", self.rollback, methods=["POST"]),
            Route("/v1/confirm", self.confirm, methods=["POST"]),
            Route(APPLY_ROUTE, self.apply, methods=["PUT"]),
            Route("/v1/export", self.export),
            Route(IMPORT_ROUTE, self.restore, methods=["PUT"]),
        ]

    async def page(self, request: Request) -> Response:
        """``GET /v1/history?limit=&before=``."""
        tenant = await self._tenants.get(self._auth.tenant_of(request))
        limit = _number(request.query_params.get("limit", str(PAGE)), "limit")
        before = request.query_params.get("before")
        if not 1 <= limit <= PAGE_LIMIT:
            raise InvalidQuery(f"limit must be between 1 and {PAGE_LIMIT}")
        below = None if before is None else _number(before, "before")
        found = await self._tenants.history(tenant, below, limit + 1)
        more = found[limit - 1].revision if len(found) > limit else None
        revision = tenant.mirror.book.revision
        return json_response(
            Page(revision, [entry(change) for change in found[:limit]], more), headers=etag(revision)
        )

    async def one(self, request: Request) -> Response:
        """``GET /v1/history/{revision}``: with the difference."""
        tenant = await self._tenants.get(self._auth.tenant_of(request))
        revision = _number(request.path_params["revision"], "the revision")
        found = await self._tenants.history(tenant, revision + 1, 1)
        if not found or found[0].revision != revision:
            raise RevisionNotFound(
                f"there is no revision {revision} in the history, or not any more;"
                f" the newest is {tenant.mirror.book.revision}"
            )
        return json_response(told(found[0]))

    async def rollback(self, request: Request) -> Response:
        """``POST /v1/rollback {"revision": N}``."""
        tenant = await self._tenants.get(self._auth.tenant_of(request))
        revision = _revision(await request.body())
        wait = check_query(request)
        change = await self._tenants.rollback(tenant, revision, terms_of(request))
        return await self._writer.answer(tenant, change, wait, _done(change))

    async def confirm(self, request: Request) -> Response:
        """``POST /v1/confirm {"revision": N}``."""
        tenant = await self._tenants.get(self._auth.tenant_of(request))
        revision = _revision(await request.body())
        return await self._writer.write(
            request, tenant, lambda book, write: undo.confirm(book, revision, write), _done
        )

    async def apply(self, request: Request) -> Response:
        """``PUT /v1/apply?dry_run=&prune=&tag=``."""
        tenant = await self._tenants.get(self._auth.tenant_of(request))
        known = ("dry_run", "prune", "tag")
        wait = check_query(request, known)
        tags = request.query_params.getlist("tag")
        dry, prune = _flag(request, "dry_run", False), _flag(request, "prune", True)
        rules = read_list(read_document(await request.body()), may_be_empty=True)

        def operation(book: Rulebook, write: Write) -> Change | None:
            return declare.declare(book, rules, tags, write, prune=prune)

        if dry:
            change = self._tenants.try_out(tenant, operation, terms_of(request))
            return json_response(self._difference(tenant, change), headers=etag(tenant.mirror.book.revision))
        change = await self._tenants.write(tenant, operation, terms_of(request))
        return await self._writer.answer(tenant, change, wait, _applied(tenant, change))

    async def export(self, request: Request) -> Response:
        """``GET /v1/export``."""
        tenant = await self._tenants.get(self._auth.tenant_of(request))
        book, log = await self._tenants.whole(tenant)
        return json_response(archive.pack(book, log), headers=etag(book.revision))

    async def restore(self, request: Request) -> Response:
        """``PUT /v1/import``."""
        tenant = await self._tenants.get(self._auth.tenant_of(request))
        book, log = archive.unpack(await request.body())
        await self._tenants.restore(tenant, book, log)
        return json_response(
            {"revision": book.revision, "rules": len(book.rules)}, headers=etag(book.revision)
        )

    def _difference(self, tenant: Tenant, change: Change | None) -> Body:
        sidecars: tuple[Any, ...] = ()
        if change is not None:
            then = apply(tenant.mirror.book, change)
            sidecars = tenant.ledger.touched(then, change, self._writer.moment())
        return {
            "revision": tenant.mirror.book.revision,
            "difference": steps(change) if change else (),
            "sidecars": sidecars,
        }


def _applied(tenant: Tenant, change: Change | None) -> Body:
    revision = change.revision if change else tenant.mirror.book.revision
    return {"revision": revision, "difference": steps(change) if change else ()}


def _done(change: Change | None) -> Body:
    assert change is not None  # noqa: S101 - these operations always write
    told_of = entry(change)
    return {
        "revision": change.revision,
        "created": told_of.created,
        "updated": told_of.updated,
        "removed": told_of.removed,
    }


def _revision(body: bytes) -> int:
    document = read_document(body)
    if unknown := sorted(set(document) - {"revision"}):
        raise InvalidJson(f"$.{unknown[0]}: unknown member")
    found = document.get("revision")
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise InvalidJson('$.revision: expected a whole number, as in {"revision": 7}')
    return found


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise InvalidQuery(f"{name} must be a whole number")
    return int(text)


def _flag(request: Request, name: str, default: bool) -> bool:
    text = request.query_params.get(name)
    if text is None:
        return default
    if text.lower() not in _FLAGS:
        raise InvalidQuery(f"{name} must be true or false")
    return _FLAGS[text.lower()]
