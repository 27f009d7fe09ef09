"""What the agent asks of a proxy, whichever it is.

The agent sets what it *desires*; the proxy's side says what the proxy process has *confirmed*. Neither
waits for the other, and a newer desire replaces one that was not confirmed yet. A third proxy is a
package beside ``envoy`` with a class of this shape, named in ``sidecar.main``.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from amalgam8.model.report import PlanStamp, RegistryStamp, Rejection
from amalgam8.routing.resolve import Routing
from amalgam8.runtime.latest import Latest


class Stamp(msgspec.Struct, frozen=True):
    """Which Plan and which state of the registry a Routing was made from."""

    plan: PlanStamp = PlanStamp()
    registry: RegistryStamp = RegistryStamp()


class Desired(msgspec.Struct, frozen=True):
    """The Routing to follow. A service that did not change is the same object as before."""

    routing: Routing = {}
    stamp: Stamp = Stamp()


class Confirmed(msgspec.Struct, frozen=True):
    """The newest stamp that the proxy follows in full, but for the destinations in ``rejected``."""

    stamp: Stamp
    rejected: tuple[Rejection, ...] = ()


class Demand(msgspec.Struct, frozen=True):
    """Calls that came to the limits of one rule since the proxy began, and those that passed them."""

    calls: int = 0
    passed: int = 0


class Leasing(Protocol):
    """What a proxy does for budgets that the fleet shares."""

    slices: Latest[Mapping[str, float]]
    """This sidecar's share of each budget that the fleet shares, by its name; followed at once, and no bucket
    is filled by it. Of a budget that is not named here the share is FIRST_SHARE."""

    async def demand(self) -> Mapping[str, Demand]:
        """Calls that came to limits of the fleet's budgets, by rule; empty while it cannot be told."""


class Proxy(Leasing, Protocol):
    """One proxy process and its configuration."""

    name: str
    desired: Latest[Desired]
    confirmed: Latest[Confirmed | None]
    """None until the process has taken its first configuration."""

    async def run(self) -> None:
        """Start the process, keep it running and configured; returns only when cancelled, then ends it.

        Raises:
            InvalidSetting: the proxy cannot start here (no binary, port in use), with a sentence.
        """

    def traces(self) -> list[dict[str, Any]]:
        """The newest access records of traced calls, oldest first."""

    async def metrics(self) -> bytes:
        """The proxy's own figures in the Prometheus text format, for the agent's ``/metrics``.

        ``sidecar.counts`` reads there how much was called and how it went, and says which series it needs.
        """
