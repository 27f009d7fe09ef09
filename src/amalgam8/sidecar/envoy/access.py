"""Access: who may call, as one tree of denials and permissions for each service."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from envoy.config.rbac.v3 import rbac_pb2 as verdicts
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from amalgam8.routing.condition import Condition
from amalgam8.routing.plan import AccessEntry
from amalgam8.sidecar.envoy.choices import first_match, on_match
from amalgam8.sidecar.envoy.messages import packed


def access_config(entries: Sequence[AccessEntry]) -> AnyMessage | None:
    """``typed_per_filter_config`` of the access filter; None: everybody may call.

    Any deny that matches refuses; where anybody is allowed, so does the lack of a match.
    """
    if not entries:
        return None
    guards = [entry for entry in entries if entry.verdict != "deny"]
    otherwise = _verdict(guards[0].rule, deny=True) if guards else _verdict("", deny=False)
    tree = first_match(_choices(entries), otherwise)
    return packed(rbac_pb2.RBACPerRoute(rbac={"matcher": tree}))


def _choices(entries: Sequence[AccessEntry]) -> Iterator[tuple[Condition, Callable[[], Any]]]:
    for entry in entries:
        if entry.verdict == "deny":
            yield entry.match, partial(_verdict, entry.rule, deny=True)
    for entry in entries:
        if entry.verdict == "allow":
            yield entry.match, partial(_verdict, entry.rule, deny=False)


def _verdict(rule: str, *, deny: bool) -> Any:
    name = rule or "-"  # Envoy wants one
    return on_match("verdict", verdicts.Action(name=name, action="DENY" if deny else "ALLOW"))
