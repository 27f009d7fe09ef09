"""The registry as a real process with catalogues: a directory, a Kubernetes and a Eureka."""

import re
from pathlib import Path
from typing import Any

import msgspec

from amalgam8.clients.http import Http
from tests.catalogs.eureka_server import EurekaServer, document
from tests.catalogs.kubernetes.cluster import Cluster
from tests.conftest import eventually
from tests.registry.test_main import registry
from tests.registry.test_watch import watching
from tests.wire import served

LEASED = {"service_name": "leased", "endpoint": {"type": "http", "value": "10.0.0.1:1"}, "ttl": 600}
FILED = {"service_name": "filed", "endpoint": {"type": "http", "value": "10.0.0.9:1"}, "tags": ["v1"]}


async def services(http: Http) -> set[str]:
    return set((await http.request("GET", "/api/v1/services")).json()["services"])


def write(directory: Path, *registrations: dict[str, Any]) -> None:
    (directory / "default.json").write_bytes(msgspec.json.encode({"instances": registrations}))


async def test_all_catalogues_are_read_like_leases(tmp_path: Path) -> None:
    cluster, eureka = Cluster(), EurekaServer()
    cluster.token = "t0ken"
    cluster.put_services("default", {"clustered": ["10.1.0.1:80"]})
    eureka.add(document("eurekan", "host:eurekan:1", 1))
    write(tmp_path, FILED)
    async with (
        served(cluster) as cluster_port,
        served(eureka.app) as eureka_port,
        registry(
            *("--fs-catalog", str(tmp_path)),
            *("--k8s-url", f"http://127.0.0.1:{cluster_port}", "--k8s-token", "t0ken"),
            *("--eureka-url", f"http://127.0.0.1:{eureka_port}/eureka"),
        ) as (_, port),
    ):
        http = Http(f"http://127.0.0.1:{port}")
        try:
            await http.request("POST", "/api/v1/instances", LEASED)

            async def all_there() -> bool:
                return await services(http) == {"leased", "filed", "clustered", "eurekan"}

            await eventually(all_there, within=20, what="all catalogues")
            found = (await http.request("GET", "/api/v1/instances?tags=filesystem")).json()["instances"]
            assert [one["service_name"] for one in found] == ["filed"]
            assert found[0]["last_heartbeat"] == "0001-01-01T00:00:00Z"
            assert "ttl" not in found[0]
            for method, path in (("PUT", "/heartbeat"), ("DELETE", "")):
                path = f"/api/v1/instances/{found[0]['id']}{path}"
                assert (await http.request(method, path, expect=[410])).status == 410
            up = (await http.request("GET", "/uptime")).json()
            assert set(up) >= {"UPTIME", "CATALOG_FILE", "CATALOG_KUBERNETES", "CATALOG_EUREKA"}
            assert up["UPTIME"]["properties"]["instances"] == 4
            assert up["CATALOG_FILE"]["properties"]["readable"] is True
            metrics = (await http.request("GET", "/metrics")).body.decode()
            assert 'a8_registry_instances{status="UP",tenant="default"} 4.0' in metrics
            assert 'a8_registry_catalog_readable{catalog="eureka"} 1.0' in metrics
        finally:
            await http.close()
        cluster.cut()


async def test_a_lease_hides_a_catalogues_instance_and_watchers_see_each_change(tmp_path: Path) -> None:
    write(tmp_path)
    async with registry("--catalog", f"file?directory={tmp_path}&period=20ms") as (_, port):
        http = Http(f"http://127.0.0.1:{port}")
        try:
            async with watching(http) as events:
                await anext(events)
                assert msgspec.json.decode((await anext(events)).data)["instances"] == []
                write(tmp_path, FILED)
                told = msgspec.json.decode((await anext(events)).data)["upserted"]
                assert [one["tags"] for one in told] == [["v1", "filesystem"]]
                await http.request("POST", "/api/v1/instances", {**FILED, "tags": ["mine"]})
                told = msgspec.json.decode((await anext(events)).data)["upserted"]
                assert [one["tags"] for one in told] == [["mine"]]
                await http.request("DELETE", f"/api/v1/instances/{told[0]['id']}")
                told = msgspec.json.decode((await anext(events)).data)["upserted"]
                assert [one["tags"] for one in told] == [["v1", "filesystem"]]
                write(tmp_path)
                delta = msgspec.json.decode((await anext(events)).data)
                assert (delta["upserted"], delta["removed"]) == ([], [told[0]["id"]])
        finally:
            await http.close()


async def test_tenants_see_their_own_file_only(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(msgspec.json.encode({"instances": [FILED]}))
    (tmp_path / "b.json").write_bytes(msgspec.json.encode({"instances": []}))
    async with registry("--fs-catalog", str(tmp_path), "--auth-mode", "trusted") as (_, port):
        one, other = (Http(f"http://127.0.0.1:{port}", token) for token in ("a", "b"))
        try:

            async def there() -> bool:
                return await services(one) == {"filed"}

            await eventually(there, what="the file")
            assert await services(other) == set()
            assert b"filed" not in (await other.request("GET", "/uptime")).body
        finally:
            await one.close()
            await other.close()


async def test_a_catalogue_that_is_away_keeps_its_data_and_says_how_old_they_are() -> None:
    eureka = EurekaServer()
    eureka.add(document("eurekan", "host:eurekan:1", 1))
    async with served(eureka.app) as eureka_port:
        catalog = f"eureka?url=http%3A%2F%2F127.0.0.1%3A{eureka_port}%2Feureka&period=20ms"
        async with registry("--catalog", catalog) as (_, port):
            http = Http(f"http://127.0.0.1:{port}")

            async def said() -> dict[str, Any]:
                document = (await http.request("GET", "/uptime")).json()
                found: dict[str, Any] = document["CATALOG_EUREKA"]["properties"]
                return found

            async def shown(name: str) -> float | None:
                text = (await http.request("GET", "/metrics")).body.decode()
                found = re.search(rf'a8_registry_catalog_{name}{{catalog="eureka"}} (\S+)', text)
                return float(found[1]) if found else None

            try:

                async def readable() -> bool:
                    return bool((await said())["readable"]) and await services(http) == {"eurekan"}

                await eventually(readable)
                assert await shown("readable") == 1.0
                eureka.refuse = 503

                async def failing() -> bool:
                    return bool((await said())["failures"] > 2)

                await eventually(failing)
                first = await said()
                assert first["readable"] is False
                assert first["instances"] == 1

                async def older() -> bool:
                    return bool((await said())["age"] > first["age"] + 0.1)

                await eventually(older)
                assert await shown("readable") == 0.0
                assert (await shown("failures") or 0) > 2
                assert (await shown("age_seconds") or 0) > first["age"]
                assert await services(http) == {"eurekan"}
                eureka.refuse = 0
                await eventually(readable)
                assert (await said())["age"] < 5
            finally:
                await http.close()
