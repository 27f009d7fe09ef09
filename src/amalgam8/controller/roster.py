"""Stores who the sidecars are, soon after they come: a controller that starts again expects them.

Without it, a rule would count as applied everywhere in the moment between a start of the controller and
the return of the first sidecar. What comes within PAUSE goes into one write. A store that fails is tried
again; nothing is lost but what a crash takes within that time.
"""

import asyncio

from amalgam8.controller.tenants import Tenants
from amalgam8.model.errors import StoreUnavailable
from amalgam8.runtime.logs import Log

PAUSE = 0.5
"""Seconds between looks."""

_log = Log("roster")


async def follow(tenants: Tenants) -> None:
    """Store news of sidecars; runs until it is cancelled."""
    while True:
        await asyncio.sleep(PAUSE)
        await store(tenants)


async def store(tenants: Tenants) -> None:
    """Store what is news now, for every tenant."""
    for tenant in tenants.known():
        try:
            await tenants.remember(tenant)
        except StoreUnavailable as error:
            _log.warning("sidecars could not be stored", tenant=tenant.name, error=error)
