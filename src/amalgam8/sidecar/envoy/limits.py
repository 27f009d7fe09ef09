"""Rate limits of one sidecar: token buckets that refill without steps.

A limit by header has a bucket for each value, BUCKETS at the most; calls without the header share one.
The least recently used bucket is forgotten, and starts full again.
"""

from datetime import timedelta
from math import ceil
from typing import Any

from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from amalgam8.routing.plan import LimitEntry, PlanLimit
from amalgam8.sidecar.envoy.choices import noted
from amalgam8.sidecar.envoy.messages import LIMIT, packed

BUCKETS = 10_000
_SHORTEST = 0.05
"""Envoy's shortest time between refills, in seconds; within it, tokens come by and by all the same."""

_NO_LIMIT = {
    "max_tokens": 2**32 - 1,
    "tokens_per_fill": {"value": 2**32 - 1},
    "fill_interval": timedelta(seconds=1),
}
_ALWAYS = {"default_value": {"numerator": 100}}


def limit_filters(entry: LimitEntry) -> list[AnyMessage]:
    """The filters of a limit entry. A call that one of its limits refuses gets 429."""
    config = local_rate_limit_pb2.LocalRateLimit(
        stat_prefix=LIMIT,
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        token_bucket=_NO_LIMIT,
        always_consume_default_token_bucket={"value": False},
        max_dynamic_descriptors={"value": BUCKETS},
        response_headers_to_add=[
            {"header": {"key": "retry-after", "value": str(_retry_after(entry))}},
        ],
    )
    for position, limit in enumerate(entry.limits):
        key = f"limit-{position}"
        bucket = token_bucket(limit)
        if not limit.header:
            config.rate_limits.add(actions=[_generic(key, "all")])
            config.descriptors.add(entries=[{"key": key, "value": "all"}], token_bucket=bucket)
            continue
        name = ":authority" if limit.header == "host" else limit.header
        config.rate_limits.add(
            actions=[{"request_headers": {"header_name": name, "descriptor_key": f"{key}-value"}}]
        )
        config.descriptors.add(entries=[{"key": f"{key}-value"}], token_bucket=bucket)
        absent = {"name": name, "present_match": True, "invert_match": True}
        config.rate_limits.add(
            actions=[
                {
                    "header_value_match": {
                        "descriptor_key": key,
                        "descriptor_value": "absent",
                        "headers": [absent],
                    }
                }
            ]
        )
        config.descriptors.add(entries=[{"key": key, "value": "absent"}], token_bucket=bucket)
    return [noted(limit=entry.rule), packed(config)]


def token_bucket(limit: PlanLimit) -> dict[str, Any]:
    """Envoy's bucket of ``requests`` + ``burst``, at least one."""
    step = max(1, ceil(_SHORTEST * limit.requests / limit.per))
    return {
        "max_tokens": max(1, int(limit.requests + limit.burst)),
        "tokens_per_fill": {"value": step},
        "fill_interval": timedelta(seconds=step * limit.per / limit.requests),
    }


def _generic(key: str, value: str) -> dict[str, Any]:
    return {"generic_key": {"descriptor_key": key, "descriptor_value": value}}


def _retry_after(entry: LimitEntry) -> int:
    """Whole seconds after which one more call would surely pass, if nobody else called."""
    return max(1, ceil(max(limit.per / limit.requests for limit in entry.limits)))
