"""Every store keeps the contract."""

import pytest

from tests.contracts.registry_store import Kit, RegistryStoreSuite
from tests.registry.kit import MemoryKit


class TestMemoryStore(RegistryStoreSuite):
    @pytest.fixture
    def kit(self) -> Kit:
        return MemoryKit()
