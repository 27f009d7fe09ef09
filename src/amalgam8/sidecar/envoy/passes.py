"""The second pass: routes of the internal listener, for calls whose faults act behind retries or a timeout.

The fault filter runs before the router, so what it does is never repeated or cut short by the same
router. Such calls go through an internal listener: the first pass has timeout and retries, the second
throws the dice, for each attempt anew. Versions of one route that differ in timeout or retries meet in
the second pass as well, since one route has one timeout; their faults then act in a third.
A pass is named in a header by a hash of its content, so equal passes are one and a changed one is new.
A try that is repeated may meet the same instance again: the first pass does not see which one it was.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.header_to_metadata.v3 import header_to_metadata_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from xds.type.matcher.v3 import matcher_pb2

from amalgam8.routing.decide import faults_of
from amalgam8.routing.plan import FaultEntry, PlanAbort, PlanDelay
from amalgam8.routing.resolve import Route, ServiceRouting, Slice
from amalgam8.sidecar.envoy.attempts import Attempts, attempts_of, bound, by_method, guard, inner
from amalgam8.sidecar.envoy.choices import always, nested, noted, picked, set_headers
from amalgam8.sidecar.envoy.closing import closing_filter
from amalgam8.sidecar.envoy.faults import abort_chain, delay_chain, longest, without_answer
from amalgam8.sidecar.envoy.messages import (
    ABORT,
    END_HEADER,
    FAULT,
    FAULT_HEADER,
    FINAL_HEADER,
    HOP_HEADER,
    INTERNAL,
    NAMESPACE,
    NEXT_HEADER,
    NOTED,
    REASON_HEADER,
    TRIES_HEADER,
    packed,
    serialized,
)
from amalgam8.sidecar.envoy.patterns import found
from amalgam8.sidecar.envoy.speech import spoken

_HOP = "%UPSTREAM_HOST% %RESPONSE_FLAGS% %UPSTREAM_METADATA(a8:name)%"
"""What the last pass tells of an attempt: the instance's address, flags, service and tags."""

Words = Callable[..., Any]
"""Makes the members of a Route message that say what it is."""


