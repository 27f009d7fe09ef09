"""What the entries of each kind do to a call: access, header changes and traces, as filters for its chain.

Limits and faults have modules of their own. Refuses to choose among entries: ``choices`` does.
"""

from collections.abc import Sequence

from envoy.config.rbac.v3 import rbac_pb2 as policies
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from amalgam8.routing.decide import traces_of
from amalgam8.routing.plan import AccessEntry, HeadersEntry, TraceEntry
from amalgam8.routing.resolve import Slice
from amalgam8.sidecar.envoy.choices import noted, picked, set_headers
from amalgam8.sidecar.envoy.messages import packed


def access_config(entries: Sequence[AccessEntry]) -> AnyMessage | None:
    """``typed_per_filter_config`` of the place of access; None: everybody may call.

    Any deny that matches refuses; where anybody is allowed, so does the lack of a match.
    """
    guards = [entry for entry in entries if entry.verdict != "deny"]
    tried = [entry for entry in entries if entry.verdict == "deny"]
    tried += [entry for entry in entries if entry.verdict == "allow"]
    if guards:
        tried.append(AccessEntry(rule=guards[0].rule, verdict="guard"))
    return picked(tried, _filters)


def _filters(entry: AccessEntry) -> list[AnyMessage]:
    """Nothing lets a call pass; a list of permissions that is empty refuses it."""
    if entry.verdict == "allow":
        return []
    refuse = rbac_pb2.RBAC(rules=policies.RBAC(action="ALLOW"))
    return [noted(denied=entry.rule), packed(refuse)]


def changed_headers(entry: HeadersEntry) -> list[AnyMessage]:
    """The filters of a headers entry."""
    return [noted(headers=entry.rule), set_headers(entry.set, entry.remove)]


def trace_filters(entry: TraceEntry, piece: Slice) -> list[AnyMessage]:
    """The filters of a trace entry for calls to a slice."""
    traces = {trace.key: trace.value for trace in traces_of(entry, piece)}
    return [noted(trace=entry.rule, traces=traces)] if traces else []
