"""The parts of Kubernetes objects that are read, and how they are decoded. Pure.

Wire format: the Kubernetes API, ``v1`` and ``discovery.k8s.io/v1``. Members that are not read are not kept:
a pod is some hundred bytes here and some thousand there.
"""

from typing import Any, TypeVar

import msgspec

from amalgam8.model.errors import BadAnswer

SERVICE_LABEL = "kubernetes.io/service-name"

Key = tuple[str, str]
"""Namespace and name."""


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None

    @property
    def key(self) -> Key:
        return (self.namespace, self.name)


class Object(msgspec.Struct, frozen=True):
    """What every object has."""

    metadata: Meta


class Pod(Object, frozen=True):
    pass


class Service(Object, frozen=True):
    pass


class Conditions(msgspec.Struct, frozen=True):
    """None means unknown: for ``ready`` that counts as yes, for ``terminating`` as no."""

    ready: bool | None = None
    terminating: bool | None = None


class Target(msgspec.Struct, frozen=True):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class SliceEndpoint(msgspec.Struct, frozen=True, rename="camel"):
    addresses: tuple[str, ...]
    conditions: Conditions | None = None
    target_ref: Target | None = None


class SlicePort(msgspec.Struct, frozen=True, rename="camel"):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    app_protocol: str | None = None


class Slice(Object, frozen=True, rename="camel"):
    address_type: str = "IPv4"
    endpoints: tuple[SliceEndpoint, ...] | None = None
    ports: tuple[SlicePort, ...] | None = None

    @property
    def service(self) -> str:
        """The service it belongs to; empty: none."""
        return (self.metadata.labels or {}).get(SERVICE_LABEL, "")


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class Page(msgspec.Struct, frozen=True):
    """One page of a list."""

    metadata: ListMeta
    items: tuple[msgspec.Raw, ...] | None = None


class WatchEvent(msgspec.Struct, frozen=True):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


class Status(msgspec.Struct, frozen=True):
    """What an ERROR event holds."""

    code: int = 0
    message: str = ""


T = TypeVar("T")


def decode(data: Any, kind: type[T]) -> T:
    """Decode JSON as one of these.

    Raises:
        BadAnswer: it is something else.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer(f"no {kind.__name__}: {error}") from None
