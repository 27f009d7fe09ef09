"""How sidecars and the controller share a budget of calls: what is wanted, and who gets which share.

Wire format: ``PUT /v1/sidecars/{id}/limits`` and the stream's event ``slices``
(``docs/reference/streams.md``). A share is a part of the limit's own figures, 1 for all of it. Refuses to
know how shares are worked out.
"""

import msgspec

BUDGETS_LIMIT = 256
"""Budgets of one sidecar."""

NAME_LIMIT = 256
"""Bytes of a budget's name."""

FIRST_SHARE = 0.1
"""A sidecar's share of a budget of which it was never told."""


class Wanted(msgspec.Struct, frozen=True, array_like=True):
    """One budget: calls that came in a second of late, those that passed since the agent began, the share."""

    budget: str
    rate: float
    passed: int
    share: float


class SliceReport(msgspec.Struct, frozen=True):
    """What a sidecar wants; ``epoch`` names its agent's start."""

    key: str
    epoch: str
    budgets: tuple[Wanted, ...]


class Slices(msgspec.Struct, frozen=True):
    """The sidecar's shares by budget; ``every``: seconds between two reports while calls come."""

    slices: dict[str, float] = {}
    every: float = 0.25


def problem(report: SliceReport) -> str | None:
    """Why these cannot be a sidecar's, or None."""
    if len(report.budgets) > BUDGETS_LIMIT or len(report.epoch) > NAME_LIMIT:
        return f"budgets: at most {BUDGETS_LIMIT} are shared by one sidecar"
    for i, wanted in enumerate(report.budgets):
        if len(wanted.budget.encode()) > NAME_LIMIT:
            return f"budgets[{i}]: a name holds at most {NAME_LIMIT} bytes"
        if not (0 <= wanted.rate < 1e12 and 0 <= wanted.passed < 2**53 and 0 <= wanted.share <= 1000):
            return f"budgets[{i}]: a rate, a count or a share that cannot be"
    return None
