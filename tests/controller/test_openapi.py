"""The OpenAPI document is true: complete against the table of routes, and tried by schemathesis."""

import asyncio
import os
import sys
from pathlib import Path

from starlette.routing import Route

from amalgam8.web.plain import PlainRoute
from tests.controller.process import controller
from tests.controller.serving import running

STREAM = r"/watch$"
CANNOT_BE_SAID = "positive_data_acceptance"
"""Schemas count characters where limits are in bytes, and much that is refused depends on what is there."""

WITHIN = 50.0


async def test_every_route_is_described_and_nothing_else_is() -> None:
    async with running() as found:
        paths = (await found.http.request("GET", "/openapi.json")).json()["paths"]
        routes = {
            (route.path, method)
            for route in found.app.routes
            if isinstance(route, (Route, PlainRoute))
            for method in (route.methods or {"GET"}) - {"HEAD"}
        }
    assert {(path, method.upper()) for path, methods in paths.items() for method in methods} == routes


async def test_each_operation_names_its_refusals_and_its_parameters() -> None:
    async with running() as found:
        document = (await found.http.request("GET", "/openapi.json")).json()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            named = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}
            if path.startswith("/v1") and "schema" not in path:
                assert {"400", "401", "503"} <= set(operation["responses"])


async def test_schemathesis_finds_no_contradiction(tmp_path: Path) -> None:
    """Requests of all kinds, right and wrong, against a process; every answer is as the document says."""
    async with controller(tmp_path / "c.db", database_type="memory") as found:
        command = Path(sys.executable).with_name("schemathesis")
        process = await asyncio.create_subprocess_exec(
            *(str(command), "run", f"http://127.0.0.1:{found.port}/openapi.json", "--no-color"),
            *("--seed", "1", "--phases", "examples,fuzzing", "--max-examples", "20"),
            *("--exclude-path-regex", STREAM, "--checks", "all", "--exclude-checks", CANNOT_BE_SAID),
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if not name.startswith("A8_")},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(WITHIN):
                out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, out.decode()
