"""An nginx for each test that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sidecar.nginx.support import Mesh, running


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with running(tmp_path) as found:
        yield found
