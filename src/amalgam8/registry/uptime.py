"""The document of ``GET /uptime``: whether the registry is well, and what it is.

Wire format: component → ``{"healthy", "properties"}``, as the original's. It is for everybody to see, so it
tells totals only, never a tenant's.
"""

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from typing import Any

from amalgam8.catalogs.following import State
from amalgam8.registry.store import Store

UNREAD_FOR = 600.0
"""Seconds after which a catalogue that cannot be read is unwell, and the registry with it; until then what
it told before is good enough."""


def uptime(store: Store, seconds: float, catalogs: Iterable[State] = (), frozen: int = 0) -> dict[str, Any]:
    """Component ``UPTIME`` of a registry up for this long, ``EXPIRY``, and one for each catalogue.

    ``frozen`` tenants' leases are not ended just now, since too many of them are late.
    """
    load = os.getloadavg()
    views = [store.view(tenant) for tenant in list(store.tenants())]
    properties = {
        "uptime": go_duration(seconds),
        "load_1m": load[0],
        "load_5m": load[1],
        "load_15m": load[2],
        "build_version": version(),
        "build_revision": "unknown",
        "build_date": "unknown",
        "build_goversion": f"python{platform.python_version()}",
        "epoch": store.epoch,
        "revision": sum(view.feed.revision for view in views),
        "instances": sum(len(view) for view in views),
    }
    return {
        "UPTIME": {"healthy": True, "properties": properties},
        "EXPIRY": {"healthy": True, "properties": {"frozen_tenants": frozen}},
        **{f"CATALOG_{state.name.upper()}": _catalog(state, seconds) for state in catalogs},
    }


def _catalog(state: State, seconds: float) -> dict[str, Any]:
    """What everybody may know of a catalogue: its reason, which may name tenants, is in the log only."""
    unread = seconds if state.age is None else state.age
    properties = {
        "readable": state.healthy,
        "age": None if state.age is None else round(state.age, 3),
        "instances": state.instances,
        "hidden": state.hidden,
        "refused": state.refused,
        "failures": state.failures,
    }
    return {"healthy": state.healthy or unread <= UNREAD_FOR, "properties": properties}


def go_duration(seconds: float) -> str:
    """A duration as Go writes it: ``1h2m3.5s``."""
    hours, rest = divmod(round(seconds, 6), 3600)
    minutes, left = divmod(rest, 60)
    text = f"{left:.6f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours:.0f}h{minutes:.0f}m{text}"
    return f"{minutes:.0f}m{text}" if minutes else text


def version() -> str:
    """Of this program, as installed."""
    try:
        return metadata.version("amalgam8")
    except metadata.PackageNotFoundError:
        return "unknown"
