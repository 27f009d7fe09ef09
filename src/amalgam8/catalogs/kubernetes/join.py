"""Slices, pods and services joined to instances. Pure, and incremental: a change costs its service.

A service may have several slices, and an endpoint may stand in two of them while it moves: ready wins. An
endpoint whose pod is not known yet waits for it, since its tags decide who calls it. Ready endpoints are UP,
terminating ones OUT_OF_SERVICE, others STARTING. Refuses protocols other than TCP and UDP.
"""

from collections.abc import Callable, Iterable

import msgspec

from amalgam8.catalogs.catalog import NEVER_HEARD
from amalgam8.catalogs.kubernetes.objects import Key, Object, Pod, Service, Slice, SliceEndpoint, SlicePort
from amalgam8.model.instance import Endpoint, Instance

TAG = "kubernetes"
VERSION_LABEL = "version"
TEMPLATE_HASHES = frozenset({"pod-template-hash", "controller-revision-hash", "pod-template-generation"})
"""Labels that tell one rollout from another and mean nothing to rules."""
ANNOTATION_LIMIT = 1024
"""Bytes; longer annotations are whole documents, such as the one of ``kubectl apply``, and left out."""

_APP_PROTOCOLS = {
    "http": "http",
    "http2": "http",
    "h2c": "http",
    "grpc": "http",
    "ws": "http",
    "https": "https",
    "wss": "https",
}
_RANK = {"UP": 0, "STARTING": 1, "OUT_OF_SERVICE": 2}


class _Draft(msgspec.Struct, frozen=True):
    """An instance whose id is not settled: another service may want the same."""

    wanted_id: str
    rank: tuple[int, bool]
    instance: Instance


class Join:
    """What is known of a cluster. ``tenant_of`` maps a namespace to a tenant, or None: not ours."""

    def __init__(self, tenant_of: Callable[[str], str | None]) -> None:
        self._tenant_of = tenant_of
        self._slices: dict[Key, Slice] = {}
        self._pods: dict[Key, Pod] = {}
        self._services: dict[Key, Service] = {}
        self._members: dict[Key, set[Key]] = {}
        self._users: dict[Key, dict[Key, int]] = {}
        self._dirty: set[Key] = set()
        self._drafts: dict[Key, tuple[_Draft, ...]] = {}
        self._claims: dict[tuple[str, str], set[Key]] = {}
        self._shown: dict[Key, tuple[Instance, ...]] = {}

    def put(self, key: Key, one: Object) -> None:
        """Take a slice, a pod or a service; what is known already costs nothing."""
        if isinstance(one, Slice):
            if self._slices.get(key) == one:
                return
            self._drop_slice(key)
            self._put_slice(key, one)
        elif isinstance(one, Pod):
            if self._pods.get(key) == one:
                return
            self._pods[key] = one
            self._dirty.update(self._users.get(key, ()))
        elif isinstance(one, Service):
            self._services[key] = one
            self._dirty.add(key)

    def drop(self, key: Key, kind: type[Object]) -> None:
        """Forget one that is gone."""
        if kind is Slice:
            self._drop_slice(key)
        elif kind is Pod:
            if self._pods.pop(key, None) is not None:
                self._dirty.update(self._users.get(key, ()))
        elif self._services.pop(key, None) is not None:
            self._dirty.add(key)

    def found(self) -> dict[str, list[Instance]]:
        """All instances now, by tenant. Those of unchanged services are the same objects as before."""
        self._settle()
        found: dict[str, list[Instance]] = {}
        for group in sorted(self._shown):
            tenant = self._tenant_of(group[0])
            if tenant is not None:
                found.setdefault(tenant, []).extend(self._shown[group])
        return found

    def _put_slice(self, key: Key, one: Slice) -> None:
        if not one.service:
            return
        group = (key[0], one.service)
        self._slices[key] = one
        self._members.setdefault(group, set()).add(key)
        for pod in _pods_of(one):
            users = self._users.setdefault(pod, {})
            users[group] = users.get(group, 0) + 1
        self._dirty.add(group)

    def _drop_slice(self, key: Key) -> None:
        one = self._slices.pop(key, None)
        if one is None:
            return
        group = (key[0], one.service)
        self._members[group].discard(key)
        if not self._members[group]:
            del self._members[group]
        for pod in _pods_of(one):
            users = self._users[pod]
            users[group] -= 1
            if not users[group]:
                del users[group]
            if not users:
                del self._users[pod]
        self._dirty.add(group)

    def _settle(self) -> None:
        """Bring what is shown up to date: first who wants which id, then the instances."""
        touched, self._dirty = self._dirty, set()
        affected = set(touched)
        for group in touched:
            claims = {self._claim(group, draft) for draft in self._drafts.pop(group, ())}
            drafts = self._draft(group)
            if drafts:
                self._drafts[group] = drafts
            now = {self._claim(group, draft) for draft in drafts}
            for claim in claims - now:
                affected |= self._claims[claim]
                self._claims[claim].discard(group)
                if not self._claims[claim]:
                    del self._claims[claim]
            for claim in now:
                self._claims.setdefault(claim, set()).add(group)
                affected |= self._claims[claim]  # also where only the age of a service has changed
        for group in affected:
            drafts = self._drafts.get(group, ())
            if drafts:
                self._shown[group] = tuple(self._named(group, draft) for draft in drafts)
            else:
                self._shown.pop(group, None)

    def _claim(self, group: Key, draft: _Draft) -> tuple[str, str]:
        return (self._tenant_of(group[0]) or "", draft.wanted_id)

    def _named(self, group: Key, draft: _Draft) -> Instance:
        """The instance with its id: of services that share a pod and port the oldest has the plain one."""
        if min(self._claims[self._claim(group, draft)], key=self._age) == group:
            return draft.instance
        namespace, service = group
        return msgspec.structs.replace(draft.instance, id=f"{draft.wanted_id}-{service}.{namespace}")

    def _age(self, group: Key) -> tuple[str, Key]:
        service = self._services.get(group)
        # Times are RFC 3339 in UTC and sort as text; a service that is not known (yet) is the youngest.
        return (service.metadata.creation_timestamp or "~" if service else "~", group)

    def _draft(self, group: Key) -> tuple[_Draft, ...]:
        best: dict[str, _Draft] = {}
        for key in sorted(self._members.get(group, ())):
            one = self._slices[key]
            for endpoint in one.endpoints or ():
                for draft in self._of_endpoint(group[1], one, endpoint):
                    known = best.get(draft.wanted_id)
                    if known is None or draft.rank < known.rank:
                        best[draft.wanted_id] = draft
        return tuple(best[identity] for identity in sorted(best))

    def _of_endpoint(self, service: str, one: Slice, endpoint: SliceEndpoint) -> Iterable[_Draft]:
        target = endpoint.target_ref
        pod = None
        if target is not None and target.kind == "Pod":
            pod = self._pods.get((target.namespace or one.metadata.namespace, target.name))
            if pod is None or (target.uid and target.uid != pod.metadata.uid):
                return
        if not endpoint.addresses:
            return
        # Several addresses of an endpoint are interchangeable; the first stands for all.
        address = endpoint.addresses[0]
        status = _status(endpoint)
        base = pod.metadata.uid if pod is not None else address
        rank = (_RANK[status], one.address_type == "IPv6")
        tcp = {port.port for port in one.ports or () if (port.protocol or "TCP") == "TCP"}
        host = f"[{address}]" if ":" in address else address
        for port in one.ports or ():
            kind = endpoint_type(port)
            if kind is None or not port.port:
                continue
            identity = f"{base}-{port.port}" + ("-udp" if kind == "udp" and port.port in tcp else "")
            instance = Instance(
                identity,
                service,
                Endpoint(kind, f"{host}:{port.port}"),
                status=status,
                metadata=_metadata(pod),
                last_heartbeat=NEVER_HEARD,
                tags=tags_of(pod),
            )
            yield _Draft(identity, rank, instance)


