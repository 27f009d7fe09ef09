"""What every write of the API has in common: its conditions, its waiting, and what its answer says of them.

``?wait=`` and ``?confirm_within=`` are durations; ``If-Match``, ``A8-Author`` and ``A8-Comment`` are headers.
Without them an answer is what it always was, but for the ``ETag`` with the new revision. Refuses query
parameters that it does not know: a misspelt ``confirm_within`` would be a change that stays.
"""

import re
from collections.abc import Callable, Collection
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amalgam8.controller.applied import WAIT_LIMIT, until_applied
from amalgam8.controller.book import Change
from amalgam8.controller.ledger import Moment, Verdict
from amalgam8.controller.tenants import Operation, Tenant, Tenants, Terms
from amalgam8.model.errors import InvalidQuery
from amalgam8.runtime.kinds import Kind, duration
from amalgam8.web.app import json_response, request_id_of

WAIT = duration(0, WAIT_LIMIT)
CONFIRM = duration(1, 86400)
AUTHOR_LIMIT = 128
COMMENT_LIMIT = 1024
"""Characters."""

PARAMETERS = ("wait", "confirm_within")

_TAG = re.compile(r'(?:W/)?"?([0-9]{1,18})"?')

Body = dict[str, Any] | None


class Writer:
    """Carries out the writes that requests ask for. ``clock`` is steady, in seconds."""

    def __init__(self, tenants: Tenants, clock: Callable[[], float]) -> None:
        self._tenants = tenants
        self._clock = clock

    def moment(self) -> Moment:
        return Moment(self._clock(), self._tenants.now())

    async def write(
        self,
        request: Request,
        tenant: Tenant,
        operation: Operation,
        body: Callable[[Change | None], Body] = lambda _change: None,
        status: int = 200,
        known: Collection[str] = (),
    ) -> Response:
        """Carry ``operation`` out and answer ``body``, with what the request's own terms add to it."""
        wait = check_query(request, known)
        change = await self._tenants.write(tenant, operation, terms_of(request))
        return await self.answer(tenant, change, wait, body(change), status)

    async def answer(
        self, tenant: Tenant, change: Change | None, wait: float | None, body: Body, status: int = 200
    ) -> Response:
        """The answer to a write that is done: waits first, where that is wanted."""
        revision = change.revision if change else tenant.mirror.book.revision
        added: dict[str, Any] = {}
        if change is not None and change.confirm_by:
            added = {"revision": revision, "confirm_by": change.confirm_by}
        if wait is not None:
            verdict = Verdict(True, 0, ())
            if change is not None:
                verdict = await until_applied(tenant, change, wait, self.moment)
            added |= {"revision": revision, **msgspec.structs.asdict(verdict)}
        whole = {**(body or {}), **added} if body is not None or added else None
        return json_response(whole, status, etag(revision))


def etag(revision: int) -> dict[str, str]:
    """The header that names the revision of what was read or written."""
    return {"ETag": f'"{revision}"'}


def check_query(request: Request, known: Collection[str] = ()) -> float | None:
    """Refuse parameters other than PARAMETERS and ``known``; returns the seconds to wait, None: not at all.

    Raises:
        InvalidQuery: an unknown parameter, or a wrong duration.
    """
    allowed = (*known, *PARAMETERS)
    unknown = sorted({*request.query_params.keys()} - {*allowed})
    if unknown:
        what = "is no filter; filters are" if "tag" in known else "is no parameter of a write; these are"
        raise InvalidQuery(f"{unknown[0]} {what} {', '.join(allowed)}")
    return _duration(request, "wait", WAIT)


def terms_of(request: Request) -> Terms:
    """The conditions of a write.

    Raises:
        InvalidQuery: a header or parameter that cannot be one.
    """
    return Terms(
        request_id_of(request),
        _text(request, "A8-Author", AUTHOR_LIMIT),
        _text(request, "A8-Comment", COMMENT_LIMIT),
        _revisions(request.headers.get("if-match", "")),
        _duration(request, "confirm_within", CONFIRM),
    )


def _duration(request: Request, name: str, kind: Kind[float]) -> float | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return kind.read(text)
    except ValueError:
        raise InvalidQuery(f"{name}: {text!r} is not allowed; allowed: {kind.allowed}") from None


def _revisions(text: str) -> frozenset[int] | None:
    if not text.strip() or text.strip() == "*":
        return None
    found = [_TAG.fullmatch(part.strip()) for part in text.split(",")]
    tags = [match.group(1) for match in found if match]
    if len(tags) != len(found):
        raise InvalidQuery(f'If-Match: {text!r} is not allowed; write a revision such as "7"')
    return frozenset(int(tag) for tag in tags)


def _text(request: Request, name: str, limit: int) -> str:
    """A header as text: UTF-8 where it is, else Latin-1, as headers are read."""
    raw = request.headers.get(name, "").encode("latin-1")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if len(text) > limit:
        raise InvalidQuery(f"{name}: longer than {limit} characters")
    if not text.isprintable():
        raise InvalidQuery(f"{name}: holds a control character")
    return text
