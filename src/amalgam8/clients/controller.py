"""The controller's REST API, typed. Wire format: ``docs/reference/controller-api.md``.

Rule documents travel as plain JSON values, so that members of a newer controller survive a round trip.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from amalgam8.clients.http import Http, Query, segment
from amalgam8.clients.registry import decode
from amalgam8.clients.watch import Watch
from amalgam8.model.caller import Caller
from amalgam8.model.report import SidecarReport
from amalgam8.routing.plan import PlanDelta, PlanSnapshot

Document = Mapping[str, Any]


class Rules(msgspec.Struct, frozen=True):
    """Rules in the order in which they are tried, and the revision that they stand at."""

    rules: tuple[dict[str, Any], ...]
    revision: int


class Ids(msgspec.Struct, frozen=True):
    ids: tuple[str, ...]


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

    async def create(self, rules: Sequence[Document]) -> tuple[str, ...]:
        """Store new rules, all or none; returns their ids in the same order."""
        return decode(await self._http.request("POST", "/v1/rules", {"rules": rules}), Ids).ids

    async def update(self, rules: Sequence[Document]) -> None:
        """Replace whole rules by their ids, all or none."""
        await self._http.request("PUT", "/v1/rules", {"rules": rules})

    async def rules(
        self, *, ids: Sequence[str] = (), tags: Sequence[str] = (), destinations: Sequence[str] = ()
    ) -> Rules:
        return decode(
            await self._http.request("GET", "/v1/rules", query=_filters(ids, tags, destinations)), Rules
        )

    async def delete(
        self, *, ids: Sequence[str] = (), tags: Sequence[str] = (), destinations: Sequence[str] = ()
    ) -> None:
        """Remove the rules that fit every filter; without a filter, all of them."""
        await self._http.request("DELETE", "/v1/rules", query=_filters(ids, tags, destinations))

    async def routes(self) -> dict[str, tuple[dict[str, Any], ...]]:
        """Route rules by destination."""
        return decode(await self._http.request("GET", "/v1/rules/routes"), _ByService).services

    async def actions(self) -> dict[str, tuple[dict[str, Any], ...]]:
        """Action rules by destination."""
        return decode(await self._http.request("GET", "/v1/rules/actions"), _ByService).services

    async def sidecars(self) -> tuple[SidecarRow, ...]:
        return decode(await self._http.request("GET", "/v1/sidecars"), _Sidecars).sidecars

    async def report(self, identity: str, report: SidecarReport, *, timeout: float | None = None) -> None:
        await self._http.request("PUT", f"/v1/sidecars/{segment(identity)}", report, timeout=timeout)

    def watch_plan(self, identity: str, caller: Caller) -> Watch[PlanSnapshot, PlanDelta]:
        """The stream of the caller's Plan; ``identity`` is the sidecar's id."""
        query = [("id", identity), ("service", caller.service), ("tags", ",".join(caller.tags))]
        return Watch(self._http, "/v1/plan/watch", query, PlanSnapshot, PlanDelta, "the controller")


def _filters(ids: Sequence[str], tags: Sequence[str], destinations: Sequence[str]) -> Query:
    return [
        *(("id", value) for value in ids),
        *(("tag", value) for value in tags),
        *(("destination", value) for value in destinations),
    ]
