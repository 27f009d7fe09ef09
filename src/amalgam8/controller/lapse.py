"""Ends rules whose time is over and undoes changes that nobody confirmed: each a revision of its own.

Sidecars stop following a lapsed rule by themselves, at the very moment; that only tidies up. What waits to
be confirmed stands in the store, so a controller that starts again undoes what is overdue. Never more than
TICK late. A store that fails is tried again.
"""

import asyncio

from amalgam8.controller import rulebook, undo
from amalgam8.controller.tenants import Tenant, Tenants
from amalgam8.model.errors import StoreUnavailable
from amalgam8.runtime.logs import Log

TICK = 1.0
"""Seconds between looks at the clock, which may have been set meanwhile, and at new rules."""

SHORTEST = 0.01

_log = Log("lapse")


async def follow(tenants: Tenants) -> None:
    """Sweep whenever something is over; runs until it is cancelled."""
    while True:
        await asyncio.sleep(pause(tenants))
        await tenants.open()  # another controller on the same store may have made some
        await sweep(tenants)


def pause(tenants: Tenants) -> float:
    """Seconds until the next look."""
    dues = [due for tenant in tenants.known() if (due := tenant.mirror.book.next_due) is not None]
    return min(max(min(dues) - tenants.now(), SHORTEST), TICK) if dues else TICK


async def sweep(tenants: Tenants) -> None:
    """End what is over by now, in every tenant."""
    for tenant in tenants.known():
        due = tenant.mirror.book.next_due
        if due is None or due > tenants.now():
            continue
        try:
            await _tidy(tenants, tenant)
        except StoreUnavailable as error:
            _log.warning("what is over could not be removed", tenant=tenant.name, error=error)
            await asyncio.sleep(TICK)


async def _tidy(tenants: Tenants, tenant: Tenant) -> None:
    """Undo first: what is put back may have lapsed meanwhile, and is not put back then."""
    while (change := await tenants.write(tenant, undo.revert)) is not None:
        _log.warning(
            "a change was not confirmed and is undone",
            tenant=tenant.name,
            undone=change.about[0],
            revision=change.revision,
        )
    if (change := await tenants.write(tenant, rulebook.lapse)) is not None:
        ended = ", ".join(rule.id for rule in change.before)
        _log.info("rules lapsed", tenant=tenant.name, rules=ended, revision=change.revision)
