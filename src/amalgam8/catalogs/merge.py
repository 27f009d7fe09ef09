"""Several sources of instances as one: who wins where ids meet, and what has changed. Pure.

Sources are layers, of which the first wins: an instance is hidden while an earlier layer has one of the
same id, and shows again once that is gone. Tenants never meet. Refuses to know where a layer comes from;
equal content is no change.
"""

from collections.abc import Iterable, Mapping

import msgspec

from amalgam8.model.instance import Instance

ById = dict[str, Instance]
Layer = Mapping[str, ById]
"""Tenant → id → instance."""

_NOTHING: ById = {}


class Delta(msgspec.Struct, frozen=True):
    """What has changed for one tenant; never empty."""

    tenant: str
    upserted: tuple[Instance, ...] = ()
    removed: tuple[str, ...] = ()


class Merged:
    """The union of ``layers`` layers, all empty at first."""

    def __init__(self, layers: int) -> None:
        self._layers: list[Layer] = [{} for _ in range(layers)]
        self._shown: dict[str, ById] = {}

    def tenants(self) -> Iterable[str]:
        """Those that have an instance."""
        return self._shown.keys()

    def of(self, tenant: str) -> Mapping[str, Instance]:
        """The tenant's instances by id; do not keep it across changes."""
        return self._shown.get(tenant, _NOTHING)

    def hidden(self, layer: int) -> int:
        """How many instances of this layer an earlier one hides."""
        earlier = self._layers[:layer]
        return sum(
            any(identity in other.get(tenant, _NOTHING) for other in earlier)
            for tenant, instances in self._layers[layer].items()
            for identity in instances
        )

    def replace(self, layer: int, content: Layer) -> list[Delta]:
        """Put a layer's whole content and say what that changes, tenant by tenant."""
        before, self._layers[layer] = self._layers[layer], content
        deltas = (
            self._settle(tenant, _differing(before.get(tenant, _NOTHING), content.get(tenant, _NOTHING)))
            for tenant in sorted(before.keys() | content.keys())
        )
        return [delta for delta in deltas if delta is not None]

    def _settle(self, tenant: str, touched: Iterable[str]) -> Delta | None:
        shown = self._shown.setdefault(tenant, {})
        upserted: list[Instance] = []
        removed: list[str] = []
        for identity in touched:
            winner = self._winner(tenant, identity)
            if winner is None:
                if shown.pop(identity, None) is not None:
                    removed.append(identity)
            elif shown.get(identity) != winner:
                shown[identity] = winner
                upserted.append(winner)
        if not shown:
            del self._shown[tenant]
        if not upserted and not removed:
            return None
        return Delta(tenant, tuple(upserted), tuple(removed))

    def _winner(self, tenant: str, identity: str) -> Instance | None:
        for layer in self._layers:
            found = layer.get(tenant, _NOTHING).get(identity)
            if found is not None:
                return found
        return None


def _differing(before: ById, after: ById) -> list[str]:
    """Ids whose instance is not the same, sorted, so that equal inputs make equal deltas."""
    if before is after:
        return []
    changed = [identity for identity, one in after.items() if before.get(identity) is not one]
    return sorted([*changed, *(identity for identity in before if identity not in after)])
