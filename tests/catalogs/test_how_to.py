"""The example of the guide is complete, short, and keeps to the contract."""

import re
import types
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amalgam8.catalogs.contract import CHECKS, Check
from amalgam8.catalogs.following import accepted
from amalgam8.model.errors import InvalidSetting
from tests.wire import served

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-catalog.md"
LONGEST = 60


def blocks() -> list[str]:
    """The Python of the guide: the catalogue, then its test."""
    return re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


class Inventory:
    """The source of the example; what the guide calls ``cmdb``."""

    def __init__(self) -> None:
        self.url = ""
        self.document: Mapping[str, Any] = {}
        self.broken = False
        self.app = Starlette(routes=[Route("/mesh", self._answer)])

    async def _answer(self, _request: Request) -> Response:
        return Response(b"[" if self.broken else msgspec.json.encode(self.document))


@pytest.fixture
async def cmdb() -> AsyncIterator[Inventory]:
    inventory = Inventory()
    async with served(inventory.app) as port:
        inventory.url = f"http://127.0.0.1:{port}/mesh"
        yield inventory


@pytest.fixture
def guide(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Both examples as the module that a reader would have written."""
    module = types.ModuleType("a8_inventory")
    monkeypatch.setitem(__import__("sys").modules, "a8_inventory", module)
    for block in blocks():
        exec(compile(block, str(GUIDE), "exec"), module.__dict__)  # noqa: S102 - the guide's own example
    return module


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_example_keeps_the_contract(check: Check, guide: types.ModuleType, cmdb: Inventory) -> None:
    await check(guide.Stage(cmdb))


def test_the_example_is_short_and_its_test_is_there() -> None:
    catalog, trial = blocks()
    assert len(catalog.strip().splitlines()) < LONGEST
    assert "def open_catalog" in catalog
    assert "run_checks" in trial


def test_the_example_refuses_wrong_options(guide: types.ModuleType) -> None:
    with pytest.raises(InvalidSetting, match="catalog inventory: url is missing"):
        guide.open_catalog({})
    with pytest.raises(InvalidSetting, match="period"):
        guide.open_catalog({"url": "http://127.0.0.1:1", "period": "soon"})


async def test_its_instances_are_taken(guide: types.ModuleType, cmdb: Inventory) -> None:
    cmdb.document = {"reviews": ["10.0.0.7:9080"]}
    inventory = guide.Inventory(guide.Options(cmdb.url, "shop"))
    content, problems = accepted(await inventory.fetch(), {})
    await inventory.close()
    assert [one.endpoint.value for one in content["shop"].values()] == ["10.0.0.7:9080"]
    assert not problems
