"""Shares budgets out anew, a moment after sidecars said what they want: many reports are one look.

Runs beside the API, since a share may shrink while its sidecar says nothing.
"""

import asyncio
from collections.abc import Callable

from amalgam8.controller.tenants import Tenants

PAUSE = 0.1
"""Seconds between looks."""


async def follow(tenants: Tenants, clock: Callable[[], float]) -> None:
    """Look again and again; runs until it is cancelled."""
    while True:
        await asyncio.sleep(PAUSE)
        settle(tenants, clock())


def settle(tenants: Tenants, now: float) -> None:
    """Share out what changed in any tenant."""
    for tenant in tenants.known():
        if tenant.limits.shared:
            tenant.limits.settle(now)
