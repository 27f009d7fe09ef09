import pytest

from amalgam8.registry.uptime import go_duration, uptime
from tests.contracts.registry_store import instance
from tests.registry.kit import MemoryKit


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1.5, "1.5s"),
        (60, "1m0s"),
        (3723.25, "1h2m3.25s"),
        (90_000, "25h0m0s"),
        (3600.000001, "1h0m0.000001s"),
        (59.9999999, "1m0s"),
    ],
)
def test_durations_are_written_as_go_does(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


async def test_totals_and_no_tenant() -> None:
    store = MemoryKit().make()
    await store.register("secret", instance(port=1))
    await store.register("other", instance(port=2))
    document = uptime(store, 61)
    properties = document["UPTIME"]["properties"]
    assert document["UPTIME"]["healthy"] is True
    assert (properties["instances"], properties["revision"]) == (2, 2)
    assert properties["uptime"] == "1m1s"
    assert properties["epoch"] == store.epoch
    assert {"load_1m", "load_5m", "load_15m", "build_version", "build_revision", "build_date"} <= set(
        properties
    )
    assert "secret" not in str(document)
