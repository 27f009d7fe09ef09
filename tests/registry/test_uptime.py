import pytest

from amalgam8.catalogs.following import State
from amalgam8.clients.http import Http
from amalgam8.registry.api import Registry
from amalgam8.registry.metrics import Metrics
from amalgam8.registry.registration import Ttls
from amalgam8.registry.uptime import UNREAD_FOR, go_duration, uptime
from amalgam8.registry.watch import Watchers
from amalgam8.web.auth import Auth
from amalgam8.web.serve import bind, serving
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


@pytest.mark.parametrize(
    ("healthy", "age", "up", "well"),
    [
        (True, 5.0, 9000.0, True),
        (False, UNREAD_FOR, 9000.0, True),
        (False, UNREAD_FOR + 1, 9000.0, False),
        (False, None, 5.0, True),
        (False, None, UNREAD_FOR + 1, False),
    ],
)
def test_a_catalogue_is_well_while_its_data_are_young(
    healthy: bool, age: float | None, up: float, well: bool
) -> None:
    state = State("eureka-2", healthy, "secret.yaml is broken", age, 7, 1, 2, 3)
    document = uptime(MemoryKit().make(), up, [state])
    assert set(document) == {"UPTIME", "EXPIRY", "CATALOG_EUREKA-2"}
    assert document["CATALOG_EUREKA-2"]["healthy"] is well
    assert document["CATALOG_EUREKA-2"]["properties"] == {
        "readable": healthy,
        "age": age,
        "instances": 7,
        "hidden": 1,
        "refused": 2,
        "failures": 3,
    }
    assert "secret" not in str(document)


@pytest.mark.parametrize(("age", "status"), [(UNREAD_FOR, 200), (UNREAD_FOR + 1, 503)])
async def test_it_is_503_where_a_component_is_unwell(age: float, status: int) -> None:
    """And the registry goes on serving what it knows."""
    store = MemoryKit().make()
    await store.register("default", instance())
    states = [State("file", False, "broken", age, 7, 0, 0, 1), State("kubernetes", True, "", 1, 1, 0, 0, 0)]
    app = Registry(store, Ttls(), Watchers(store), Metrics(), Auth(), lambda: states).application()
    async with serving(app, bind("127.0.0.1", 0, "port")) as port:
        http = Http(f"http://127.0.0.1:{port}")
        try:
            answer = await http.request("GET", "/uptime", expect=[503])
            found = await http.request("GET", "/api/v1/services")
        finally:
            await http.close()
    assert answer.status == status
    assert [answer.json()[f"CATALOG_{name}"]["healthy"] for name in ("FILE", "KUBERNETES")] == [
        status == 200,
        True,
    ]
    assert found.json() == {"services": ["reviews"]}
