"""Ends rules whose time is over: a lapse is a revision of its own, like any other write.

Sidecars stop following a lapsed rule by themselves, at the very moment; this only tidies up, and is
never more than TICK late. A store that fails is tried again.
"""

import asyncio

from amalgam8.controller.rulebook import lapse
from amalgam8.controller.tenants import Tenants
from amalgam8.model.errors import StoreUnavailable
from amalgam8.runtime.logs import Log

TICK = 1.0
"""Seconds between looks at the clock, which may have been set meanwhile, and at new rules."""

SHORTEST = 0.01

_log = Log("lapse")


async def follow(tenants: Tenants) -> None:
    """Sweep whenever a rule lapses; runs until it is cancelled."""
    while True:
        await asyncio.sleep(pause(tenants))
        await sweep(tenants)


def pause(tenants: Tenants) -> float:
    """Seconds until the next look."""
    dues = [due for tenant in tenants.known() if (due := tenant.mirror.book.next_lapse) is not None]
    return min(max(min(dues) - tenants.now(), SHORTEST), TICK) if dues else TICK


async def sweep(tenants: Tenants) -> None:
    """Remove what has lapsed by now, one revision per tenant."""
    for tenant in tenants.known():
        due = tenant.mirror.book.next_lapse
        if due is None or due > tenants.now():
            continue
        try:
            change = await tenants.write(tenant, lapse)
        except StoreUnavailable as error:
            _log.warning("lapsed rules could not be removed", tenant=tenant.name, error=error)
            await asyncio.sleep(TICK)
            continue
        if change is not None:
            ended = ", ".join(rule.id for rule in change.before)
            _log.info("rules lapsed", tenant=tenant.name, rules=ended, revision=change.revision)
