"""The command line against a real controller, and sidecars that confirm what they are given."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator

import pytest

from amalgam8.cli.main import main
from amalgam8.model.caller import Caller
from amalgam8.model.report import PlanStamp, SidecarReport
from tests.cli.standin import Ran
from tests.controller.serving import Controller, running


class Real:
    """Runs command lines against ``controller``."""

    def __init__(self, controller: Controller, capsys: pytest.CaptureFixture[str]) -> None:
        self.controller = controller
        self._capsys = capsys

    async def __call__(self, *argv: str) -> Ran:
        url = f"http://127.0.0.1:{self.controller.port}"
        code = await asyncio.to_thread(main, ["--controller-url", url, *argv])
        captured = self._capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    async def sidecar(self, who: Caller) -> str:
        """A sidecar whose proxy has confirmed the rules as they are now, and reports nothing more."""
        identity = str(uuid.uuid4())
        await self.report(identity, who)
        return identity

    async def report(self, identity: str, who: Caller) -> None:
        tenant = await self.controller.tenants.get("default")
        tenant.fleet.report(identity, await self.report_of(identity, who), time.monotonic())

    async def report_of(self, identity: str, who: Caller) -> SidecarReport:
        tenant = await self.controller.tenants.get("default")
        plan = tenant.plans.plan(who)
        stamp = PlanStamp(plan.revision, plan.hash)
        return SidecarReport(tenant.fleet.key(identity), who.service, who.tags, "envoy", stamp)

    async def rules(self) -> dict[str, str]:
        """The version that each rule routes to, by id."""
        rules = (await self.controller.client.rules()).rules
        return {
            rule["id"]: rule["route"]["backends"][0]["tags"][0] if "route" in rule else "fault"
            for rule in rules
        }


@contextlib.asynccontextmanager
async def real(capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Real]:
    async with running() as controller:
        yield Real(controller, capsys)
