"""How the Kubernetes API is reached: URL and token, a kubeconfig, or the service account of a pod.

A token in a file is read anew for each request, since Kubernetes replaces it within the hour. Refuses to
skip the check of certificates, to start credential plug-ins (put a token or a client certificate into
the kubeconfig in their place), and to send a token over plain HTTP to another machine.
"""

import base64
import binascii
import contextlib
import ipaddress
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml

from amalgam8.clients.http import Http, Query
from amalgam8.model.errors import InvalidSetting, Unreachable

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONFIG_LIMIT = 1_000_000
TIMEOUT = 30.0

_REFUSED = {
    "exec": "credential plug-ins are not started; put a token or a client certificate in its place",
    "auth-provider": "auth providers are not supported; put a token or a client certificate in its place",
    "username": "passwords are not accepted by Kubernetes any more; put a token in its place",
    "insecure-skip-tls-verify": "certificates are always checked; name a certificate-authority",
    "tls-server-name": "another name of the server is not supported",
    "proxy-url": "a proxy is not supported",
}


class Access(msgspec.Struct, frozen=True):
    """Where the API is and how to get in. ``repr`` shows no secret."""

    url: str
    token: str = ""
    token_file: Path | None = None
    tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"Access({self.url!r})"


class Connection:
    """Requests to the API; made for one run of a catalogue, to be closed after it.

    ``watches`` is how many streams are open at once; there is room for as many requests beside them.
    """

    def __init__(self, access: Access, watches: int = 4) -> None:
        self._access = access
        self._http = Http(access.url, timeout=TIMEOUT, connections=2 * watches, tls=access.tls)

    async def get(self, path: str, query: Query) -> bytes:
        """The body of an answer with status 200.

        Raises:
            Unreachable, Refusal: see Http.
        """
        answer = await self._http.request("GET", path, query=query, headers=self._headers())
        if answer.status != 200:
            raise Unreachable(f"{self._http.url} answered with status {answer.status}")
        return answer.body

    @contextlib.asynccontextmanager
    async def stream(self, path: str, query: Query, *, silence: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """Chunks of an answer that goes on. Raises as ``get`` does."""
        headers = {"Accept": "application/json", **self._headers()}
        async with self._http.stream(path, query=query, headers=headers, silence=silence) as chunks:
            yield chunks

    async def close(self) -> None:
        await self._http.close()

    def _headers(self) -> dict[str, str]:
        token = self._access.token
        if self._access.token_file is not None:
            try:
                token = self._access.token_file.read_text().strip()
            except (OSError, UnicodeDecodeError):
                raise Unreachable(f"{self._access.token_file} cannot be read") from None
        return {"Authorization": f"Bearer {token}"} if token else {}


def by_url(url: str, token: str = "", token_file: Path | None = None, ca_file: str = "") -> Access:
    """Access by URL, with a token or without.

    Raises:
        InvalidSetting: a token over plain HTTP that would leave this machine, or an unusable ``ca_file``.
    """
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise InvalidSetting("catalog kubernetes: url: holds credentials; give a token in their place")
    if (token or token_file) and parts.scheme != "https" and not _loopback(parts.hostname or ""):
        raise InvalidSetting("catalog kubernetes: url must be https where a token is sent")
    return Access(
        url.rstrip("/"), token, token_file, _tls(ca_file=ca_file) if parts.scheme == "https" else None
    )


def in_cluster(environ: Mapping[str, str], account: Path = SERVICE_ACCOUNT) -> Access | None:
    """Access by the service account of the pod that this runs in; None: it runs in none."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (account / "token").exists():
        return None
    shown = f"[{host}]" if ":" in host else host
    return by_url(f"https://{shown}:{port}", token_file=account / "token", ca_file=str(account / "ca.crt"))


def by_kubeconfig(path: Path, context: str = "") -> Access:
    """Access as a kubeconfig says; ``context`` empty: its current one.

    Raises:
        InvalidSetting: it cannot be read, or asks for something that is refused; says what.
    """
    where = f"catalog kubernetes: {path}"
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_LIMIT + 1)
        config = yaml.safe_load(data) if len(data) <= CONFIG_LIMIT else None
    except OSError as error:
        raise InvalidSetting(f"{where}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        # The message of the parser may quote a line with a token.
        raise InvalidSetting(f"{where}: no YAML") from None
    if not isinstance(config, dict):
        raise InvalidSetting(f"{where}: no kubeconfig")
    name = context or str(config.get("current-context") or "")
    chosen = _named(where, config, "contexts", "context", name)
    cluster = _named(where, config, "clusters", "cluster", str(chosen.get("cluster") or ""))
    user = _named(where, config, "users", "user", str(chosen["user"])) if chosen.get("user") else {}
    for part in (cluster, user):
        for member, reason in _REFUSED.items():
            if part.get(member):
                raise InvalidSetting(f"{where}: {member}: {reason}")
    server = str(cluster.get("server") or "")
    if urlsplit(server).scheme not in ("http", "https"):
        raise InvalidSetting(f"{where}: server: must be an http or https URL")
    token_file = _beside(path, user.get("tokenFile"))
    access = by_url(server, str(user.get("token") or ""), token_file)
    if access.tls is None:
        return access
    certificate = _material(where, path, user, "client-certificate")
    key = _material(where, path, user, "client-key")
    tls = _tls(
        ca_data=_material(where, path, cluster, "certificate-authority"),
        pair=certificate + b"\n" + key if certificate and key else b"",
    )
    return msgspec.structs.replace(access, tls=tls)


def _named(where: str, config: dict[str, Any], section: str, member: str, name: str) -> dict[str, Any]:
    for entry in config.get(section) or ():
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(member), dict):
            found: dict[str, Any] = entry[member]
            return found
    raise InvalidSetting(f"{where}: {section} has none named {name!r}")


def _beside(path: Path, name: Any) -> Path | None:
    """A path in a kubeconfig is relative to the file."""
    return path.parent / Path(str(name)).expanduser() if name else None


def _material(where: str, path: Path, part: dict[str, Any], member: str) -> bytes:
    """PEM that stands in the file itself or in another one; empty: neither."""
    if data := part.get(f"{member}-data"):
        try:
            return base64.b64decode(str(data), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidSetting(f"{where}: {member}-data: no base64") from None
    beside = _beside(path, part.get(member))
    try:
        return beside.read_bytes() if beside is not None else b""
    except OSError as error:
        raise InvalidSetting(f"{where}: {member}: {error.strerror}") from None


def _tls(ca_file: str = "", ca_data: bytes = b"", pair: bytes = b"") -> ssl.SSLContext:
    try:
        authorities = ca_data.decode("ascii") or None
        context = ssl.create_default_context(cafile=ca_file or None, cadata=authorities)
        # Python 3.13 asks of authorities what those of many clusters lack, such as key identifiers. Without
        # this flag certificates and names are checked as Python 3.12 does it.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if pair:
            # OpenSSL takes a certificate with its key from a file only.
            with tempfile.NamedTemporaryFile() as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(pair)
                file.flush()
                context.load_cert_chain(file.name)
    except (OSError, ValueError):
        raise InvalidSetting("catalog kubernetes: a certificate or key cannot be used") from None
    return context


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