class Passes:
    """Collects the passes that the routes of one service need, by name."""

    def __init__(self, service: ServiceRouting, words: Words) -> None:
        self.entries: dict[str, bytes] = {}
        self.hold = 0.0
        self._faults = service.faults
        self._words = words

    def acting(self, piece: Slice) -> list[FaultEntry]:
        """The fault entries that do something to a slice."""
        return [entry for entry in self._faults if any(faults_of(entry, piece))]

    def one_pass(self, piece: Slice) -> dict[str, AnyMessage | None]:
        """The fault filters that act before the only router, by place."""

        def held(entry: FaultEntry) -> Sequence[AnyMessage]:
            delays, aborts = faults_of(entry, piece)
            return [noted(fault=entry.rule), *self._delays(delays)] if delays or aborts else []

        def ended(entry: FaultEntry) -> Sequence[AnyMessage]:
            _, aborts = faults_of(entry, piece)
            return [*_closing(aborts), *abort_chain(aborts)]

        return {FAULT: picked(self._faults, held), ABORT: picked(self._faults, ended)}

    def chosen(self, route: Route, piece: Slice, header: str) -> AnyMessage | None:
        """Filters that name the pass of the first fault that applies in ``header``.

        Where the fault does nothing to the slice, ``NEXT_HEADER`` names a pass without faults.
        """

        def filters(entry: FaultEntry) -> Sequence[AnyMessage]:
            delays, aborts = faults_of(entry, piece)
            if not delays and not aborts and header == FAULT_HEADER:
                return []
            name = self._last(route, piece, delays, aborts)
            told = [*_closing(aborts), noted(fault=entry.rule)] if delays or aborts else []
            return [*told, set_headers([(header, name)])]

        return picked(self._faults, filters)

    def bounded(self, route: Route, piece: Slice) -> str:
        """The pass that has the timeout and retries of this slice alone."""
        rows = matcher_pb2.Matcher()
        for needed, attempts in by_method(attempts_of(piece)):
            below = self._guard(route, piece) if attempts.guarded else self._tried(route, piece, attempts)
            if needed is None:
                rows.on_no_match.CopyFrom(below)
            else:
                rows.matcher_list.matchers.add(predicate=needed, on_match=below)
        return self._named(nested(rows))

    def retried(self, route: Route, piece: Slice) -> str:
        """The pass that repeats calls, without any limit on their time."""
        return self._named(self._tried(route, piece, Attempts(0, piece.retries, limited=False)))

    def held(self, piece: Slice) -> float:
        """Seconds that injected delays can hold a call to a slice, in all attempts together."""
        delays = (longest(faults_of(entry, piece)[0]) for entry in self._faults)
        return max(delays, default=0.0) * ((piece.retries or 0) + 1)

    def _guard(self, route: Route, piece: Slice) -> Any:
        """To the pass that repeats calls. Those that a fault holds have more time."""
        rows = matcher_pb2.Matcher()
        for held in (self.held(piece), 0.0):
            again = self._route(route, INTERNAL, Attempts(0, 0))
            guard(again.route, held)
            self._leads(again, self.retried(route, piece))
            if held:
                rows.matcher_list.matchers.add(predicate=found(FAULT_HEADER, ""), on_match=spoken([again]))
        rows.on_no_match.CopyFrom(spoken([again]))
        return nested(rows) if rows.matcher_list.matchers else rows.on_no_match

    def _tried(self, route: Route, piece: Slice, attempts: Attempts) -> Any:
        """To the instances, or to the pass of the fault that acts on the call."""
        below = matcher_pb2.Matcher()
        direct = self._route(route, piece.target.name, attempts)
        self._tell(direct)
        if self.acting(piece):
            again = self._route(route, INTERNAL, attempts)
            self._leads(again, f"%REQ({FAULT_HEADER})%")
            self._count(again, attempts)
            below.matcher_list.matchers.add(predicate=found(FAULT_HEADER, ""), on_match=spoken([again]))
        self._count(direct, attempts)
        below.on_no_match.CopyFrom(spoken([direct]))
        return nested(below)

    @staticmethod
    def _leads(message: Any, name: str) -> None:
        """The pass of this name is the next one."""
        message.request_headers_to_add.add(
            header={"key": NEXT_HEADER, "value": name}, append_action="OVERWRITE_IF_EXISTS_OR_ADD"
        )

    @staticmethod
    def _count(message: Any, attempts: Attempts) -> None:
        """A pass that repeats says how often it tried."""
        if attempts.retries:
            message.response_headers_to_add.add(
                header={"key": TRIES_HEADER, "value": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"},
                append_action="OVERWRITE_IF_EXISTS_OR_ADD",
            )

    def _last(
        self, route: Route, piece: Slice, delays: Sequence[PlanDelay], aborts: Sequence[PlanAbort]
    ) -> str:
        message = self._route(route, piece.target.name, inner(attempts_of(piece)))
        for place, chain in ((FAULT, self._delays(delays)), (ABORT, abort_chain(aborts))):
            if chain:
                message.typed_per_filter_config[place].CopyFrom(always(chain))
        self._tell(message)
        return self._named(spoken([message]))

    def _delays(self, delays: Sequence[PlanDelay]) -> list[AnyMessage]:
        self.hold = max(self.hold, longest(delays))
        return delay_chain(delays)

    def _route(self, route: Route, cluster: str, attempts: Attempts) -> Any:
        message = route_components_pb2.Route(
            match={"prefix": "/"},
            route={"cluster": cluster, "auto_host_rewrite": {"value": True}},
        )
        message.MergeFrom(self._words(route))
        bound(message.route, attempts)
        return message

    @staticmethod
    def _tell(message: Any) -> None:
        """The last pass: hide the mesh's headers from the instance, and tell the first pass about it."""
        message.request_headers_to_remove.extend([NEXT_HEADER, FAULT_HEADER])
        message.response_headers_to_remove.extend(
            [REASON_HEADER, HOP_HEADER, TRIES_HEADER, END_HEADER, FINAL_HEADER]
        )
        message.response_headers_to_add.add(
            header={"key": HOP_HEADER, "value": _HOP}, append_action="OVERWRITE_IF_EXISTS_OR_ADD"
        )

    def _named(self, then: Any) -> str:
        content = serialized(then)
        name = hashlib.blake2b(content, digest_size=12).hexdigest()
        self.entries[name] = content
        return name


def hop_filter() -> AnyMessage:
    """Takes what the last pass told about the instance out of the response, for the access record."""
    whole = r"^(\S*) (\S*) (\C*)$"
    fired = r"^\S* (?:\S*?(DI|FI)\S*|\S*) \C*$"
    parts = (
        ("host", whole, 1),
        ("flags", whole, 2),
        ("fired", fired, 1),
        (NOTED, whole, 2),
        ("dst", whole, 3),
    )
    rules: list[dict[str, Any]] = [
        {
            "header": HOP_HEADER,
            "on_header_present": {
                "metadata_namespace": NAMESPACE,
                "key": key,
                "regex_value_rewrite": {"pattern": {"regex": pattern}, "substitution": rf"\{part}"},
            },
            "remove": key == "dst",
        }
        for key, pattern, part in parts
    ]
    tries = {"metadata_namespace": NAMESPACE, "key": "tries", "type": "NUMBER"}
    rules.append({"header": TRIES_HEADER, "on_header_present": tries, "remove": True})
    return packed(header_to_metadata_pb2.Config(response_rules=rules))


def _closing(aborts: Sequence[PlanAbort]) -> list[AnyMessage]:
    return [closing_filter()] if without_answer(aborts) else []
