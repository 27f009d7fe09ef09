"""The document of ``GET /uptime``: whether the registry is well, and what it is.

Wire format: component → ``{"healthy", "properties"}``, as the original's. It is for everybody to see, so it
tells totals only, never a tenant's.
"""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from amalgam8.registry.store import Store


def uptime(store: Store, seconds: float) -> dict[str, Any]:
    """Component ``UPTIME`` of a registry that has been up for this long."""
    load = os.getloadavg()
    views = [store.view(tenant) for tenant in list(store.tenants())]
    properties = {
        "uptime": go_duration(seconds),
        "load_1m": load[0],
        "load_5m": load[1],
        "load_15m": load[2],
        "build_version": _version(),
        "build_revision": "unknown",
        "build_date": "unknown",
        "build_goversion": f"python{platform.python_version()}",
        "epoch": store.epoch,
        "revision": sum(view.feed.revision for view in views),
        "instances": sum(len(view) for view in views),
    }
    return {"UPTIME": {"healthy": True, "properties": properties}}


def go_duration(seconds: float) -> str:
    """A duration as Go writes it: ``1h2m3.5s``."""
    hours, rest = divmod(round(seconds, 6), 3600)
    minutes, left = divmod(rest, 60)
    text = f"{left:.6f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours:.0f}h{minutes:.0f}m{text}"
    return f"{minutes:.0f}m{text}" if minutes else text


def _version() -> str:
    try:
        return version("amalgam8")
    except PackageNotFoundError:
        return "unknown"
