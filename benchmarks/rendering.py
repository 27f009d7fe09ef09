"""What the agent's own work costs: compile, resolve, render, and the memory that it takes.

1,000 services of 5 instances for the agent, 100 rules of one destination for the controller. Best of
RUNS, in processor time, so that other load does not count. Memory is that of an agent's process that
drives an Envoy with 50 services of 4 instances and 20 rules.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from amalgam8.model.caller import caller
from amalgam8.model.instance import Endpoint, Instance, instance_id
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.compile import compile  # noqa: A004 - the field's own word
from amalgam8.routing.resolve import Instances, Routing, resolve
from amalgam8.sidecar.envoy.listener import listeners
from amalgam8.sidecar.envoy.messages import CLUSTER, ENDPOINTS, ROUTES
from amalgam8.sidecar.envoy.render import Renderer
from amalgam8.sidecar.resolver import Resolver
from benchmarks.figures import line
from benchmarks.sidecar import driven

SERVICES, INSTANCES = 1000, 5
RULES = 100
RUNS = 5
ALL_AIM, COMPILE_AIM, ONE_AIM, MEMORY_AIM = 300.0, 5.0, 20.0, 70.0
WEB = caller("web", ["v1"])


async def run() -> AsyncIterator[str]:
    """Measure; gives each line to print once it is known."""
    instances = _instances()
    routing = resolve({}, instances, 0)
    changed, sent = _one_instance(instances)
    with tempfile.TemporaryDirectory() as folder:
        memory = await _memory(Path(folder))
    what = f"{SERVICES} services x {INSTANCES} instances"
    yield line(f"resolve + render, {what}", _best(lambda: _render(_resolved(instances))), ALL_AIM, "ms")
    yield line(f"render alone, {what}", _best(lambda: _render(routing)), ALL_AIM, "ms")
    yield line("one instance more: resolve + render", changed, ONE_AIM, "ms")
    yield line("one instance more: resources sent, both clusters' endpoints", sent, 2, "")
    yield line(f"compile, a destination of {RULES} rules", _best(_compiler()), COMPILE_AIM, "ms")
    yield line("agent, 50 services x 4 instances, 20 rules: resident", memory, MEMORY_AIM, "MB")


def _best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        before = time.process_time()
        work()
        times.append(time.process_time() - before)
    return min(times) * 1000


def _resolved(instances: Instances) -> Routing:
    resolver = Resolver()
    resolver.update({}, instances, 0)
    return resolver.routing


def _render(routing: Routing, renderer: Renderer | None = None) -> Any:
    renderer = renderer or Renderer(listeners("127.0.0.1", 1))
    parts = renderer.render(routing).parts
    return renderer.state({name: part for name, part in parts.items() if part}, ())


def _one_instance(instances: Instances) -> tuple[float, int]:
    """Milliseconds for a change of one instance, and how many resources differ after it."""
    resolver, renderer = Resolver(), Renderer(listeners("127.0.0.1", 1))
    resolver.update({}, instances, 0)
    state = _render(resolver.routing, renderer)
    times, differ = [], 0
    for port in range(RUNS):
        name = f"svc{port}"
        more = _instance(name, 9000 + port)
        instances = {**instances, name: (*instances[name], more)}
        before = time.process_time()
        resolver.update({}, instances, 0)
        after = _render(resolver.routing, renderer)
        times.append(time.process_time() - before)
        differ = sum(
            after.of(kind)[key] != state.of(kind).get(key)
            for kind in (CLUSTER, ENDPOINTS, ROUTES)
            for key in after.of(kind)
        )
        state = after
    return min(times) * 1000, differ


def _instances() -> dict[str, tuple[Instance, ...]]:
    names = [f"svc{i}" for i in range(SERVICES)]
    return {name: tuple(_instance(name, 7000 + n) for n in range(INSTANCES)) for name in names}


def _instance(name: str, port: int) -> Instance:
    endpoint = Endpoint("http", f"10.0.0.1:{port}")
    return Instance(instance_id(name, endpoint), name, endpoint, status="UP", tags=(f"v{port % 2 + 1}",))


def _compiler() -> Callable[[], object]:
    """Work that compiles RULES rules with conditions and splits."""
    rules = read_list(
        {
            "rules": [
                {
                    "id": f"r{i}",
                    "priority": i,
                    "destination": "svc0",
                    "match": {"source": {"name": "web"}, "headers": {"Cookie": f"user=u{i}"}},
                    "route": {"backends": [{"tags": ["v1"], "weight": 0.25}, {"tags": ["v2"]}]},
                }
                for i in range(RULES)
            ]
        }
    )
    return lambda: compile(rules, WEB)


async def _memory(folder: Path) -> float:
    """Resident megabytes of a process that does an agent's work, and nothing of a benchmark's."""
    module = "import asyncio, benchmarks.rendering as b, sys; asyncio.run(b.agent(sys.argv[1]))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", module, str(folder / "state"), stdout=asyncio.subprocess.PIPE
    )
    output = (await process.communicate())[0]
    return msgspec.json.decode(output, type=float)


async def agent(folder: str) -> None:
    """Drive an Envoy as a sidecar's agent does, and print the process's resident megabytes."""
    import amalgam8.sidecar.main  # noqa: F401 - what an agent has loaded

    async with driven(Path(folder), 50, [1001, 1002, 1003, 1004]):
        status = Path(f"/proc/{os.getpid()}/status").read_text(encoding="utf-8")
        resident = next(text for text in status.splitlines() if text.startswith("VmRSS"))
        print(int(resident.split()[1]) / 1024)
