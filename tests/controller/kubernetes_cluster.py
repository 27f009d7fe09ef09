"""A stand-in for the Kubernetes API that takes writes too, in the shapes of a real server's answers."""

import asyncio
import contextlib
import copy
import uuid
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, ClassVar

import msgspec
from starlette.types import Message, Receive, Scope, Send

from amalgam8.catalogs.kubernetes.connect import Connection, by_url
from amalgam8.controller import rulebook
from amalgam8.controller.book import Rulebook
from amalgam8.controller.kubernetes import KubernetesStore
from amalgam8.model.rule import Rule
from tests.catalogs.kubernetes.cluster import QUICK, RECORDINGS, Cluster, Json
from tests.conftest import eventually
from tests.controller.rules import write
from tests.wire import served

NAMESPACE = "mesh"
GROUP = "/apis/amalgam8.io/v1"


def recorded(name: str) -> Json:
    found: Json = msgspec.json.decode((RECORDINGS / f"{name}.json").read_bytes())
    return found


class Writable(Cluster):
    """``refused_collections`` take no writes: their answer is a 500."""

    collections: ClassVar[dict[str, str]] = {
        "routingrules": GROUP,
        "rulerevisions": GROUP,
        "rollouts": GROUP,
        "leases": "/apis/coordination.k8s.io/v1",
        "secrets": "/api/v1",
        "configmaps": "/api/v1",
    }
    kinds: ClassVar[dict[str, str]] = {
        "routingrules": "RoutingRule",
        "rulerevisions": "RuleRevision",
        "rollouts": "Rollout",
        "leases": "Lease",
        "secrets": "Secret",
        "configmaps": "ConfigMap",
    }

    def __init__(self) -> None:
        super().__init__()
        self.refused_collections: set[str] = set()
        self.writes: list[tuple[str, str]] = []

    # What people do with kubectl.

    def rules(self) -> dict[str, Json]:
        """The RoutingRules by name."""
        return {name: one for (_, name), one in self.objects["routingrules"].items()}

    def revisions(self) -> list[str]:
        return sorted(name for _, name in self.objects["rulerevisions"])

    def apply(self, name: str, spec: Any) -> None:
        """Make or change a RoutingRule."""
        known = self.objects["routingrules"].get((NAMESPACE, name))
        one = copy.deepcopy(known or recorded("routingrule.created"))
        if known is None:
            one["metadata"] |= {"name": name, "namespace": NAMESPACE, "uid": str(uuid.uuid4())}
            one["metadata"]["generation"] = 0
        one["spec"] = spec
        one["metadata"]["generation"] += 1
        self.put("routingrules", one)

    def delete(self, name: str) -> None:
        self.remove("routingrules", (NAMESPACE, name))

    # What the server does.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["method"] != "GET" or self._single(scope["path"])):
            await self._answered(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def _single(self, path: str) -> tuple[str, str, bool] | None:
        """Collection, name, and whether it is the status, of the path of one object."""
        for plural, base in self.collections.items():
            rest = path.removeprefix(f"{base}/namespaces/{NAMESPACE}/{plural}/")
            if rest != path:
                return plural, rest.removesuffix("/status"), rest.endswith("/status")
        return None

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        method, path = scope["method"], scope["path"]
        document = msgspec.json.decode(body) if body else {}
        if method != "GET":
            self.writes.append((method, path))
        refused = any(f"/{plural}" in path for plural in self.refused_collections) and method != "GET"
        if self.refuse or refused:
            status, answer = self.refuse or 500, {"kind": "Status", "message": "not now"}
        else:
            status, answer = self._done(method, path, document)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        last: Message = {"type": "http.response.body", "body": msgspec.json.encode(answer)}
        await send(last)

    def _done(self, method: str, path: str, document: Json) -> tuple[int, Json]:
        if method == "POST":
            found = self._found(path)
            return self._created(found[0], document) if found else (404, _status(404, "NotFound"))
        single = self._single(path)
        known = self.objects[single[0]].get((NAMESPACE, single[1])) if single else None
        if single is None or known is None:
            return 404, _status(404, "NotFound")
        plural, name, status = single
        if method == "GET":
            return 200, known
        if method == "DELETE":
            self.remove(plural, (NAMESPACE, name))
            return 200, {"kind": "Status", "status": "Success"}
        if method == "PUT":
            version = document["metadata"].get("resourceVersion")
            if version and version != known["metadata"]["resourceVersion"]:
                return 409, _named(recorded("routingrule.stale-update.status"), name)
            changed = {**known, "spec": document["spec"]}
            changed["metadata"] = {**known["metadata"], **document["metadata"]}
        else:
            changed = _merged(known, {"status": document["status"]} if status else document)
        return 200, self._kept(plural, known, changed)

    def _created(self, plural: str, document: Json) -> tuple[int, Json]:
        key = (NAMESPACE, document["metadata"]["name"])
        if key in self.objects[plural]:
            return 409, _named(recorded("routingrule.conflict.status"), key[1])
        times = recorded("routingrule.created")["metadata"]["creationTimestamp"]
        document.pop("status", None)  # a subresource, which a create does not set
        document["metadata"] |= {
            "namespace": NAMESPACE,
            "creationTimestamp": times,
            "generation": 1,
            "uid": str(uuid.uuid4()),
        }
        self.put(plural, document)
        return 201, self.objects[plural][key]

    def _kept(self, plural: str, known: Json, changed: Json) -> Json:
        if changed.get("spec") != known.get("spec"):
            changed["metadata"]["generation"] = known["metadata"].get("generation", 0) + 1
        self.put(plural, changed)
        key = (NAMESPACE, changed["metadata"]["name"])
        return self.objects[plural][key]


class KubernetesKit:
    """Makes stores on one stand-in; each is a controller's. They end with the block."""

    def __init__(self) -> None:
        self.cluster = Writable()
        self.port = 0
        self._tasks: dict[KubernetesStore, asyncio.Task[None]] = {}
        self._connections: list[Connection] = []
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "KubernetesKit":
        self.port = await self._stack.enter_async_context(served(self.cluster))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for store in list(self._tasks):
            await self.stop(store)
        for connection in self._connections:
            await connection.close()
        self.cluster.cut()
        await self._stack.aclose()

    def make(self, kept: int = 1000) -> KubernetesStore:
        """A store that follows the stand-in."""
        connection = Connection(by_url(f"http://127.0.0.1:{self.port}"), watches=8)
        store = KubernetesStore(connection, NAMESPACE, kept=kept, pace=QUICK)
        self._connections.append(connection)
        self._tasks[store] = asyncio.create_task(store.follow())
        return store

    async def stop(self, store: KubernetesStore) -> None:
        """It follows no more, as if its controller had been killed."""
        task = self._tasks.pop(store)
        task.cancel()
        await asyncio.wait([task])

    async def up(self, *stores: KubernetesStore) -> None:
        async def all_up() -> bool:
            return all(store.epoch and store.ready for store in stores)

        await eventually(all_up, what="stores that have listed everything")


@contextlib.asynccontextmanager
async def kubernetes_kit() -> AsyncIterator[KubernetesKit]:
    async with KubernetesKit() as kit:
        yield kit


def _merged(one: Any, patch: Any) -> Any:
    """A JSON merge patch, as RFC 7396 has it."""
    if not isinstance(patch, dict):
        return patch
    found = dict(one) if isinstance(one, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = _merged(found.get(name), value)
    return found


def _status(code: int, reason: str) -> Json:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}


def _named(status: Json, name: str) -> Json:
    """A recorded refusal, of another object."""
    text = msgspec.json.encode(status).replace(b"reviews-v1", name.encode())
    found: Json = msgspec.json.decode(text)
    return found


async def opened(kit: KubernetesKit, kept: int = 1000) -> KubernetesStore:
    store = kit.make(kept)
    await kit.up(store)
    return store


async def create(store: KubernetesStore, *rules: Rule, tenant: str = "default") -> Rulebook:
    book = (await store.load(tenant)).book
    await store.append(tenant, book.revision, rulebook.create(book, rules, write()))
    return (await store.load(tenant)).book


async def until(condition: Callable[[], object], what: str) -> None:
    async def check() -> bool:
        return bool(condition())

    await eventually(check, what=what)


async def agree(*stores: KubernetesStore) -> Rulebook:
    async def same() -> bool:
        books = [(await store.load("default")).book for store in stores]
        return all(book == books[0] for book in books)

    await eventually(same, what="controllers that agree")
    return (await stores[0].load("default")).book


def states(kit: KubernetesKit) -> dict[str, tuple[str, int]]:
    """State and revision of each RoutingRule, as their status says."""
    return {
        name: (one.get("status", {}).get("state", ""), one.get("status", {}).get("revision", 0))
        for name, one in kit.cluster.rules().items()
    }
