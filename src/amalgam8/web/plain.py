"""Routes whose requests and answers are whole: no stream, no framework, and so no cost but their handler's.

A table of them finds the route of a method and path as Starlette's router would, which has the others. A
path may have one hole. Refuses holes that span a slash.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route, compile_path
from starlette.types import Receive, Scope, Send

from amalgam8.web.exchange import Answer, Asked

Handler = Callable[[Asked], Coroutine[Any, Any, Answer]]


class PlainRoute(BaseRoute):
    """``method`` requests for ``path``, such as ``/services/{name}``, are answered by ``handler``.

    ``waits``: whether it may have to wait, for a store somewhere else for instance. One that does not is
    answered at once, between two packets.
    """

    def __init__(self, path: str, handler: Handler, *, method: str = "GET", waits: bool = False) -> None:
        self.path = path
        self.handler = handler
        self.method = method
        self.methods = {method}
        self.waits = waits
        self.path_regex, _, holes = compile_path(path)
        self.prefix, _, rest = path.partition("{")
        self.suffix = rest.partition("}")[2]
        self.hole = bool(rest)
        if len(holes) > 1:
            raise ValueError(f"{path} has more than one hole")

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """What Starlette's router is told: that there is such a path, for whatever the table did not find."""
        return (Match.PARTIAL if self.path_regex.match(scope["path"]) else Match.NONE), {}

    async def handle(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
        raise HTTPException(405)


Found = tuple[PlainRoute, str]
"""A route, and what stands in its hole."""


class PlainTable:
    """The plain ones of ``routes``. A route of another kind for the very path, without holes, goes first."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._whole: dict[tuple[str, str], Found | None] = {}
        self._holed: dict[str, list[PlainRoute]] = {}
        for route in routes:
            if isinstance(route, PlainRoute):
                if route.hole:
                    self._holed.setdefault(route.method, []).append(route)
                else:
                    self._whole.setdefault((route.method, route.path), (route, ""))
            elif isinstance(route, Route) and "{" not in route.path:
                for method in route.methods or ():
                    self._whole.setdefault((method, route.path), None)

    def find(self, method: str, path: str) -> Found | None:
        """The route that takes this, if it is a plain one."""
        key = (method, path)
        if key in self._whole:
            return self._whole[key]
        for route in self._holed.get(method, ()):
            if path.startswith(route.prefix) and path.endswith(route.suffix):
                inside = path[len(route.prefix) : len(path) - len(route.suffix)]
                if inside and "/" not in inside:
                    return route, inside
        return None
