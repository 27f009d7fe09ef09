"""The controller's REST API, typed. Wire format: ``docs/reference/controller-api.md``.

Rule documents travel as plain JSON values, so that members of a newer controller survive a round trip.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from amalgam8.clients.http import Http, Query, segment
from amalgam8.clients.registry import decode
from amalgam8.clients.rollout import Rollout, Rollouts, TrafficNow
from amalgam8.clients.watch import Watch
from amalgam8.model.caller import Caller
from amalgam8.model.report import ReportAnswer, SidecarReport
from amalgam8.model.slices import SliceReport, Slices
from amalgam8.routing.plan import PlanDelta, PlanSnapshot

Document = Mapping[str, Any]

PATIENCE = 30.0
"""Seconds for an answer, beyond those that the controller was asked to wait."""

EXPORT_WITHIN = 120.0


class Rules(msgspec.Struct, frozen=True):
    """Rules in the order in which they are tried, and the revision that they stand at."""

    rules: tuple[dict[str, Any], ...]
    revision: int


class Standing(msgspec.Struct, frozen=True):
    """Where one sidecar stands with a rule or a revision; ``since`` is RFC 3339."""

    id: str
    service: str
    tags: tuple[str, ...]
    state: str
    since: str
    reason: str = ""


class Status(msgspec.Struct, frozen=True):
    """Where a rule is applied, and the revision in which it was last written."""

    id: str
    revision: int
    applied: bool
    sidecars: tuple[Standing, ...]
    note: str = ""


class Step(msgspec.Struct, frozen=True):
    """The difference of one rule: ``change`` is create, update or remove."""

    id: str
    change: str
    destination: str
    members: tuple[str, ...] = ()
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class Touched(msgspec.Struct, frozen=True):
    """A sidecar whose Plan would change, and the destinations where."""

    id: str
    service: str
    tags: tuple[str, ...]
    destinations: tuple[str, ...]


class Wrote(msgspec.Struct, frozen=True, kw_only=True):
    """What a write answered: ``applied`` and ``missing`` where it was to wait, None: it was not."""

    revision: int = 0
    ids: tuple[str, ...] = ()
    applied: bool | None = None
    concerned: int = 0
    missing: tuple[Standing, ...] = ()
    confirm_by: str = ""
    difference: tuple[Step, ...] = ()
    sidecars: tuple[Touched, ...] = ()
    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Entry(msgspec.Struct, frozen=True):
    """One revision of the history; ``difference`` where it was asked for by its number."""

    revision: int
    at: str
    cause: str
    author: str
    comment: str
    request_id: str
    created: tuple[str, ...]
    updated: tuple[str, ...]
    removed: tuple[str, ...]
    about: tuple[int, ...] = ()
    confirm_by: str = ""
    difference: tuple[Step, ...] = ()


class History(msgspec.Struct, frozen=True):
    """Revisions, newest first; ``next`` is where the next page begins, None: there is none."""

    revision: int
    revisions: tuple[Entry, ...]
    next: int | None = None


class How(msgspec.Struct, frozen=True):
    """On which terms to write: seconds to wait and to confirm within, the revision that it is for."""

    wait: float | None = None
    confirm_within: float | None = None
    revision: int | None = None
    author: str = ""
    comment: str = ""

    def query(self) -> list[tuple[str, str]]:
        given = (("wait", self.wait), ("confirm_within", self.confirm_within))
        return [(name, f"{seconds:g}") for name, seconds in given if seconds is not None]

    def headers(self) -> dict[str, str]:
        given = {
            "A8-Author": self.author,
            "A8-Comment": self.comment,
            "If-Match": "" if self.revision is None else f'"{self.revision}"',
        }
        return {name: text for name, text in given.items() if text}


PLAINLY = How()


class SidecarRow(msgspec.Struct, frozen=True):
    """One sidecar as the controller sees it; ``age`` is seconds since its last report."""

    id: str
    service: str
    tags: tuple[str, ...]
    proxy: str
    revision: int
    state: str
    reason: str
    age: float


class _Sidecars(msgspec.Struct, frozen=True):
    sidecars: tuple[SidecarRow, ...]


class _ByService(msgspec.Struct, frozen=True):
    services: dict[str, tuple[dict[str, Any], ...]]


class ControllerClient:
    """Every method may raise Unreachable, Refusal or BadAnswer."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def create(self, rules: Sequence[Document], how: How = PLAINLY) -> Wrote:
        """Store new rules, all or none; ``ids`` are in the same order."""
        return await self._write("POST", "/v1/rules", {"rules": rules}, how)

    async def update(self, rules: Sequence[Document], how: How = PLAINLY) -> Wrote:
        """Replace whole rules by their ids, all or none."""
        return await self._write("PUT", "/v1/rules", {"rules": rules}, how)

    async def replace_for(
        self, kind: str, destination: str, rules: Sequence[Document], how: How = PLAINLY
    ) -> Wrote:
        """Put ``rules`` in place of all ``routes`` or ``actions`` of a destination."""
        path = f"/v1/rules/{kind}/{segment(destination)}"
        return await self._write("PUT", path, {"rules": rules}, how)

    async def delete_for(self, kind: str, destination: str, how: How = PLAINLY) -> Wrote:
        """Remove all ``routes`` or ``actions`` of a destination."""
        return await self._write("DELETE", f"/v1/rules/{kind}/{segment(destination)}", None, how)

    async def apply(
        self,
        rules: Sequence[Document],
        *,
        tags: Sequence[str] = (),
        prune: bool = True,
        dry_run: bool = False,
        how: How = PLAINLY,
    ) -> Wrote:
        """Make all rules, or those that carry ``tags``, what ``rules`` says, as one revision."""
        query = [*(("tag", tag) for tag in tags), ("prune", str(prune).lower())]
        query += [("dry_run", "true")] if dry_run else []
        return await self._write("PUT", "/v1/apply", {"rules": rules}, how, query)

    async def rollback(self, revision: int, how: How = PLAINLY) -> Wrote:
        """Make the rules what they were at ``revision``, as a new one."""
        return await self._write("POST", "/v1/rollback", {"revision": revision}, how)

    async def confirm(self, revision: int, how: How = PLAINLY) -> Wrote:
        """Let the change of ``revision`` stay."""
        return await self._write("POST", "/v1/confirm", {"revision": revision}, how)

    async def history(self, *, before: int | None = None, limit: int = 50) -> History:
        query = [("limit", str(limit)), *([("before", str(before))] if before is not None else [])]
        return decode(await self._http.request("GET", "/v1/history", query=query), History)

    async def revision(self, number: int) -> Entry:
        """One revision with its difference."""
        return decode(await self._http.request("GET", f"/v1/history/{number}"), Entry)

    async def status(self, identity: str) -> Status:
        """Where the rule is applied."""
        return decode(await self._http.request("GET", f"/v1/rules/{segment(identity)}/status"), Status)

    async def export(self) -> bytes:
        """All rules and the whole history, as JSON."""
        return (await self._http.request("GET", "/v1/export", timeout=EXPORT_WITHIN)).body

    async def restore(self, document: bytes) -> None:
        """Give the rules and the history of an export to an empty controller."""
        await self._http.request("PUT", "/v1/import", document, timeout=EXPORT_WITHIN)

    async def explain(self, question: Document) -> dict[str, Any]:
        """What happens to a call; the members of ``question`` are those of ``POST /v1/explain``."""
        return decode(await self._http.request("POST", "/v1/explain", question), dict)

    async def rules(
        self, *, ids: Sequence[str] = (), tags: Sequence[str] = (), destinations: Sequence[str] = ()
    ) -> Rules:
        return decode(
            await self._http.request("GET", "/v1/rules", query=_filters(ids, tags, destinations)), Rules
        )

    async def delete(
        self,
        *,
        ids: Sequence[str] = (),
        tags: Sequence[str] = (),
        destinations: Sequence[str] = (),
        how: How = PLAINLY,
    ) -> Wrote:
        """Remove the rules that fit every filter; without a filter, all of them."""
        return await self._write("DELETE", "/v1/rules", None, how, _filters(ids, tags, destinations))

    async def routes(self) -> dict[str, tuple[dict[str, Any], ...]]:
        """Route rules by destination."""
        return decode(await self._http.request("GET", "/v1/rules/routes"), _ByService).services

    async def actions(self) -> dict[str, tuple[dict[str, Any], ...]]:
        """Action rules by destination."""
        return decode(await self._http.request("GET", "/v1/rules/actions"), _ByService).services

    async def sidecars(self) -> tuple[SidecarRow, ...]:
        return decode(await self._http.request("GET", "/v1/sidecars"), _Sidecars).sidecars

    async def traffic(self, destinations: Sequence[str] = ()) -> TrafficNow:
        """What is called now, by service and version."""
        query = [("destination", name) for name in destinations]
        return decode(await self._http.request("GET", "/v1/traffic", query=query), TrafficNow)

    async def start_rollout(self, order: Document, author: str = "") -> Rollout:
        """Let the controller give a new version more and more of the calls."""
        headers = How(author=author).headers()
        return decode(await self._http.request("POST", "/v1/rollouts", order, headers=headers), Rollout)

    async def rollouts(self) -> tuple[Rollout, ...]:
        """All that are known, the newest first."""
        return decode(await self._http.request("GET", "/v1/rollouts"), Rollouts).rollouts

    async def rollout(self, identity: str) -> Rollout:
        return decode(await self._http.request("GET", f"/v1/rollouts/{segment(identity)}"), Rollout)

    async def tell_rollout(self, identity: str, word: str) -> Rollout:
        """``pause``, ``resume`` or ``abort`` it."""
        return decode(await self._http.request("POST", f"/v1/rollouts/{segment(identity)}/{word}"), Rollout)

    async def _write(self, method: str, path: str, body: Any, how: How, query: Query = ()) -> Wrote:
        answer = await self._http.request(
            method,
            path,
            body,
            query=[*query, *how.query()],
            headers=how.headers(),
            timeout=None if how.wait is None else how.wait + PATIENCE,
        )
        if answer.body:
            return decode(answer, Wrote)
        revision = answer.headers.get("etag", "").strip('"')
        return Wrote(revision=int(revision) if revision.isdigit() else 0)

    async def report(
        self, identity: str, report: SidecarReport, *, timeout: float | None = None
    ) -> ReportAnswer:
        """Tell what the proxy confirmed; the answer says when to do so again."""
        path = f"/v1/sidecars/{segment(identity)}"
        answer = await self._http.request("PUT", path, report, timeout=timeout)
        return decode(answer, ReportAnswer) if answer.body else ReportAnswer()

    async def want(self, identity: str, report: SliceReport, *, timeout: float | None = None) -> Slices:
        """Tell what a sidecar wants of budgets that the fleet shares; the answer is what it has."""
        path = f"/v1/sidecars/{segment(identity)}/limits"
        return decode(await self._http.request("PUT", path, report, timeout=timeout), Slices)

    def watch_plan(self, identity: str, caller: Caller) -> Watch[PlanSnapshot, PlanDelta]:
        """The stream of the caller's Plan; ``identity`` is the sidecar's id."""
        query = [("id", identity), ("service", caller.service), ("tags", ",".join(caller.tags))]
        return Watch(
            self._http, "/v1/plan/watch", query, PlanSnapshot, PlanDelta, "the controller", {"slices": Slices}
        )


def _filters(ids: Sequence[str], tags: Sequence[str], destinations: Sequence[str]) -> Query:
    return [
        *(("id", value) for value in ids),
        *(("tag", value) for value in tags),
        *(("destination", value) for value in destinations),
    ]
