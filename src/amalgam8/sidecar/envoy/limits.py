"""Rate limits: token buckets of this sidecar that refill without steps.

A tree on each row notes which entry applies; the buckets themselves stand once for all rows, hosts and
paths, in filters of their own, and are found by what was noted. A limit by header has a bucket for each
value, VALUES at the most; calls without the header share one. The least recently used bucket is forgotten,
and starts full again. Envoy gets those filters as resources of their own, and each has the limits of some
services: so buckets start anew where limits of the same filter change, and whatever else changes, stay.
What a call costs of a budget that the fleet shares is said by ``slices``.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import timedelta
from math import ceil
from typing import Any

import msgspec
from envoy.config.core.v3 import extension_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from amalgam8.model.slices import FIRST_SHARE
from amalgam8.routing.plan import LimitEntry, PlanLimit
from amalgam8.sidecar.envoy.choices import noted
from amalgam8.sidecar.envoy.messages import (
    BUCKETS,
    NAMESPACE,
    SHARED,
    Resource,
    packed,
    resource,
    serialized,
)
from amalgam8.sidecar.envoy.slices import FIRST_COST, TOKENS, cost, cost_format, short

VALUES = 10_000
_SHORTEST = 0.05
"""Envoy's shortest time between refills, in seconds; within it, tokens come by and by all the same."""

_NO_LIMIT = {
    "max_tokens": 2**32 - 1,
    "tokens_per_fill": {"value": 2**32 - 1},
    "fill_interval": timedelta(seconds=1),
}
_ALWAYS = {"default_value": {"numerator": 100}}
_WITHOUT = "without"
_STAT = "a8.bucket"


class Bucket(msgspec.Struct, frozen=True, order=True):
    """A limit of one service: where its bucket is, its name, its place in its entry, and the limit itself."""

    where: str
    name: str
    place: int
    requests: float
    per: float
    burst: float
    header: str
    budget: str = ""


def buckets(service: str, entries: Sequence[LimitEntry]) -> tuple[Bucket, ...]:
    """All limits of a service."""
    return tuple(
        Bucket(
            bucket_filter(service),
            _name(service, entry, place),
            place,
            limit.requests,
            limit.per,
            limit.burst,
            limit.header,
            limit.budget,
        )
        for entry in entries
        for place, limit in enumerate(entry.limits)
    )


def limit_filters(service: str, entry: LimitEntry) -> list[AnyMessage]:
    """The filters of a limit entry: they say which buckets a call takes from."""
    names = {
        _key(place, limit.budget): _name(service, entry, place) for place, limit in enumerate(entry.limits)
    }
    if any(limit.budget for limit in entry.limits):
        names |= {SHARED: entry.rule, FIRST_COST: str(cost(FIRST_SHARE))}
    return [noted(limit=entry.rule, retry=str(_retry_after(entry)), **names)]


def bucket_filter(service: str) -> str:
    """The filter that has the buckets of a service."""
    return BUCKETS[hashlib.blake2b(service.encode(), digest_size=1).digest()[0] % len(BUCKETS)]


def bucket_resources(found: Iterable[Bucket]) -> dict[str, Resource]:
    """The filters with all these buckets, by name."""
    limits = sorted(set(found))
    return {name: _resource(name, [limit for limit in limits if limit.where == name]) for name in BUCKETS}


def _resource(name: str, limits: Sequence[Bucket]) -> Resource:
    config = bucket_config(limits)
    return resource(name, serialized(extension_pb2.TypedExtensionConfig(name=name, typed_config=config)))


def bucket_config(limits: Sequence[Bucket]) -> AnyMessage:
    """The configuration of one filter. Refused calls get 429."""
    if not limits:
        return packed(local_rate_limit_pb2.LocalRateLimit(stat_prefix=_STAT))
    retry = {"key": "retry-after", "value": f"%DYNAMIC_METADATA({NAMESPACE}:retry)%"}
    config = local_rate_limit_pb2.LocalRateLimit(
        stat_prefix=_STAT,
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        token_bucket=_NO_LIMIT,
        always_consume_default_token_bucket={"value": False},
        max_dynamic_descriptors={"value": VALUES},
        response_headers_to_add=[{"header": retry}],
    )
    for place, budget in sorted({(limit.place, limit.budget) for limit in limits if limit.budget}):
        addend = {"format": cost_format(budget)}
        config.rate_limits.add(actions=[_noted(_key(place, budget))], hits_addend=addend)
    for place, header in sorted({(limit.place, limit.header) for limit in limits if not limit.budget}):
        here = _noted(_key(place))
        if not header:
            config.rate_limits.add(actions=[here])
            continue
        name = ":authority" if header == "host" else header
        config.rate_limits.add(
            actions=[here, {"request_headers": {"header_name": name, "descriptor_key": header}}]
        )
        absent = {"name": name, "present_match": True, "invert_match": True}
        without = {"descriptor_key": _WITHOUT, "descriptor_value": header, "headers": [absent]}
        config.rate_limits.add(actions=[here, {"header_value_match": without}])
    for limit in limits:
        first = {"key": _key(limit.place, limit.budget), "value": limit.name}
        bucket = token_bucket(
            PlanLimit(limit.requests, limit.per, limit.burst), TOKENS if limit.budget else 1
        )
        if not limit.header:
            config.descriptors.add(entries=[first], token_bucket=bucket)
            continue
        config.descriptors.add(entries=[first, {"key": limit.header}], token_bucket=bucket)
        config.descriptors.add(entries=[first, {"key": _WITHOUT, "value": limit.header}], token_bucket=bucket)
    return packed(config)


def token_bucket(limit: PlanLimit, tokens: int = 1) -> dict[str, Any]:
    """Envoy's bucket of ``requests`` + ``burst``, at least one; each makes so many ``tokens``."""
    step = max(1, ceil(_SHORTEST * limit.requests * tokens / limit.per))
    return {
        "max_tokens": max(1, int(limit.requests + limit.burst)) * tokens,
        "tokens_per_fill": {"value": step},
        "fill_interval": timedelta(seconds=step * limit.per / limit.requests / tokens),
    }


def _key(place: int, budget: str = "") -> str:
    """Under which the bucket's name is noted; a budget has a key of its own, since its calls have a price."""
    return f"shared-{short(budget)}" if budget else f"limit-{place}"


def _noted(key: str) -> dict[str, Any]:
    return {"metadata": {"descriptor_key": key, "metadata_key": {"key": NAMESPACE, "path": [{"key": key}]}}}


def _name(service: str, entry: LimitEntry, place: int) -> str:
    return f"{service}/{entry.rule}/{place}"


def _retry_after(entry: LimitEntry) -> int:
    """Whole seconds after which one more call would surely pass, if nobody else called."""
    return max(1, ceil(max(limit.per / limit.requests for limit in entry.limits)))
