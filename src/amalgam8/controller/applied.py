"""Waits until a revision is applied in every sidecar that it concerns, or the time is over.

Wakes when sidecars report, and then gathers for a moment what else comes, so that a thousand reports are
not a thousand looks. Refuses to wait without a limit.
"""

import asyncio
import contextlib
from collections.abc import Callable

from amalgam8.controller.book import Change
from amalgam8.controller.ledger import Moment, Verdict, concern_of
from amalgam8.controller.tenants import Tenant

GATHER = 0.01
"""Seconds between a report and the next look."""

LOOK_AGAIN = 1.0
"""Seconds without a report after which there is a look nevertheless: time alone makes a sidecar gone."""

WAIT_LIMIT = 300.0
"""Seconds that a write may be asked to wait."""


async def until_applied(
    tenant: Tenant, change: Change, within: float, moment: Callable[[], Moment]
) -> Verdict:
    """The verdict once nobody is missing, or the last one ``within`` seconds."""
    loop = asyncio.get_running_loop()
    concern = concern_of([*change.before, *change.after])
    limit = loop.time() + min(within, WAIT_LIMIT)
    while True:
        version = tenant.fleet.moved.version
        applied = tenant.ledger.applied(change, moment(), concern)
        left = limit - loop.time()
        if applied or left <= 0:
            return tenant.ledger.verdict(change, moment(), concern)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left, LOOK_AGAIN)):
                await tenant.fleet.moved.newer(version)
                await asyncio.sleep(GATHER)
