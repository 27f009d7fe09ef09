"""How the calls of one route are shared between its versions.

Each version is a route of its own behind one throw of dice. Envoy's clusters with weights do the same and
cost a call more, so they only stand where something else has to choose: the hash of an affinity, a share so
small that no dice of Envoy have it, or beside copies of some calls.

Envoy throws once for each call, and all dice are the remainder of that number by what they count to. So what
is decided side by side looks at different digits of it: weights at two that copies do not see, and each copy
at two of its own, as long as shares are whole percents.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from envoy.config.route.v3 import route_components_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from amalgam8.model.rule import Affinity
from amalgam8.routing.resolve import SHARES
from amalgam8.sidecar.envoy.faults import percentage
from amalgam8.sidecar.envoy.messages import NEXT_HEADER

DICE = 1_000_000
"""What Envoy can tell apart in one throw: FractionalPercent, MILLION."""

_COUNTS = ((DICE, "MILLION"), (10_000, "TEN_THOUSAND"), (100, "HUNDRED"))
_SMALLEST = SHARES // DICE
_AUTHORITY = {"host": ":authority"}


class Share(msgspec.Struct, frozen=True):
    """``weight`` parts of SHARES go to ``cluster``, by the pass of this name if there is one."""

    cluster: str
    weight: int
    filters: dict[str, AnyMessage]
    leads: str = ""


def shared(message: Any, shares: Sequence[Share], affinity: Affinity | None = None) -> list[Any]:
    """Routes like ``message``, in the order in which they are asked, of which each call meets one."""
    if len(shares) > 1 and (
        affinity is not None or _some_are_copied(message) or min(share.weight for share in shares) < _SMALLEST
    ):
        return [_weighted(message, shares, affinity)]
    routes: list[Any] = []
    reached = 0
    for share in shares:
        reached += share.weight
        route = message
        if share is not shares[-1]:
            route = route_components_pb2.Route()
            route.CopyFrom(message)
            dice = percent_pb2.FractionalPercent(numerator=reached // _SMALLEST, denominator="MILLION")
            route.match.runtime_fraction.default_value.CopyFrom(dice)
        route.route.cluster = share.cluster
        _differ(route, share)
        routes.append(route)
    return routes


def thrown(probabilities: Sequence[float]) -> list[Any]:
    """A FractionalPercent for each, which fall apart from each other where they can (see above)."""
    finer = iter(_COUNTS)
    found: list[Any] = []
    for probability in probabilities:
        dice = percentage(probability)
        if probability < 1:
            count, name = next(finer, _COUNTS[0])
            share = round(probability * DICE) * count / DICE
            if share.is_integer() and share:
                dice = percent_pb2.FractionalPercent(numerator=int(share), denominator=name)
        found.append(dice)
    return found


def _some_are_copied(message: Any) -> bool:
    policies = message.route.request_mirror_policies
    return any(policy.runtime_fraction.default_value != percentage(1) for policy in policies)


def _weighted(message: Any, shares: Sequence[Share], affinity: Affinity | None) -> Any:
    clusters = message.route.weighted_clusters
    for share in shares:
        _differ(clusters.clusters.add(name=share.cluster, weight={"value": share.weight}), share)
    if affinity is not None:
        clusters.use_hash_policy.value = True
        if affinity.header:
            name = affinity.header.lower()
            message.route.hash_policy.add(header={"header_name": _AUTHORITY.get(name, name)})
        else:
            message.route.hash_policy.add(cookie={"name": affinity.cookie})
    return message


def _differ(where: Any, share: Share) -> None:
    """Say of a Route, or of a cluster with a weight, what is so for one version only."""
    for place, config in share.filters.items():
        where.typed_per_filter_config[place].CopyFrom(config)
    if share.leads:
        where.request_headers_to_add.add(
            header={"key": NEXT_HEADER, "value": share.leads}, append_action="OVERWRITE_IF_EXISTS_OR_ADD"
        )
