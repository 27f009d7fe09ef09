"""An instance of a service, as the registry keeps it and sidecars see it.

Wire format: the registry REST API, version 1 (``docs/reference/registry-api.md``). The registration
body is read by the registry; here stand the nouns that both ends share. Refuses to know about leases.
"""

import hashlib
import ipaddress
from functools import lru_cache

import msgspec

ENDPOINT_TYPES = ("http", "https", "tcp", "udp", "user")
STATUSES = ("UP", "STARTING", "OUT_OF_SERVICE")
HTTP_TYPES = frozenset({"http", "https", "tcp", "user"})

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Endpoint(msgspec.Struct, frozen=True):
    """Where an instance listens: one of ENDPOINT_TYPES, and ``host[:port]`` (http: optional scheme)."""

    type: str = ""
    value: str = ""


class Instance(msgspec.Struct, frozen=True, omit_defaults=True):
    """One registered instance; members that are empty are left out of its JSON.

    ``ttl`` is in seconds (0: never expires), ``metadata`` any JSON text as it was sent,
    ``last_heartbeat`` RFC 3339. ``extension`` is what another protocol said of it beyond this, as JSON: a
    store keeps it, and no answer of this API shows it.
    """

    id: str
    service_name: str
    endpoint: Endpoint
    ttl: int = 0
    status: str = ""
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    last_heartbeat: str = ""
    tags: tuple[str, ...] = ()
    extension: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Address(msgspec.Struct, frozen=True, order=True):
    """A place to connect to. ``host`` is an IP address or a host name, without brackets."""

    host: str
    port: int
    tls: bool = False

    @property
    def is_ip(self) -> bool:
        return _is_ip(self.host)


def instance_id(service: str, endpoint: Endpoint) -> str:
    """The id that a registration gets: the first 16 hex digits of SHA-256 of ``service/type/value``."""
    text = f"{service}/{endpoint.type}/{endpoint.value}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def address_of(endpoint: Endpoint) -> Address | None:
    """Where HTTP calls to this endpoint go, or None where they cannot (udp, no port, unreadable).

    http and https may carry a scheme and a path, which are dropped; their ports default to 80 and 443.
    """
    if endpoint.type not in HTTP_TYPES:
        return None
    value = endpoint.value.strip()
    scheme, marker, rest = value.partition("://")
    tls = endpoint.type == "https"
    if marker:
        tls = tls or scheme.lower() == "https"
        value = rest
    value = value.split("/", 1)[0]
    host, port_text = _split(value)
    if not host:
        return None
    if not port_text:
        port = _DEFAULT_PORTS["https" if tls else "http"]
    elif port_text.isascii() and port_text.isdigit():
        port = int(port_text)
    else:
        return None
    return Address(host, port, tls) if 1 <= port <= 65535 else None


def _split(value: str) -> tuple[str, str]:
    """``host:port``, ``[v6]:port`` or a bare IPv6 address."""
    if value.startswith("["):
        host, _, rest = value[1:].partition("]")
        return host, rest.removeprefix(":")
    if value.count(":") > 1:
        return (value, "") if _is_ip(value) else ("", "")
    host, _, port = value.partition(":")
    return host, port


@lru_cache(maxsize=16384)
def _is_ip(host: str) -> bool:
    if ":" not in host and not host.replace(".", "").isdigit():
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
