"""Where Redis or Valkey is, read from the setting ``store_address``. Pure; needs no Redis library.

``host``, ``host:port``, ``redis://``, ``rediss://`` (TLS; ``?ca=FILE`` names who vouches for the server),
``unix:///path`` or ``sentinel://host:port,host:port/MASTER``. Refuses a password in the address, which logs
and process lists would show: ``store_password`` is for that.
"""

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from amalgam8.runtime.kinds import Kind

PORT = 6379
SENTINEL_PORT = 26379
_SCHEMES = ("redis", "rediss", "unix", "sentinel")


class RedisAddress(msgspec.Struct, frozen=True):
    """``hosts`` are one server, or the sentinels that know where ``master`` is; ``path`` a unix socket."""

    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    master: str = ""
    user: str = ""
    database: int = 0
    tls: bool = False
    ca: str = ""


def read_address(text: str) -> RedisAddress:
    """The address that the text names; an empty one where it names none.

    Raises:
        ValueError: it is none; its text says why, and never repeats a password.
    """
    text = text.strip()
    if not text:
        return RedisAddress()
    parts = urlsplit(text if "://" in text else f"redis://{text}")
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"the scheme is none of {', '.join(_SCHEMES)}")
    user, _, servers = parts.netloc.rpartition("@")
    if ":" in user:
        raise ValueError("it holds a password; give that as store_password")
    ca = _ca(parts.query, tls=parts.scheme == "rediss")
    if parts.scheme == "unix":
        if servers or not parts.path:
            raise ValueError("a unix socket is unix:///path")
        return RedisAddress(path=parts.path, user=unquote(user))
    sentinel = parts.scheme == "sentinel"
    hosts = tuple(_host(one, SENTINEL_PORT if sentinel else PORT) for one in servers.split(","))
    name = parts.path.strip("/")
    if sentinel:
        if not name:
            raise ValueError("sentinel://host:port,host:port/MASTER lacks the master's name")
        return RedisAddress(hosts, master=unquote(name), user=unquote(user))
    if len(hosts) > 1:
        raise ValueError("it names several servers; sentinel:// may")
    if name and not re.fullmatch(r"\d{1,4}", name):
        raise ValueError("the path is no database number")
    return RedisAddress(
        hosts, user=unquote(user), database=int(name or 0), tls=parts.scheme == "rediss", ca=ca
    )


def _host(text: str, port: int) -> tuple[str, int]:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s/]+)(?::(\d{1,5}))?", text)
    if not found or not 0 < int(found[2] or port) < 65536:
        raise ValueError("it is no host:port")
    return found[1].strip("[]"), int(found[2] or port)


def _ca(query: str, *, tls: bool) -> str:
    ca = ""
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "ca" or not tls:
            raise ValueError("it has a query; only rediss:// may, ?ca=FILE")
        if not Path(value).is_file():
            raise ValueError(f"there is no file {value}")
        ca = value
    return ca


def _checked(text: str) -> str:
    read_address(text)
    return text.strip()


ADDRESS = Kind[str](
    "host:port, redis://, rediss://host:port/DB?ca=FILE, unix:///path or sentinel://host:port,…/MASTER",
    _checked,
)
