"""What ``decide`` allows, worked out to what a client can see: statuses, instances and times.

An attempt is: each delay on its own, then the first abort whose dice fall, else the instance's own answer.
Attempts follow each other as the rule's retries say, and its timeout ends them all.
"""

from collections.abc import Iterator
from itertools import product

import msgspec

from amalgam8.routing.addressing import address
from amalgam8.routing.decide import Decision, Outcome, Refusal

REFUSED = {"unknown": 404, "denied": 403, "unavailable": 503}
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})
NEVER = 1e-9
"""Chances below this are dropped."""


class Chance(msgspec.Struct, frozen=True):
    """One thing that may come of a request. ``instances`` are those that may have answered: none or one."""

    probability: float
    status: int
    instances: tuple[str, ...] = ()
    seconds: float = 0.0
    reason: str = ""


def chances(
    decision: Decision, method: str = "GET", own_status: int = 200, took: float = 0.0
) -> list[Chance]:
    """All that may come of a request of this method, where instances answer so after ``took`` seconds."""
    if decision.refusal is not None:
        return [Chance(1.0, REFUSED[decision.refusal.kind], reason=reason(decision.refusal))]
    return [chance for outcome in decision.outcomes for chance in _of(outcome, method, own_status, took)]


def reason(refusal: Refusal) -> str:
    """The value of ``x-a8-reason``, where services are named as in paths."""
    service = refusal.service if refusal.kind == "unknown" else address(refusal.service)
    return f"{refusal.kind}; service={service}; rule={refusal.rule}"


def statuses(found: list[Chance]) -> dict[int, float]:
    """The share of each status."""
    return _sums((chance.status, chance.probability) for chance in found)


def instances(found: list[Chance]) -> dict[str, float]:
    """The share of each instance, of all requests; those that no instance answered are left out."""
    return _sums(
        (name, chance.probability / len(chance.instances)) for chance in found for name in chance.instances
    )


def _sums(pairs: Iterator[tuple[int, float]] | Iterator[tuple[str, float]]) -> dict:  # type: ignore[type-arg]
    found: dict[int | str, float] = {}
    for key, probability in pairs:
        found[key] = found.get(key, 0.0) + probability
    return found


def _of(outcome: Outcome, method: str, own_status: int, took: float) -> Iterator[Chance]:
    left = (outcome.retries or 0) if method in IDEMPOTENT else 0
    for probability, end, seconds in _tries(outcome, End(own_status, True), took, left, 0.0):
        share = probability * outcome.probability
        if share < NEVER:
            continue
        if end.answered and outcome.refusal is not None:
            yield Chance(share, REFUSED[outcome.refusal.kind], (), seconds, reason(outcome.refusal))
        else:
            yield Chance(share, end.status, outcome.instances if end.answered else (), seconds)


class End(msgspec.Struct, frozen=True):
    """How an attempt ends: with this status, by an instance (``answered``) or in its place."""

    status: int
    answered: bool = False

    @property
    def failed(self) -> bool:
        return self.status >= 500 or self.status == -1


def _tries(
    outcome: Outcome, own: End, took: float, left: int, before: float
) -> Iterator[tuple[float, End, float]]:
    """Probability, end and time of all that these attempts can come to."""
    for probability, end, seconds in _attempt(outcome, own, took):
        after = before + seconds
        missing = end.answered and outcome.refusal is not None
        if outcome.timeout and after > outcome.timeout:
            yield probability, End(504), outcome.timeout
        elif left and end.failed and not missing:
            for more, ended, at in _tries(outcome, own, took, left - 1, after):
                yield probability * more, ended, at
        else:
            yield probability, end, after


def _attempt(outcome: Outcome, own: End, took: float) -> Iterator[tuple[float, End, float]]:
    """Each way in which one attempt can go, those that look alike once."""
    found: dict[tuple[End, float], float] = {}
    for fallen in product((True, False), repeat=len(outcome.delays)):
        seconds, chance = 0.0, 1.0
        for (duration, probability), falls in zip(outcome.delays, fallen, strict=True):
            chance *= probability if falls else 1 - probability
            seconds += duration if falls else 0.0
        for status, probability in outcome.aborts:
            key = (End(status), seconds)
            found[key] = found.get(key, 0.0) + chance * probability
            chance *= 1 - probability
        key = (own, seconds if outcome.refusal else seconds + took)
        found[key] = found.get(key, 0.0) + chance
    return ((share, end, seconds) for (end, seconds), share in found.items() if share > NEVER)
