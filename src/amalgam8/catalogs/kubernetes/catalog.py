"""The catalogue ``kubernetes``: reflectors of slices, pods and services, joined to instances.

One namespace, several or all; a mapping says which tenant each belongs to. The first full set is told once
every collection was listed. While one cannot be read, the others go on and what is known of it stays.
Needs the verbs list and watch on endpointslices, pods and services. Refuses to write anything.
"""

import asyncio
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from amalgam8.catalogs.catalog import Catalog, Teller
from amalgam8.catalogs.kubernetes.connect import Access, Connection, by_kubeconfig, by_url, in_cluster
from amalgam8.catalogs.kubernetes.join import Join
from amalgam8.catalogs.kubernetes.objects import Key, Object, Pod, Service, Slice
from amalgam8.catalogs.kubernetes.reflector import Pace, Reflector
from amalgam8.catalogs.loader import Options, read_options
from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.kinds import TEXT, URL, Kind
from amalgam8.runtime.settings import setting

EVERY = "*"

T = TypeVar("T", bound=Object)

COLLECTIONS: Sequence[tuple[str, str, type[Object]]] = (
    ("/apis/discovery.k8s.io/v1", "endpointslices", Slice),
    ("/api/v1", "pods", Pod),
    ("/api/v1", "services", Service),
)


@dataclasses.dataclass(frozen=True)
class Namespaces:
    """Which namespaces are followed, and the tenant of each; EVERY stands for all others."""

    tenants: Mapping[str, str]

    def tenant_of(self, namespace: str) -> str | None:
        """The tenant; by default it has the namespace's name. None: not followed."""
        tenant = self.tenants.get(namespace, self.tenants.get(EVERY))
        return namespace if tenant == EVERY else tenant

    def prefixes(self) -> list[str]:
        """Beginnings of the paths of collections: one for the cluster, or one for each namespace."""
        if EVERY in self.tenants:
            return [""]
        return [f"/namespaces/{namespace}" for namespace in self.tenants]


def _namespaces(text: str) -> Namespaces:
    tenants: dict[str, str] = {}
    for part in text.split(","):
        namespace, colon, tenant = part.strip().partition(":")
        known = namespace == EVERY or namespace.replace("-", "").isalnum()
        if not known or namespace in tenants or (colon and not tenant):
            raise ValueError
        tenants[namespace] = tenant or namespace
    return Namespaces(tenants)


def _shown(namespaces: Namespaces) -> str:
    return ",".join(f"{namespace}:{tenant}" for namespace, tenant in namespaces.tenants.items())


NAMESPACES = Kind[Namespaces](
    "a list of 'namespace' or 'namespace:tenant'; '*' stands for all others", _namespaces, _shown, many=True
)


@dataclasses.dataclass(frozen=True, repr=False)
class KubernetesOptions:
    url: str = setting(
        "", "URL of the API; without it a kubeconfig or the pod's service account is used.", URL
    )
    token: str = setting("", "Bearer token.", TEXT, secret=True)
    token_file: str = setting("", "File with a bearer token, read anew for each request.")
    ca_file: str = setting("", "Certificate authorities of the API, in place of the system's.")
    kubeconfig: str = setting("", "A kubeconfig; by default the one that KUBECONFIG names.")
    context: str = setting("", "Context of the kubeconfig, in place of its current one.")
    namespace: Namespaces = setting(  # noqa: RUF009 - declares an option
        Namespaces({EVERY: EVERY}), "Namespaces to follow and their tenants; by default all.", NAMESPACES
    )


def open_catalog(options: Options) -> Catalog:
    """The catalogue ``kubernetes``.

    Raises:
        InvalidSetting: an option that it does not know or cannot use, or no way to the API.
    """
    chosen = read_options(KubernetesOptions, "kubernetes", options)
    return Kubernetes(access_to(chosen, os.environ), chosen.namespace)


