"""The agent's own figures in the Prometheus text format, version 0.0.4.

Written by hand: the agent counts a dozen things, and a client library would cost each sidecar more
memory than all that it knows of 50 services. Refuses to keep anything: figures are read when asked for.
"""

from collections.abc import Iterable, Mapping

import msgspec

HELP = {
    "a8_sidecar_uptime_seconds": "Seconds since the agent started.",
    "a8_sidecar_registered": "Whether the registry knew the instance when it last answered.",
    "a8_sidecar_registrations_total": "Attempts to register.",
    "a8_sidecar_heartbeats_total": "Attempts to renew the lease.",
    "a8_sidecar_registry_failures_total": "Registrations and renewals that failed.",
    "a8_sidecar_stream_connected": "Whether the watch stream is open.",
    "a8_sidecar_stream_age_seconds": "How long the stream has been lost; 0 while it is open.",
    "a8_sidecar_stream_lost_total": "How often the stream was lost.",
    "a8_sidecar_plan_revision": "The controller's revision that is desired, and that the proxy confirmed.",
    "a8_sidecar_registry_revision": "The registry's revision that is desired, and that the proxy confirmed.",
    "a8_sidecar_rejected_destinations": "Destinations whose configuration the proxy refused.",
    "a8_sidecar_services": "Services that can be called by name.",
    "a8_sidecar_rules_destinations": "Destinations that have rules for this sidecar.",
    "a8_sidecar_instances": "Instances known, in any status.",
    "a8_sidecar_instances_held": "Instances kept that the registry has forgotten with its memory.",
    "a8_sidecar_resolutions_total": "Times that rules and instances were joined.",
    "a8_sidecar_resolution_seconds_total": "Seconds spent on that.",
    "a8_sidecar_reports_total": "Reports to the controller.",
}
"""Every figure of the agent and what it means."""


class Figure(msgspec.Struct, frozen=True):
    """One sample; ``name`` stands in HELP, ``kind`` is ``gauge`` or ``counter``."""

    name: str
    kind: str
    value: float
    labels: Mapping[str, str] = {}


def exposition(figures: Iterable[Figure], meanings: Mapping[str, str] = HELP) -> bytes:
    """The text of all figures, each name's samples together; ``meanings`` by name."""
    by_name: dict[str, list[Figure]] = {}
    for figure in figures:
        by_name.setdefault(figure.name, []).append(figure)
    lines = []
    for name, samples in by_name.items():
        lines += [f"# HELP {name} {meanings[name]}", f"# TYPE {name} {samples[0].kind}"]
        lines += [f"{name}{_labels(sample.labels)} {float(sample.value):.15g}" for sample in samples]
    return "".join(line + "\n" for line in lines).encode()


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
