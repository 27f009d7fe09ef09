"""The rows of one service: its routes, times the mirrors, times two where methods or faults need it.

A service is reached by the Host header, by outer paths, or by the first path segment, and each way has a
tree of the same rows. Every kind of entry but routes and mirrors has a tree of its own (``choices``).
More than ROWS_LIMIT rows in a tree are refused.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec
from envoy.config.route.v3 import route_components_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from xds.type.matcher.v3 import matcher_pb2

from amalgam8.routing.addressing import address
from amalgam8.routing.plan import MirrorEntry
from amalgam8.routing.resolve import Route, ServiceRouting, Slice, mirror_target
from amalgam8.sidecar.envoy.attempts import (
    DEFAULT,
    Attempts,
    attempts_of,
    bound,
    by_method,
    guard,
)
from amalgam8.sidecar.envoy.chains import ON
from amalgam8.sidecar.envoy.choices import always, first_match, noted, picked
from amalgam8.sidecar.envoy.faults import Unrenderable, without_answer
from amalgam8.sidecar.envoy.kinds import access_config, changed_headers, trace_filters
from amalgam8.sidecar.envoy.limits import bucket_filter, buckets, limit_filters
from amalgam8.sidecar.envoy.messages import (
    ACCESS,
    END_HEADER,
    FAULT,
    FAULT_HEADER,
    FINAL_HEADER,
    HEADERS,
    HOP,
    INTERNAL,
    LIMIT,
    MIRROR,
    NEXT_HEADER,
    REASON_HEADER,
    SLICES,
    TRACE,
    serialized,
)
from amalgam8.sidecar.envoy.nowhere import metadata
from amalgam8.sidecar.envoy.passes import Passes, hop_filter
from amalgam8.sidecar.envoy.patterns import all_of, any_of, path_is, predicate, value
from amalgam8.sidecar.envoy.shares import Share, shared, thrown
from amalgam8.sidecar.envoy.speech import both, spoken
from amalgam8.sidecar.envoy.ways import OUTER_ORDER, Branch, named_host, nested_or_only, segment

ROWS_LIMIT = 2000


def branch(service: ServiceRouting) -> Branch:
    """Render one service.

    Raises:
        Unrenderable: its rules ask for more than this configuration can do.
    """
    return _Service(service).branch()


class _Service:
    """Renders one service: what all its rows share is made once."""

    def __init__(self, service: ServiceRouting) -> None:
        self._service = service
        self._passes = Passes(service, self._words)
        self._targets: set[str] = set()
        self._rows = 0
        self._shared: dict[str, AnyMessage] = {}
        for place, config in (
            (ACCESS, access_config(service.access)),
            (LIMIT, picked(service.limits, partial(limit_filters, service.name))),
            (HEADERS, picked(service.headers, changed_headers)),
        ):
            if config is not None:
                self._shared[place] = config
        if LIMIT in self._shared:
            self._shared[bucket_filter(service.name)] = ON
        if any(limit.budget for each in service.limits for limit in each.limits):
            self._shared[SLICES] = ON
        self._by_slice: dict[tuple[Slice, str], dict[str, AnyMessage]] = {}

    def branch(self) -> Branch:
        name = self._service.name
        key, cut = f"/{address(name)}", {"prefix_rewrite": "/"}
        below = self._tree(self._service.routes, {"prefix": f"{key}/"}, cut)
        itself = self._tree(self._service.routes, {"path": key}, cut)
        body = segment(key, below, itself)
        host = named_host(name, self._tree(self._service.routes, {}, {}))
        outers = tuple(self._outer(route) for route in self._service.outers)
        passes = tuple(sorted(self._passes.entries.items()))
        limits = buckets(name, self._service.limits)
        return Branch(body, frozenset(self._targets), self._passes.hold, host, outers, passes, limits)

    def _tree(self, routes: Iterable[Route], match: dict[str, Any], action: dict[str, Any]) -> Any:
        self._rows = 0

        def rows(route: Route) -> Any:
            return nested_or_only(self._route(route, match, action))

        return first_match((route.match, partial(rows, route)) for route in routes)

    def _outer(self, route: Route) -> tuple[OUTER_ORDER, bytes]:
        outer = route.outer
        assert outer is not None  # noqa: S101 - it is one of ``outers``
        if outer.path:
            match = {"path": outer.path}
            here = path_is(outer.path)
        else:
            match = {"prefix": outer.prefix}
            here = value(":path", prefix=outer.prefix)
        action = {"prefix_rewrite": outer.rewrite} if outer.rewrite else {}
        below = nested_or_only(self._route(route, match, action))
        needed = all_of([here, predicate(route.match)])
        row = matcher_pb2.Matcher.MatcherList.FieldMatcher(predicate=needed, on_match=below)
        return outer.order, serialized(row)

    def _route(self, route: Route, match: dict[str, Any], action: dict[str, Any]) -> Any:
        """The rows of one route, which take every request that comes to them."""
        pieces = [piece for piece in route.slices if piece.weight]
        kinds = {attempts_of(piece) for piece in pieces}
        rows = matcher_pb2.Matcher()
        if len(kinds) > 1:
            return self._mirrored(route, partial(self._mixed, route, pieces), match, action)
        for method, attempts in by_method(next(iter(kinds), DEFAULT)):
            below = self._by_fault(route, pieces, attempts, match, action)
            if method is None:
                if not rows.matcher_list.matchers:
                    return below
                rows.on_no_match.CopyFrom(nested_or_only(below))
            else:
                rows.matcher_list.matchers.add(predicate=method, on_match=nested_or_only(below))
        return rows

    def _by_fault(
        self,
        route: Route,
        pieces: list[Slice],
        attempts: Attempts,
        match: dict[str, Any],
        action: dict[str, Any],
    ) -> Any:
        acting = {entry.rule: entry for piece in pieces for entry in self._passes.acting(piece)}
        plainly, behind = (
            partial(self._single, route, pieces, attempts),
            partial(self._twice, route, pieces, attempts),
        )
        if attempts.guarded:
            plainly, behind = (partial(self._guarded, route, pieces, faulty) for faulty in (False, True))
        if not attempts.sees_faults or not acting:
            return self._mirrored(route, plainly, match, action)
        twice = self._mirrored(route, behind, match, action)
        needed = any_of([predicate(entry.match) for entry in acting.values()])
        if needed is None:
            return twice
        once = self._mirrored(route, plainly, match, action)
        rows = matcher_pb2.Matcher(on_no_match=nested_or_only(once))
        rows.matcher_list.matchers.add(predicate=needed, on_match=nested_or_only(twice))
        return rows

    def _mirrored(self, route: Route, make: Any, match: dict[str, Any], action: dict[str, Any]) -> Any:
        """A row for each mirror entry, and one without."""

        def row(entry: MirrorEntry | None) -> Any:
            return self._row(route, make(entry), entry, match, action)

        mirrors = self._service.mirrors
        if not mirrors:
            return matcher_pb2.Matcher(on_no_match=row(None))
        return first_match([(entry.match, partial(row, entry)) for entry in mirrors], row(None))

    def _row(
        self,
        route: Route,
        parts: list[Any],
        mirror: MirrorEntry | None,
        match: dict[str, Any],
        action: dict[str, Any],
    ) -> Any:
        self._rows += 1
        if self._rows > ROWS_LIMIT:
            raise Unrenderable(
                f"its routes and mirrors make more than {ROWS_LIMIT} combinations, which is the most possible"
            )
        for part in parts:
            part.MergeFrom(route_components_pb2.Route(match=match or {"prefix": "/"}, route=action))
            part.MergeFrom(self._words(route, mirror.rule if mirror else ""))
            for place, config in self._shared.items():
                part.typed_per_filter_config[place].CopyFrom(config)
        return spoken(parts)

    def _single(
        self, route: Route, pieces: list[Slice], attempts: Attempts, mirror: MirrorEntry | None
    ) -> list[Any]:
        """To the instances, with the faults in front."""
        message = self._message(pieces, attempts, mirror)
        closing = any(without_answer(entry.aborts) for entry in self._service.faults)
        message.response_headers_to_remove.extend([REASON_HEADER, END_HEADER] if closing else [REASON_HEADER])
        way = "none" if attempts.sees_faults else ""
        shares = [
            Share(piece.target.name, piece.weight, self._slice_config(piece, way, route)) for piece in pieces
        ]
        return shared(message, shares, route.affinity)

    def _twice(
        self, route: Route, pieces: list[Slice], attempts: Attempts, mirror: MirrorEntry | None
    ) -> list[Any]:
        """Through the second pass, where the faults are."""
        return self._through(route, pieces, self._message(pieces, attempts, mirror), NEXT_HEADER)

    def _mixed(self, route: Route, pieces: list[Slice], mirror: MirrorEntry | None) -> list[Any]:
        """Through the second pass, where each version has its own timeout and retries."""
        message = self._message(pieces, Attempts(0, 0, limited=False), mirror)
        return self._through(route, pieces, message, FAULT_HEADER, self._passes.bounded)

    def _guarded(
        self, route: Route, pieces: list[Slice], faulty: bool, mirror: MirrorEntry | None
    ) -> list[Any]:
        """Through the second pass, where calls are repeated, and the time until an answer starts is here."""
        message = self._message(pieces, Attempts(0, 0), mirror)
        guard(message.route, max(self._passes.held(piece) for piece in pieces) if faulty else 0)
        return self._through(route, pieces, message, FAULT_HEADER, self._passes.retried)

    def _through(
        self,
        route: Route,
        pieces: list[Slice],
        message: Any,
        way: str,
        pass_of: Callable[[Route, Slice], str] | None = None,
    ) -> list[Any]:
        """Each version through the pass of its own: named here, or by a filter in ``way``."""
        message.typed_per_filter_config[HOP].CopyFrom(always([hop_filter()]))
        message.response_headers_to_remove.append(FINAL_HEADER)
        shares = [
            Share(
                INTERNAL,
                piece.weight,
                self._slice_config(piece, way, route),
                pass_of(route, piece) if pass_of else "",
            )
            for piece in pieces
        ]
        return shared(message, shares, route.affinity)

    def _message(self, pieces: list[Slice], attempts: Attempts, mirror: MirrorEntry | None) -> Any:
        self._targets |= {name for piece in pieces for name in both(piece.target.name)}
        message = route_components_pb2.Route(route={"auto_host_rewrite": {"value": True}})
        bound(message.route, attempts)
        if mirror:
            message.typed_per_filter_config[MIRROR].CopyFrom(always([noted()]))
        copies = mirror.mirrors if mirror else ()
        dice = thrown([copied.percent / 100 for copied in copies])
        for copied, some in zip(copies, dice, strict=True):
            target = mirror_target(self._service.name, copied).name
            self._targets |= {*both(target)}
            message.route.request_mirror_policies.add(
                cluster=target,
                runtime_fraction={"default_value": some},
                disable_shadow_host_suffix_append=True,
            )
        return message

    def _slice_config(self, piece: Slice, way: str, route: Route) -> dict[str, AnyMessage]:
        """Filters that depend on the version. ``way``: the header that names the pass of its faults."""
        key = (msgspec.structs.replace(piece, weight=0), f"{way} {route.rule if way else ''}")
        if key not in self._by_slice:
            faults: dict[str, AnyMessage | None] = {}
            if way == "":
                faults = self._passes.one_pass(piece)
            elif (way != "none" and self._passes.acting(piece)) or way == NEXT_HEADER:
                faults = {FAULT: self._passes.chosen(route, piece, way)}
            traces = picked(self._service.traces, lambda entry: trace_filters(entry, piece))
            found = {**faults, TRACE: traces}
            self._by_slice[key] = {place: config for place, config in found.items() if config is not None}
        return self._by_slice[key]

    def _words(self, route: Route, mirror: str = "") -> Any:
        """The members of a Route message that say what it is."""
        name = self._service.name
        return route_components_pb2.Route(name=name, metadata=metadata(name, route.rule, mirror))
