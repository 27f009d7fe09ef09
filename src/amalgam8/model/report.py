"""What a sidecar tells the controller about itself: what its *proxy* confirmed.

Wire format: ``PUT /v1/sidecars/{id}`` (``docs/reference/controller-api.md``). Refuses to judge: whether
that is the newest state is the controller's to say.
"""

import msgspec

from amalgam8.model.traffic import Traffic


class PlanStamp(msgspec.Struct, frozen=True):
    """The Plan that the proxy confirmed: the controller's revision and hash as its stream gave them."""

    revision: int = 0
    hash: str = ""


class RegistryStamp(msgspec.Struct, frozen=True):
    """The state of the instances that the proxy confirmed."""

    epoch: str = ""
    revision: int = 0


class Rejection(msgspec.Struct, frozen=True):
    """A destination whose configuration the proxy refused, with the proxy's own words."""

    destination: str
    reason: str


class SidecarReport(msgspec.Struct, frozen=True):
    """One report, sent on every change and every 15 s.

    ``leaving``: the last one; the proxy is about to end, so nobody need wait for this sidecar any more.
    ``traffic`` None: not counted since the last one.
    """

    key: str
    service: str
    tags: tuple[str, ...] = ()
    proxy: str = ""
    plan: PlanStamp = PlanStamp()
    registry: RegistryStamp = RegistryStamp()
    rejected: tuple[Rejection, ...] = ()
    leaving: bool = False
    traffic: Traffic | None = None


class ReportAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """``report_in``: seconds until the controller would like the next one, None: when it is due anyway."""

    report_in: float | None = None
