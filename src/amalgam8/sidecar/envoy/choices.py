"""First match wins, for each kind of entry by itself: a match tree that picks filters for one call.

Routes, limits, header changes, faults and traces each have conditions of their own. One row for every
combination would explode, so each kind has one place in the filter chain, where a tree of its own looks
at the request and makes the filters of the entry that applies (composite filter). The size of a service's
configuration is then the sum over the kinds, where rows would be the product.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from envoy.extensions.common.matching.v3 import extension_matcher_pb2
from envoy.extensions.filters.common.matcher.action.v3 import skip_action_pb2
from envoy.extensions.filters.http.composite.v3 import composite_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.set_metadata.v3 import set_metadata_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.struct_pb2 import Struct
from xds.type.matcher.v3 import matcher_pb2

from amalgam8.routing.condition import Condition
from amalgam8.routing.plan import Entry
from amalgam8.sidecar.envoy.messages import NAMESPACE, NOTED, packed
from amalgam8.sidecar.envoy.patterns import found, predicate

E = TypeVar("E", bound=Entry)

CHAIN_LIMIT = 300
"""Filters for one call and kind; more dice than that are refused."""


def first_match(choices: Iterable[tuple[Condition, Callable[[], Any]]], otherwise: Any = None) -> Any:
    """A Matcher: what the first condition that holds leads to (makes an OnMatch), else ``otherwise``.

    A choice that can never be the first is left out.
    """
    tree = matcher_pb2.Matcher()
    wanted: list[Condition] = []
    thens: list[Callable[[], Any]] = []
    last: Callable[[], Any] | None = None
    for condition, then in choices:
        if any(condition.implies(earlier) for earlier in wanted):
            continue
        if predicate(condition) is None:
            last = then
            break
        wanted.append(condition)
        thens.append(then)
    for name, run in _runs(wanted):
        rows = tree
        if len(run) > 1:
            rows = matcher_pb2.Matcher()
        for position in run:
            rows.matcher_list.matchers.add(predicate=predicate(wanted[position]), on_match=thens[position]())
        if rows is not tree:
            tree.matcher_list.matchers.add(predicate=found(name, ""), on_match=nested(rows))
    if last is not None or otherwise is not None:
        tree.on_no_match.CopyFrom(last() if last is not None else otherwise)
    return tree


def _runs(conditions: Sequence[Condition]) -> Iterator[tuple[str, list[int]]]:
    """Positions of conditions that stand together and ask for the same header, with its name.

    For a request without the header they are all passed over at once: where none of the inner choices
    holds, the matching goes on behind them.
    """
    at = 0
    while at < len(conditions):
        best, length = "", 1
        for name in {name for name, _ in conditions[at].headers}:
            end = at + 1
            while end < len(conditions) and any(name == other for other, _ in conditions[end].headers):
                end += 1
            best, length = max((best, length), (name, end - at), key=lambda pair: (pair[1], pair[0]))
        yield best, list(range(at, at + length))
        at += length


def picked(entries: Sequence[E], filters: Callable[[E], Sequence[AnyMessage]]) -> AnyMessage | None:
    """``typed_per_filter_config`` of a kind's place: the filters of the first entry that applies.

    An entry without filters hides those below it. None: no entry has any.
    """
    chains = [(entry, filters(entry)) for entry in entries]
    if not any(chain for _, chain in chains):
        return None
    tree = first_match(((entry.match, partial(_run, chain)) for entry, chain in chains), _SKIP)
    return packed(extension_matcher_pb2.ExtensionWithMatcherPerRoute(xds_matcher=tree))


def always(chain: Sequence[AnyMessage]) -> AnyMessage:
    """``typed_per_filter_config`` of a kind's place that runs the same filters for each call."""
    tree = matcher_pb2.Matcher(on_no_match=_run(chain))
    return packed(extension_matcher_pb2.ExtensionWithMatcherPerRoute(xds_matcher=tree))


def place() -> AnyMessage:
    """The filter that stands in a chain for one kind; it does nothing where no route tells it to."""
    return _composite(_SKIP)


def discovered(name: str, source: Mapping[str, Any]) -> AnyMessage:
    """A place for a filter that is a resource of its own; ``source`` is its ``ExtensionConfigSource``."""
    config = {"name": name, "config_discovery": source}
    return _composite(on_match(_RUN, composite_pb2.ExecuteFilterAction(dynamic_config=config)))


def _composite(otherwise: Any) -> AnyMessage:
    return packed(
        extension_matcher_pb2.ExtensionWithMatcher(
            xds_matcher=matcher_pb2.Matcher(on_no_match=otherwise),
            extension_config={"name": "composite", "typed_config": packed(composite_pb2.Composite())},
        )
    )


def noted(**values: Any) -> AnyMessage:
    """A filter that notes values for the access record and for words about refusals."""
    struct = Struct()
    struct.update({NOTED: "1"} | values)
    config = set_metadata_pb2.Config()
    config.metadata.add(metadata_namespace=NAMESPACE, allow_overwrite=True, value=struct)
    return packed(config)


def set_headers(values: Iterable[tuple[str, str]], removed: Iterable[str] = ()) -> AnyMessage:
    """A filter that sets and removes request headers."""
    mutations: list[dict[str, Any]] = [{"remove": name} for name in removed]
    for name, value in values:
        header = {"key": name, "value": value.replace("%", "%%")}
        mutations.append(
            {
                "append": {
                    "header": header,
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                    "keep_empty_value": True,
                }
            }
        )
    return packed(header_mutation_pb2.HeaderMutation(mutations={"request_mutations": mutations}))


def on_match(kind: str, message: Any) -> Any:
    """An OnMatch with an action."""
    return matcher_pb2.Matcher.OnMatch(action={"name": kind, "typed_config": packed(message)})


def nested(tree: Any) -> Any:
    """An OnMatch that goes on in another tree."""
    return matcher_pb2.Matcher.OnMatch(matcher=tree)


def _run(chain: Sequence[AnyMessage]) -> Any:
    if not chain:
        return _SKIP
    if len(chain) > CHAIN_LIMIT:
        raise ValueError(f"{len(chain)} filters would meet on one call; at most {CHAIN_LIMIT} are possible")
    filters = [{"name": "filter", "typed_config": config} for config in chain]
    return on_match(_RUN, composite_pb2.ExecuteFilterAction(filter_chain={"typed_config": filters}))


_RUN = "composite-action"
_SKIP = on_match("skip", skip_action_pb2.SkipFilter())
