"""A stand-in for the Kubernetes API: real sockets, real recordings, and a will of the test's own.

It lists and watches slices, pods and services of all namespaces or one, from recordings of a real server
(``tests/catalogs/recordings``) and from objects in their shape. It can cut watches (also within a line), hold
events back, send them twice or in another order, forget old versions, and refuse.
"""

import asyncio
import copy
import itertools
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import msgspec
from starlette.types import Message, Receive, Scope, Send

from amalgam8.catalogs.contract import Services
from amalgam8.catalogs.kubernetes.reflector import Pace

RECORDINGS = Path(__file__).parents[1] / "recordings"
QUICK = Pace(first=0.01, longest=0.05, watch=30, grace=5.0, settle=0.005, alive=0.05)

COLLECTIONS = {
    "endpointslices": "/apis/discovery.k8s.io/v1",
    "pods": "/api/v1",
    "services": "/api/v1",
}
KINDS = {"endpointslices": "EndpointSlice", "pods": "Pod", "services": "Service"}

Json = dict[str, Any]


class Event(NamedTuple):
    number: int
    version: int
    plural: str
    type: str
    object: Json


def recorded_list(plural: str) -> Json:
    found: Json = msgspec.json.decode((RECORDINGS / f"{plural}.list.json").read_bytes())
    return found


def recorded_events(name: str) -> list[Json]:
    return [
        msgspec.json.decode(line) for line in (RECORDINGS / name).read_bytes().splitlines() if line.strip()
    ]


class _Cut(Exception):
    """Ends a watch without an end."""


