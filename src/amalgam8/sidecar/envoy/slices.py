"""This sidecar's share of budgets that the fleet shares, told to Envoy without touching its buckets.

A new share must not fill a bucket, so it never changes one. The bucket holds the whole budget in small
TOKENS, and what changes is what a call costs: the smaller the share, the more. The costs stand in a filter of
their own, which notes them on each call; Envoy reads it from a file, which the agent replaces. Sources:
``envoy.config.route.v3.RateLimit.hits_addend``, extension configuration by ``path_config_source``.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from envoy.extensions.filters.http.set_metadata.v3 import set_metadata_pb2

from amalgam8.sidecar.envoy.messages import NAMESPACE, SLICES, packed

TOKENS = 400
"""What a call costs where this sidecar's share is all of it."""

FIRST_COST = "cost"
"""Where a limit notes the cost for a share that nobody told yet."""

COST_LIMIT = 1_000_000_000
"""Envoy's limit; more than any bucket holds, so no call passes."""

_SET_METADATA = "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config"
_EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"


def short(budget: str) -> str:
    """A name for a budget that can stand in a format string."""
    return hashlib.sha256(budget.encode()).hexdigest()[:16]


def cost(share: float) -> int:
    """Tokens for one call."""
    return min(round(TOKENS / share), COST_LIMIT) if share > TOKENS / COST_LIMIT else COST_LIMIT


def cost_format(budget: str) -> str:
    """Where Envoy finds the cost, for ``hits_addend``; what nobody told yet is noted by the limit itself."""
    places = (f"{SLICES}:{short(budget)}", f"{NAMESPACE}:{FIRST_COST}")
    operators = [{"command": "DYNAMIC_METADATA", "param": param} for param in places]
    return f"%COALESCE({json.dumps({'operators': operators})})%"


def source(file: Path) -> dict[str, Any]:
    """Where the filter comes from that limits of the fleet turn on: no costs, until the file says some."""
    return {
        "config_source": {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"},
        "default_config": packed(set_metadata_pb2.Config()),
        "apply_default_config_without_warming": True,
        "type_urls": [_SET_METADATA],
    }


def write(file: Path, shares: Mapping[str, float]) -> None:
    """Replace the file, which Envoy notices by the name that moves; its folder is made if it is not there."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    costs = {short(budget): str(cost(share)) for budget, share in sorted(shares.items())}
    body = msgspec.json.encode(costs)
    document = {
        "version_info": hashlib.sha256(body).hexdigest()[:16],
        "resources": [
            {
                "@type": _EXTENSION,
                "name": SLICES,
                "typed_config": {
                    "@type": _SET_METADATA,
                    "metadata": [{"metadata_namespace": SLICES, "allow_overwrite": True, "value": costs}],
                },
            }
        ],
    }
    fresh = file.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(document))
    fresh.chmod(0o600)
    fresh.replace(file)
