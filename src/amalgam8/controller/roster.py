"""Stores who the sidecars are, and tells other controllers on the same store what they report.

Without the first, a rule would count as applied everywhere in the moment between a start of the controller
and the return of the first sidecar. What comes within a pause goes into one write. A store that fails is
tried again; nothing is lost but what a crash takes within that time.
"""

import asyncio

from amalgam8.controller.tenants import Tenants
from amalgam8.model.errors import StoreUnavailable
from amalgam8.runtime.logs import Log

PAUSE = 0.5
"""Seconds between looks at who the sidecars are."""

TELL_PAUSE = 0.02
"""Seconds for which reports are gathered before other controllers are told."""

_log = Log("roster")


async def follow(tenants: Tenants) -> None:
    """Store news of sidecars; runs until it is cancelled."""
    while True:
        await asyncio.sleep(PAUSE)
        await store(tenants)


async def share(tenants: Tenants) -> None:
    """Tell the other controllers on the store what sidecars report here; runs until it is cancelled."""
    while True:
        await asyncio.sleep(TELL_PAUSE)
        for tenant in tenants.known():
            try:
                await tenants.tell(tenant)
            except StoreUnavailable as error:
                _log.warning("other controllers could not be told", tenant=tenant.name, error=error)
                await asyncio.sleep(PAUSE)


async def store(tenants: Tenants) -> None:
    """Store what is news now, for every tenant."""
    for tenant in tenants.known():
        try:
            await tenants.remember(tenant)
        except StoreUnavailable as error:
            _log.warning("sidecars could not be stored", tenant=tenant.name, error=error)
