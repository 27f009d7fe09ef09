"""Traces: what a rule writes into the access records of the calls that it marks."""

from google.protobuf.any_pb2 import Any as AnyMessage

from amalgam8.routing.decide import traces_of
from amalgam8.routing.plan import TraceEntry
from amalgam8.routing.resolve import Slice
from amalgam8.sidecar.envoy.choices import noted


def trace_filters(entry: TraceEntry, piece: Slice) -> list[AnyMessage]:
    """The filters of a trace entry for calls to a slice."""
    traces = {trace.key: trace.value for trace in traces_of(entry, piece)}
    return [noted(trace=entry.rule, traces=traces)] if traces else []
