"""What Envoy answers by itself tells nothing that it should not."""

from typing import Any

from amalgam8.routing.plan import (
    PlanAbort,
)
from tests.sidecar.envoy.support import (
    Mesh,
    attempts,
    backends,
    faulty,
)


async def test_an_injected_fault_has_no_words(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        more: dict[str, Any]
        for more in ({}, {"retries": 1}, {"timeout": 5.0}):
            await mesh.follow(attempts(one.peer(), **more, **faulty(aborts=(PlanAbort(503),))))
            reply = await mesh.ask("/svc/")
            assert (reply.status, reply.body) == (503, b"")
            assert [name for name in reply.headers if name.startswith("x-a8")] == []
