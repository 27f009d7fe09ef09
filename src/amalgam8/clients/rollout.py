"""What is called, and rollouts, as the controller answers them. Nouns of ``clients.controller``.

Wire format: ``docs/reference/controller-api.md``.
"""

from typing import Any

import msgspec


class Rate(msgspec.Struct, frozen=True):
    """Calls to one version of late: per second, the share that failed, and latencies in seconds."""

    service: str
    version: tuple[str, ...]
    requests_per_second: float
    error_rate: float
    p50: float | None
    p99: float | None


class TrafficNow(msgspec.Struct, frozen=True):
    """What is called now, as ``sidecars`` that report count it."""

    traffic: tuple[Rate, ...]
    sidecars: int


class RolloutEvent(msgspec.Struct, frozen=True):
    at: str
    text: str


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout; ``share`` in percent, times in seconds, ``now`` how its present interval is going."""

    id: str
    service: str
    version: tuple[str, ...]
    old: tuple[str, ...]
    steps: tuple[float, ...]
    interval: float
    max_errors: float
    max_p99: float | None
    min_requests: int
    state: str
    share: float
    reason: str
    author: str
    created: str
    ended: str
    events: tuple[RolloutEvent, ...]
    now: dict[str, Any] | None = None


class Rollouts(msgspec.Struct, frozen=True):
    rollouts: tuple[Rollout, ...]
