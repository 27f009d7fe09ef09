"""``a8sidecar`` with a fault in its renderer: rules named ``broken`` get weights that Envoy does not take."""

import functools
import sys
from pathlib import Path

from amalgam8.model.rule import Affinity
from amalgam8.routing.resolve import Route, ServiceRouting, Slice
from amalgam8.runtime.service import run
from amalgam8.sidecar import agent
from amalgam8.sidecar.envoy.adapter import Envoy
from amalgam8.sidecar.envoy.rows import branch
from amalgam8.sidecar.envoy.ways import Branch
from amalgam8.sidecar.main import make_proxy
from amalgam8.sidecar.proxy import Proxy
from amalgam8.sidecar.settings import Settings


def wrong(routing: ServiceRouting) -> Branch:
    if not any(route.rule == "broken" for route in routing.routes):
        return branch(routing)
    piece = Slice(routing.routes[0].slices[0].target, 2**32 - 1)
    return branch(ServiceRouting(routing.name, (Route((piece, piece), affinity=Affinity(cookie="user")),)))


def make_faulty(settings: Settings, folder: Path) -> Proxy:
    proxy = make_proxy(settings, folder)
    assert isinstance(proxy, Envoy)
    proxy._render_service = wrong
    return proxy


if __name__ == "__main__":
    sys.exit(run("a8sidecar", Settings, functools.partial(agent.run, make_proxy=make_faulty)))