def endpoint_type(port: SlicePort) -> str | None:
    """The type of endpoints at a port, None where they cannot be used.

    From ``appProtocol`` (also ``kubernetes.io/…``) where it is given, else from the name (``http``,
    ``https-admin``), else tcp.
    """
    protocol = port.protocol or "TCP"
    if protocol == "UDP":
        return "udp"
    if protocol != "TCP":
        return None
    if port.app_protocol:
        return _APP_PROTOCOLS.get(port.app_protocol.lower().removeprefix("kubernetes.io/"), "tcp")
    first = (port.name or "").lower().partition("-")[0]
    return first if first in ("http", "https") else "tcp"


def tags_of(pod: Pod | None) -> tuple[str, ...]:
    """Labels as ``key=value``, sorted, then the bare version, then ``kubernetes``."""
    labels = (pod.metadata.labels or {}) if pod is not None else {}
    tags = [f"{key}={value}" for key, value in sorted(labels.items()) if key not in TEMPLATE_HASHES]
    version = labels.get(VERSION_LABEL)
    return tuple(dict.fromkeys([*tags, *([version] if version else []), TAG]))


def _status(endpoint: SliceEndpoint) -> str:
    conditions = endpoint.conditions
    if conditions is None or conditions.ready is not False:
        return "UP"
    return "OUT_OF_SERVICE" if conditions.terminating else "STARTING"


def _metadata(pod: Pod | None) -> msgspec.Raw | msgspec.UnsetType:
    annotations = (pod.metadata.annotations or {}) if pod is not None else {}
    kept = {
        key: value for key, value in sorted(annotations.items()) if len(value.encode()) <= ANNOTATION_LIMIT
    }
    return msgspec.Raw(msgspec.json.encode(kept)) if kept else msgspec.UNSET


def _pods_of(one: Slice) -> list[Key]:
    """Pods that a slice names, each as often as it does."""
    return [
        (endpoint.target_ref.namespace or one.metadata.namespace, endpoint.target_ref.name)
        for endpoint in one.endpoints or ()
        if endpoint.target_ref is not None and endpoint.target_ref.kind == "Pod"
    ]