class Cluster:
    """``objects`` are by collection, namespace and name. ``asked`` lists path and query of requests.

    ``refuse`` is a status for everything, ``page`` the most that a list gives at once, ``twice`` sends each
    event two times, ``held`` keeps events back until ``release``, ``token`` is the one accepted.
    """

    collections: ClassVar[dict[str, str]] = COLLECTIONS
    kinds: ClassVar[dict[str, str]] = KINDS

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[str, dict[tuple[str, str], Json]] = {plural: {} for plural in self.collections}
        self.log: list[Event] = []
        self.forgotten = 0
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.tokens: list[str] = []
        self.refuse = 0
        self.refused: dict[str, int] = {}
        self.page = 0
        self.twice = False
        self.held = False
        self.token = ""
        self.watches = 0
        self._numbers = itertools.count()
        self._cuts = 0
        self._cut_within_line = False
        self._news = asyncio.Event()

    # What a test does.

    def load(self) -> None:
        """The recorded lists."""
        for plural in COLLECTIONS:
            listed = recorded_list(plural)
            self.version = max(self.version, int(listed["metadata"]["resourceVersion"]))
            for one in listed["items"]:
                self._store(plural)[_key(one)] = one

    def play(self, plural: str, event: Json) -> None:
        """One recorded event happens: at its own version, or at the next one where that has passed.

        All collections share one sequence of versions, whatever order a test plays the recordings in.
        """
        one = copy.deepcopy(event["object"])
        self.version = max(self.version + 1, int(one["metadata"]["resourceVersion"]))
        one["metadata"]["resourceVersion"] = str(self.version)
        if event["type"] == "DELETED":
            self._store(plural).pop(_key(one), None)
        elif event["type"] != "BOOKMARK":
            self._store(plural)[_key(one)] = one
        self._append(plural, event["type"], one)

    def put(self, plural: str, one: Json) -> None:
        """An object comes to be, or changes."""
        self.version += 1
        known = _key(one) in self._store(plural)
        one = copy.deepcopy(one)
        one["metadata"]["resourceVersion"] = str(self.version)
        self._store(plural)[_key(one)] = one
        self._append(plural, "MODIFIED" if known else "ADDED", one)

    def remove(self, plural: str, key: tuple[str, str]) -> None:
        self.version += 1
        one = copy.deepcopy(self._store(plural).pop(key))
        one["metadata"]["resourceVersion"] = str(self.version)
        self._append(plural, "DELETED", one)

    def bookmark(self, plural: str) -> None:
        """Tell watchers how far they are."""
        empty = {"kind": self.kinds[plural], "metadata": {"resourceVersion": str(self.version)}}
        self._append(plural, "BOOKMARK", empty)

    def error(self, plural: str, code: int, message: str) -> None:
        """Tell watchers that something went wrong."""
        self.version += 1
        status = {"kind": "Status", "metadata": {}, "code": code, "message": message}
        self._append(plural, "ERROR", status)

    def put_services(self, namespace: str, services: Services) -> None:
        """Exactly these services, each with a pod for each endpoint and all of them in one slice."""
        for name, values in services.items():
            for value in values:
                self._put_new("pods", pod(namespace, f"{name}-{value.rpartition(':')[2]}", {"app": name}))
            self._put_new("services", service(namespace, name))
            endpoints = [
                endpoint(value.rpartition(":")[0], f"{name}-{value.rpartition(':')[2]}") for value in values
            ]
            for index, value in enumerate(values):
                port = int(value.rpartition(":")[2])
                one = endpoint_slice(namespace, name, [endpoints[index]], port, f"{name}-{port}")
                self._put_new("endpointslices", one)
        wanted = {f"{name}-{value.rpartition(':')[2]}" for name, some in services.items() for value in some}
        for plural in ("endpointslices", "pods"):
            for key in [key for key in self._store(plural) if key[0] == namespace and key[1] not in wanted]:
                self.remove(plural, key)

    def cut(self, *, within_line: bool = False) -> None:
        """End all watches as a lost connection does; ``within_line``: after half an event."""
        self._cut_within_line = within_line
        self._cuts += 1
        self._wake()

    def forget(self) -> None:
        """Versions up to now cannot be watched from any more."""
        self.forgotten = self.version
        self.log = []

    def release(self) -> None:
        """Send what was held back."""
        self.held = False
        self._wake()

    def lists(self, plural: str) -> int:
        """How many lists were asked for."""
        return sum(
            path.endswith(f"/{plural}") and "watch" not in query and "continue" not in query
            for path, query in self.asked
        )

    # What the server does.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        query = dict(part.split("=", 1) for part in scope["query_string"].decode().split("&") if "=" in part)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((scope["path"], query))
        self.tokens.append(headers.get("authorization", ""))
        found = self._found(scope["path"])
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            await _answer(send, 401, (RECORDINGS / "unauthorized.status.json").read_bytes())
        elif found is None:
            await _answer(send, 404, b'{"kind":"Status","code":404}')
        elif status := (self.refuse or self.refused.get(found[0], 0)):
            await _answer(send, status, b'{"kind":"Status","code":%d}' % status)
        elif "watch" in query:
            await self._watch(send, receive, found[0], found[1], int(query["resourceVersion"]))
        else:
            await self._list(send, found[0], found[1], query)

    def _found(self, path: str) -> tuple[str, str] | None:
        """Collection and namespace of a path."""
        plural = path.rpartition("/")[2]
        base = self.collections.get(plural)
        if base is None or not path.startswith(base):
            return None
        middle = path.removeprefix(base).removesuffix(f"/{plural}")
        return plural, middle.removeprefix("/namespaces/") if middle else ""

    async def _list(self, send: Send, plural: str, namespace: str, query: dict[str, str]) -> None:
        items = [one for key, one in sorted(self._store(plural).items()) if namespace in ("", key[0])]
        start = int(query.get("continue", "0"))
        size = self.page or len(items) or 1
        metadata = {"resourceVersion": str(self.version)}
        if start + size < len(items):
            metadata["continue"] = str(start + size)
        body = {
            "kind": f"{self.kinds[plural]}List",
            "metadata": metadata,
            "items": items[start : start + size],
        }
        await _answer(send, 200, msgspec.json.encode(body))

    async def _watch(self, send: Send, receive: Receive, plural: str, namespace: str, since: int) -> None:
        await _begin(send)
        if since < self.forgotten:
            await _send(send, (RECORDINGS / "watch-expired.jsonl").read_bytes(), more=False)
            return
        self.watches += 1
        try:
            async with asyncio.TaskGroup() as tasks:
                gone = tasks.create_task(_until_gone(receive))
                try:
                    await self._follow(send, plural, namespace, since)
                finally:
                    gone.cancel()
        except* _Cut:
            # Without the last, empty chunk, the client sees a connection that was lost.
            raise ConnectionResetError from None
        except* _Gone:
            pass
        finally:
            self.watches -= 1

    async def _follow(self, send: Send, plural: str, namespace: str, since: int) -> None:
        cuts = self._cuts
        sent: set[int] = set()
        while True:
            if not self.held:
                for event in list(self.log):
                    wanted = event.version > since or event.type == "BOOKMARK"
                    ours = namespace in ("", event.object["metadata"].get("namespace", ""))
                    if event.plural == plural and wanted and event.number not in sent:
                        sent.add(event.number)
                        if ours or event.type in ("BOOKMARK", "ERROR"):
                            await self._send_event(send, event)
            news = self._news
            if self._cuts != cuts:
                if self._cut_within_line:
                    await _send(send, b'{"type":"MODIFIED","object":{"metadata":{"name":"ha')
                raise _Cut
            await news.wait()

    async def _send_event(self, send: Send, event: Event) -> None:
        line = msgspec.json.encode({"type": event.type, "object": event.object}) + b"\n"
        for _ in range(2 if self.twice else 1):
            # In two pieces, as lines come over a network.
            await _send(send, line[: len(line) // 2])
            await _send(send, line[len(line) // 2 :])

    def _put_new(self, plural: str, one: Json) -> None:
        if _key(one) not in self._store(plural):
            self.put(plural, one)

    def _store(self, plural: str) -> dict[tuple[str, str], Json]:
        return self.objects[plural]

    def _append(self, plural: str, kind: str, one: Json) -> None:
        self.log.append(Event(next(self._numbers), self.version, plural, kind, one))
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class _Gone(Exception):
    """The client has gone."""


def pod(namespace: str, name: str, labels: dict[str, str], **metadata: Any) -> Json:
    """In the shape of the recordings."""
    one = {"name": name, "namespace": namespace, "uid": f"uid-of-{name}", "labels": labels, **metadata}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": one, "spec": {}, "status": {"phase": "Running"}}


def service(namespace: str, name: str, created: str = "2026-11-24T05:44:06Z") -> Json:
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": created}
    return {"kind": "Service", "apiVersion": "v1", "metadata": metadata, "spec": {"ports": []}}


def endpoint(
    address: str, pod_name: str = "", *, ready: bool | None = True, terminating: bool = False
) -> Json:
    one: Json = {"addresses": [address], "conditions": {"serving": ready, "terminating": terminating}}
    if ready is not None:
        one["conditions"]["ready"] = ready
    if pod_name:
        one["targetRef"] = {"kind": "Pod", "name": pod_name}
    return one


def endpoint_slice(
    namespace: str,
    name: str,
    endpoints: list[Json],
    port: int | list[Json],
    slice_name: str = "",
    **more: Any,
) -> Json:
    ports = [{"name": "http", "protocol": "TCP", "port": port}] if isinstance(port, int) else port
    metadata = {
        "name": slice_name or f"{name}-x1",
        "namespace": namespace,
        "labels": {"kubernetes.io/service-name": name},
    }
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
        **more,
    }


def _key(one: Json) -> tuple[str, str]:
    return one["metadata"].get("namespace", ""), one["metadata"].get("name", "")


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _Gone


async def _begin(send: Send, status: int = 200) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send(send: Send, data: bytes, *, more: bool = True) -> None:
    message: Message = {"type": "http.response.body", "body": data, "more_body": more}
    await send(message)


async def _answer(send: Send, status: int, body: bytes) -> None:
    await _begin(send, status)
    await _send(send, body, more=False)
