"""Metrics: all of the table, of every tenant, as the edges tell them."""

import re

from amalgam8.clients.controller import ControllerClient
from amalgam8.controller.metrics import METRICS
from tests.controller.rules import delay, document
from tests.controller.serving import running

_TYPE = re.compile(r"^# TYPE (a8_\w+) (\w+)$", re.MULTILINE)


async def test_what_is_counted() -> None:
    async with running() as controller:
        client: ControllerClient = controller.client
        await client.create([document(id="a"), delay()])
        await client.delete(ids=["a"])
        await controller.http.request("GET", "/nowhere", expect=[404])
        answer = await controller.http.request("GET", "/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        text = answer.body.decode()
    for line in (
        'a8_controller_requests_total{method="POST",route="/v1/rules",status="201",tenant="default"} 1.0',
        'a8_controller_requests_total{method="GET",route="other",status="404",tenant=""} 1.0',
        'a8_controller_writes_total{cause="create",tenant="default"} 1.0',
        'a8_controller_writes_total{cause="remove",tenant="default"} 1.0',
        'a8_controller_write_seconds_count{tenant="default"} 2.0',
        'a8_controller_revision{tenant="default"} 2.0',
        'a8_controller_rules{tenant="default"} 1.0',
        'a8_controller_sidecars{state="applied",tenant="default"} 0.0',
    ):
        assert line in text


async def test_the_table_is_what_is_shown() -> None:
    async with running() as controller:
        await controller.client.create([document(id="a")])
        shown = {
            name
            for name, _ in _TYPE.findall(controller.metrics.show().decode())
            if not name.endswith("_created")
        }
    assert shown == METRICS.keys()
