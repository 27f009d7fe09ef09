"""Delays and aborts, laid out over the fault filters of the chain.

All delays whose dice fall happen, then the first abort whose dice fall ends the call. One filter does at
most one delay and then one abort, so several stand in a row. What needs no dice takes no filter of its
own: certain delays add up, and nothing follows a certain abort.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.type.v3 import percent_pb2

from amalgam8.routing.plan import PlanAbort, PlanDelay
from amalgam8.sidecar.envoy.messages import FAULTS, SLOTS, packed

_MILLION = 1_000_000


class Unrenderable(Exception):
    """A destination asks for something that this configuration of Envoy cannot do; the text says what."""


def fault_config(delays: Iterable[PlanDelay], aborts: Iterable[PlanAbort]) -> dict[str, Any]:
    """``typed_per_filter_config`` that enables the filters needed, by filter name; empty without faults.

    Raises:
        Unrenderable: more dice than filters.
    """
    held, ended = _folded_delays(delays), _folded_aborts(aborts)
    shared = 1 if held and ended else 0  # the last delay and the first abort fit in one filter
    needed = len(held) + len(ended) - shared
    if needed > SLOTS:
        raise Unrenderable(
            f"{len(held)} delays and {len(ended)} aborts with a probability meet on one version; "
            f"together at most {SLOTS} are possible on Envoy"
        )
    config: dict[str, Any] = {}
    for slot in range(needed):
        fault = fault_pb2.HTTPFault(disable_downstream_cluster_stats=True)
        if slot < len(held):
            fault.delay.fixed_delay.FromTimedelta(timedelta(seconds=held[slot].seconds))
            fault.delay.percentage.CopyFrom(_percentage(held[slot].probability))
        if (which := slot - len(held) + shared) >= 0 and which < len(ended):
            fault.abort.http_status = ended[which].status
            fault.abort.percentage.CopyFrom(_percentage(ended[which].probability))
        config[FAULTS[slot]] = packed(fault)
    return config


def longest(delays: Iterable[PlanDelay]) -> float:
    """Seconds that a call can be held when all dice fall."""
    return sum(delay.seconds for delay in delays)


def _folded_delays(delays: Iterable[PlanDelay]) -> list[PlanDelay]:
    found = list(delays)
    certain = sum(delay.seconds for delay in found if delay.probability >= 1)
    first = [PlanDelay(certain)] if certain else []
    return first + [delay for delay in found if delay.probability < 1]


def _folded_aborts(aborts: Iterable[PlanAbort]) -> list[PlanAbort]:
    kept: list[PlanAbort] = []
    for abort in aborts:
        kept.append(abort)
        if abort.probability >= 1:
            break
    return kept


def _percentage(probability: float) -> Any:
    share = min(max(round(probability * _MILLION), 1), _MILLION)
    return percent_pb2.FractionalPercent(numerator=share, denominator="MILLION")
