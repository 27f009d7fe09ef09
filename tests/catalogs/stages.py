"""Stages for the contract suite: the sources of our own catalogues, in the hands of a test."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import yaml

from amalgam8.catalogs.catalog import Catalog
from amalgam8.catalogs.contract import Services
from amalgam8.catalogs.eureka import open_catalog as open_eureka
from amalgam8.catalogs.file import open_catalog as open_file
from amalgam8.catalogs.kubernetes.catalog import Kubernetes, Namespaces
from amalgam8.catalogs.kubernetes.connect import by_url
from tests.catalogs.eureka_server import EurekaServer
from tests.catalogs.kubernetes.cluster import QUICK, Cluster
from tests.wire import served


class FileStage:
    """A directory with a file for the tenant, as YAML or JSON."""

    tenant = "shop"

    def __init__(self, directory: Path, suffix: str) -> None:
        self._directory = directory
        self._path = directory / f"{self.tenant}{suffix}"
        self._text = ""
        self._broken = False

    def catalog(self) -> Catalog:
        return open_file({"directory": str(self._directory), "period": "20ms"})

    async def put(self, services: Services) -> None:
        bodies = [
            {"service_name": service, "endpoint": {"type": "http", "value": value}}
            for service, values in services.items()
            for value in values
        ]
        document = {"instances": bodies}
        as_json = msgspec.json.encode(document).decode()
        self._text = as_json if self._path.suffix == ".json" else yaml.safe_dump(document)
        self._write()

    async def break_source(self) -> None:
        self._broken = True
        self._write()

    async def mend_source(self) -> None:
        self._broken = False
        self._write()

    def _write(self) -> None:
        self._path.write_text('{"instances": [' if self._broken else self._text)


class EurekaStage:
    """One Eureka server."""

    tenant = "default"

    def __init__(self, server: EurekaServer, port: int, form: str) -> None:
        self._server = server
        self._url = f"http://127.0.0.1:{port}/eureka"
        self._form = form

    def catalog(self) -> Catalog:
        return open_eureka({"url": self._url, "period": "50ms", "format": self._form})

    async def put(self, services: Services) -> None:
        self._server.put(services)

    async def break_source(self) -> None:
        self._server.refuse = 503

    async def mend_source(self) -> None:
        self._server.refuse = 0


class KubernetesStage:
    """One cluster with one namespace."""

    tenant = "shop"

    def __init__(self, cluster: Cluster, port: int) -> None:
        self._cluster = cluster
        self._access = by_url(f"http://127.0.0.1:{port}")

    def catalog(self) -> Catalog:
        return Kubernetes(self._access, Namespaces({"shop": "shop"}), QUICK)

    async def put(self, services: Services) -> None:
        self._cluster.put_services("shop", services)

    async def break_source(self) -> None:
        self._cluster.refuse = 503
        self._cluster.cut()

    async def mend_source(self) -> None:
        self._cluster.refuse = 0


Stage = FileStage | EurekaStage | KubernetesStage


@contextlib.asynccontextmanager
async def staged(name: str, directory: Path) -> AsyncIterator[Stage]:
    """A stage of this name, with whatever has to run for it."""
    kind, _, form = name.partition("-")
    if kind == "file":
        yield FileStage(directory, f".{form}")
    elif kind == "eureka":
        server = EurekaServer()
        async with served(server.app) as port:
            yield EurekaStage(server, port, form)
    else:
        cluster = Cluster()
        async with served(cluster) as port:
            yield KubernetesStage(cluster, port)
            cluster.cut()


STAGES = ("file-yaml", "file-json", "eureka-json", "eureka-xml", "kubernetes")
