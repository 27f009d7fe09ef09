"""Which service a call is for: by ``Host``, else by an outer path of a rule, else by its first path segment.

Of a path only exact text counts, as it came: nothing is decoded, merged or folded, so that no odd spelling
of one service's path reaches another. ``Host`` is compared without case, as RFC 9110 (4.2.3) wants it.
Pure; used by ``decide``, and its words for an address by the proxies.
"""

from collections.abc import Callable, Iterable
from string import ascii_lowercase, ascii_uppercase
from urllib.parse import quote

from amalgam8.routing.resolve import Route, Routing, ServiceRouting, outer_routes

_KEPT = "!$&'()*+,;=:@"
"""What a path segment may hold beside RFC 3986's unreserved characters."""


def address(name: str) -> str:
    """The first path segment of calls to a service: its name, percent-encoded with capital digits."""
    return quote(name, safe=_KEPT)


def host_name(host: str) -> str:
    """A ``Host`` header without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isascii() and port.isdigit() else host


def folded(host: str) -> str:
    """A host name as it is compared: ASCII letters have no case."""
    return host.translate(_FOLD)


_FOLD = str.maketrans(ascii_uppercase, ascii_lowercase)


def named_hosts(names: Iterable[str], own_service: str) -> dict[str, str]:
    """The service that each folded ``Host`` names; the sidecar's own is no address.

    Of names that differ in case only, the one in lower case is meant, else the first.
    """
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name != folded(name), name)):
        if folded(name) != folded(own_service):
            found.setdefault(folded(name), name)
    return found


def addressed(
    routing: Routing, path: str, host: str, own_service: str, leads: Callable[[Route], bool]
) -> tuple[ServiceRouting, Route | None, str] | str:
    """The service, the route if an outer path chose one, and the path that the instance sees.

    ``leads`` says whether a request meets a route's condition. For an unknown service: the name asked for.
    """
    named = named_hosts(routing, own_service).get(folded(host_name(host)))
    if named is not None:
        return routing[named], None, path
    plain, mark, query = path.partition("?")
    for service, route in outer_routes(routing):
        rewritten = _rewritten(route, plain)
        if rewritten is not None and leads(route):
            return service, route, f"{rewritten}{mark}{query}"
    segment, _, rest = plain.removeprefix("/").partition("/")
    for name in routing:
        if address(name) == segment:
            return routing[name], None, f"/{rest}{mark}{query}"
    return segment


def covers(path: str, prefix: str, plain: str) -> bool:
    """Whether an outer path, or a prefix where ``path`` is empty, leads from a path without its query."""
    return plain == path if path else plain.startswith(prefix)


def _rewritten(route: Route, plain: str) -> str | None:
    """What the instance sees of an outer path, or None if it does not lead here."""
    outer = route.outer
    if outer is None or not covers(outer.path, outer.prefix, plain):
        return None
    return outer.rewrite + plain[len(outer.path or outer.prefix) :] if outer.rewrite else plain