def access_to(options: KubernetesOptions, environ: Mapping[str, str]) -> Access:
    """The API: by ``url``, else by ``kubeconfig``, else the pod's own, else by KUBECONFIG.

    Raises:
        InvalidSetting: none of them, or one that cannot be used.
    """
    if options.url:
        token_file = Path(options.token_file) if options.token_file else None
        return by_url(options.url, options.token, token_file, options.ca_file)
    for name in ("token", "token_file", "ca_file"):
        if getattr(options, name):
            raise InvalidSetting(f"catalog kubernetes: {name}: needs url")
    if options.kubeconfig:
        return by_kubeconfig(Path(options.kubeconfig).expanduser(), options.context)
    if (access := in_cluster(environ)) is not None:
        return access
    if path := environ.get("KUBECONFIG", ""):
        return by_kubeconfig(Path(path.partition(os.pathsep)[0]).expanduser(), options.context)
    raise InvalidSetting("catalog kubernetes: url or kubeconfig is missing, and this is no pod")


class Kubernetes:
    """The catalogue."""

    name = "kubernetes"

    def __init__(self, access: Access, namespaces: Namespaces, pace: Pace | None = None) -> None:
        self._access = access
        self._namespaces = namespaces
        self._pace = pace or Pace()

    async def run(self, teller: Teller) -> None:
        """Follow the cluster until cancelled."""
        prefixes = self._namespaces.prefixes()
        connection = Connection(self._access, len(prefixes) * len(COLLECTIONS))
        following = _Following(teller, Join(self._namespaces.tenant_of), self._pace)
        try:
            async with asyncio.TaskGroup() as tasks:
                for prefix in prefixes:
                    for base, plural, kind in COLLECTIONS:
                        part = following.part(kind, f"{base}{prefix}/{plural}")
                        reflector = Reflector(connection, f"{base}{prefix}/{plural}", kind, part, self._pace)
                        tasks.create_task(reflector.run())
                tasks.create_task(following.tell())
        finally:
            await connection.close()


class _Following:
    """Gathers what the parts hear of and tells it."""

    def __init__(self, teller: Teller, join: Join, pace: Pace) -> None:
        self.join = join
        self._teller = teller
        self._pace = pace
        self._parts: list[_Part[Object]] = []
        self._news = asyncio.Event()
        self._told = float("-inf")

    def part(self, kind: type[Object], path: str) -> "_Part[Object]":
        """The sink of one more collection."""
        part = _Part(self, kind, path)
        self._parts.append(part)
        return part

    def changed(self) -> None:
        """There is something to tell."""
        self._news.set()

    def alive(self) -> None:
        """The source was read: tell so, though not at every sign of life."""
        if asyncio.get_running_loop().time() - self._told > self._pace.alive:
            self._news.set()

    async def tell(self) -> None:
        """Tell, at first when every collection was listed, then what comes within ``settle`` together."""
        while True:
            await self._news.wait()
            await asyncio.sleep(self._pace.settle)
            self._news.clear()
            problem = "; ".join(dict.fromkeys(part.reason for part in self._parts if part.reason))
            if all(part.listed for part in self._parts) and not all(part.reason for part in self._parts):
                self._teller.found(self.join.found(), problem)
                self._told = asyncio.get_running_loop().time()
            elif problem:
                self._teller.failed(problem)


class _Part(Generic[T]):
    """The Sink of one collection: of one namespace, or of the cluster."""

    def __init__(self, owner: _Following, kind: type[T], path: str) -> None:
        self._owner = owner
        self._kind = kind
        self._path = path
        self._keys: set[Key] = set()
        self.listed = False
        self.reason = ""

    def replaced(self, objects: dict[Key, T]) -> None:
        for key in self._keys - objects.keys():
            self._owner.join.drop(key, self._kind)
        for key, one in objects.items():
            self._owner.join.put(key, one)
        self._keys = set(objects)
        self.listed = True
        self._healthy()
        self._owner.changed()

    def changed(self, key: Key, one: T | None) -> None:
        if one is None:
            self._keys.discard(key)
            self._owner.join.drop(key, self._kind)
        else:
            self._keys.add(key)
            self._owner.join.put(key, one)
        self._owner.changed()

    def alive(self) -> None:
        if not self._healthy():
            self._owner.alive()

    def failed(self, reason: str) -> None:
        self.reason = reason
        self._owner.changed()

    def _healthy(self) -> bool:
        """Whether it was failing until now; that it does not any more is news."""
        was, self.reason = self.reason, ""
        if was:
            self._owner.changed()
        return bool(was)
