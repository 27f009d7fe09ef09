"""Rollouts in custom resources of Kubernetes, one object each; a Lease says which controller drives them.

An edition replaces the one before by its resource version, so that two controllers never both write one.
Reads ask the API: rollouts are few, and whoever drives one has to know what another controller did.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from amalgam8.catalogs.kubernetes.connect import Connection
from amalgam8.catalogs.kubernetes.objects import Meta, Page, decode
from amalgam8.catalogs.kubernetes.reflector import PAGE
from amalgam8.clients.http import Answer, Refusal
from amalgam8.controller.kubernetes_objects import TENANT, VERSION, key_of, rule_name
from amalgam8.controller.rollout import Rollout
from amalgam8.controller.rollout_store import ENDED_KEPT, newest_first
from amalgam8.model.errors import StoreUnavailable, Superseded, Unavailable

ROLLOUTS = "rollouts"
LEASE = "amalgam8-rollouts"


class _Spec(msgspec.Struct, frozen=True):
    tenant: str
    rollout: Rollout


class _Object(msgspec.Struct, frozen=True):
    metadata: Meta
    spec: _Spec


class KubernetesRollouts:
    """A RolloutStore in ``namespace``. ``now`` is the wall clock (s), which controllers have to agree on."""

    def __init__(self, connection: Connection, namespace: str, now: Callable[[], float] = time.time) -> None:
        self._connection = connection
        self._path = f"/apis/{VERSION}/namespaces/{namespace}/{ROLLOUTS}"
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._now = now

    async def all(self, tenant: str) -> list[Rollout]:
        return newest_first(one.spec.rollout for one in await self._list() if one.spec.tenant == tenant)

    async def active(self) -> list[tuple[str, Rollout]]:
        return [(one.spec.tenant, one.spec.rollout) for one in await self._list() if one.spec.rollout.active]

    async def put(self, tenant: str, rollout: Rollout) -> None:
        mine = {one.spec.rollout.id: one for one in await self._list() if one.spec.tenant == tenant}
        known = mine.get(rollout.id)
        edition = known.spec.rollout.edition if known else 0
        if edition != rollout.edition - 1:
            raise _superseded(rollout, edition)
        name = rule_name(tenant, rollout.id)
        metadata: dict[str, Any] = {"name": name, "labels": {TENANT: key_of(tenant)}}
        body = {
            "apiVersion": VERSION,
            "kind": "Rollout",
            "metadata": metadata,
            "spec": _Spec(tenant, rollout),
        }
        if known is None:
            answer = await self._send("POST", self._path, body, 409)
        else:
            metadata["resourceVersion"] = known.metadata.resource_version
            answer = await self._send("PUT", f"{self._path}/{name}", body, 409)
        if answer.status == 409:
            raise _superseded(rollout, rollout.edition)
        mine[rollout.id] = _Object(Meta(name), _Spec(tenant, rollout))
        over = newest_first(one.spec.rollout for one in mine.values() if not one.spec.rollout.active)
        for old in over[ENDED_KEPT:]:
            await self._send("DELETE", f"{self._path}/{mine[old.id].metadata.name}", None, 404)

    async def lead(self, holder: str, seconds: float) -> bool:
        now = datetime.fromtimestamp(self._now(), UTC)
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(seconds)),
            "renewTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        }
        body: dict[str, Any] = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": LEASE},
            "spec": spec,
        }
        answer = await self._send("GET", f"{self._leases}/{LEASE}", None, 404)
        if answer.status == 404:
            return (await self._send("POST", self._leases, body, 409)).status != 409
        known = answer.json()
        if known["spec"].get("holderIdentity") not in (holder, None) and not _over(known["spec"], now):
            return False
        body["metadata"]["resourceVersion"] = known["metadata"]["resourceVersion"]
        return (await self._send("PUT", f"{self._leases}/{LEASE}", body, 409)).status != 409

    async def _list(self) -> list[_Object]:
        found: list[_Object] = []
        token = ""
        while True:
            query = [("limit", str(PAGE))] + ([("continue", token)] if token else [])
            try:
                page = decode(await self._connection.get(self._path, query), Page)
                found += [decode(raw, _Object) for raw in page.items or ()]
            except (Unavailable, Refusal) as error:
                raise StoreUnavailable(f"Kubernetes cannot be used: {error}") from None
            if not (token := page.metadata.continue_):
                return found

    async def _send(self, method: str, path: str, body: Any, expected: int) -> Answer:
        try:
            return await self._connection.send(method, path, body, expect=(expected,))
        except (Unavailable, Refusal) as error:
            raise StoreUnavailable(f"Kubernetes cannot be used: {error}") from None


def _over(spec: dict[str, Any], now: datetime) -> bool:
    """Whether a lease has run out."""
    try:
        renewed = datetime.fromisoformat(str(spec["renewTime"]))
        return (now - renewed).total_seconds() > float(spec["leaseDurationSeconds"])
    except (KeyError, ValueError, TypeError):
        return True


def _superseded(rollout: Rollout, edition: int) -> Superseded:
    return Superseded(
        f"rollout {rollout.id} is at edition {edition}, not at {rollout.edition - 1}: somebody else wrote"
        " first"
    )
