"""Access: who may call, as one tree of denials and permissions for each service."""

from collections.abc import Sequence

from envoy.config.rbac.v3 import rbac_pb2 as policies
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from amalgam8.routing.plan import AccessEntry
from amalgam8.sidecar.envoy.choices import noted, picked
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
