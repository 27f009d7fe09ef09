"""Delays and aborts as chains of fault filters, made for the call that they act on.

All delays whose dice fall happen, then the first abort whose dice fall ends the call. What follows a filter
that really delays a call never runs in the same chain. So delays and aborts stand at places of their own,
and the chain of delays lists the sums that they can come to: each filter throws the dice for one of them,
and the first that falls is the only one.
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
SUMS_LIMIT = 256
"""Different sums that the delays of one rule can come to; eight delays with dice can have so many."""

_MILLION = 1_000_000


class Unrenderable(Exception):
    """A destination asks for something that this configuration of Envoy cannot do; the text says what."""


def delay_chain(delays: Iterable[PlanDelay]) -> list[Any]:
    """The configurations of the filters that hold a call, each packed, in the order in which they act.

    Raises:
        Unrenderable: the delays can come to too many different sums.
    """
    sums = {0.0: 1.0}
    for delay in delays:
        found: dict[float, float] = {}
        for seconds, share in sums.items():
            for more, chance in ((delay.seconds, delay.probability), (0.0, 1 - delay.probability)):
                total = round(seconds + more, 6)
                found[total] = found.get(total, 0.0) + share * chance
        sums = {seconds: share for seconds, share in found.items() if share}
        if len(sums) > SUMS_LIMIT:
            raise Unrenderable(
                f"its delays come to more than {SUMS_LIMIT} different sums, which is the most possible"
            )
    chain: list[Any] = []
    left = 1.0
    for seconds, share in sorted(sums.items()):
        if seconds:
            fault = fault_pb2.HTTPFault(disable_downstream_cluster_stats=True)
            fault.delay.fixed_delay.FromTimedelta(timedelta(seconds=seconds))
            fault.delay.percentage.CopyFrom(percentage(share / max(left, share)))
            chain.append(packed(fault))
            left -= share
    return chain


def abort_chain(aborts: Iterable[PlanAbort]) -> list[Any]:
    """The configurations of the filters that end a call, each packed, in the order in which they act.

    What is noted as ``end`` tells an abort without an answer from one of the status that stands for it.
    """
    chain: list[Any] = []
    marked = False
    for abort in aborts:
        ends = abort.status == NO_ANSWER
        if ends != marked and (ends or abort.status == END_STATUS):
            chain.append(noted(end="1" if ends else "0"))
            marked = ends
        fault = fault_pb2.HTTPFault(disable_downstream_cluster_stats=True)
        fault.abort.http_status = END_STATUS if ends else abort.status
        fault.abort.percentage.CopyFrom(percentage(abort.probability))
        chain.append(packed(fault))
        if abort.probability >= 1:
            break
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
