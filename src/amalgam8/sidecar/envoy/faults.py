"""Delays and aborts as a chain of fault filters, made for the call that they act on.

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
from amalgam8.sidecar.envoy.choices import noted
from amalgam8.sidecar.envoy.closing import END_STATUS
from amalgam8.sidecar.envoy.messages import packed

NO_ANSWER = -1
_MILLION = 1_000_000


class Unrenderable(Exception):
    """A destination asks for something that this configuration of Envoy cannot do; the text says what."""


def fault_chain(delays: Iterable[PlanDelay], aborts: Iterable[PlanAbort]) -> list[Any]:
    """The filters' configurations, each packed, in the order in which they act; empty without faults."""
    held, ended = _folded_delays(delays), _folded_aborts(aborts)
    chain: list[Any] = []
    if without_answer(ended):
        if any(abort.status == END_STATUS for abort in ended):
            raise Unrenderable(
                f"an abort without an answer beside one of status {END_STATUS} is not possible on Envoy"
            )
        chain.append(noted(end="1"))
    for position, delay in enumerate(held):
        fault = fault_pb2.HTTPFault(disable_downstream_cluster_stats=True)
        fault.delay.fixed_delay.FromTimedelta(timedelta(seconds=delay.seconds))
        fault.delay.percentage.CopyFrom(percentage(delay.probability))
        if position == len(held) - 1 and ended:
            _abort(fault, ended.pop(0))  # the last delay and the first abort fit in one filter
        chain.append(packed(fault))
    for abort in ended:
        fault = fault_pb2.HTTPFault(disable_downstream_cluster_stats=True)
        _abort(fault, abort)
        chain.append(packed(fault))
    return chain


def without_answer(aborts: Iterable[PlanAbort]) -> bool:
    """Whether a call can end without an answer; then ``closing_filter`` has to stand in front."""
    return any(abort.status == NO_ANSWER for abort in aborts)


def longest(delays: Iterable[PlanDelay]) -> float:
    """Seconds that a call can be held when all dice fall."""
    return sum(delay.seconds for delay in delays)


def percentage(probability: float) -> Any:
    """A FractionalPercent; a tiny probability is not rounded to never."""
    share = min(max(round(probability * _MILLION), 1), _MILLION)
    return percent_pb2.FractionalPercent(numerator=share, denominator="MILLION")


def _abort(fault: Any, abort: PlanAbort) -> None:
    fault.abort.http_status = END_STATUS if abort.status == NO_ANSWER else abort.status
    fault.abort.percentage.CopyFrom(percentage(abort.probability))


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
