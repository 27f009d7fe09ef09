"""The sidecar's settings, and what must hold between them.

Names are those of the original where it had them; what is known and not built is refused with a sentence
(``REFUSED``). Refuses to look at the network: whether a port is free is found out by whoever listens.
"""

# ruff: noqa: RUF009 - ``setting`` makes dataclass fields

import dataclasses
import os
from pathlib import Path

from amalgam8.model.caller import Caller, caller, parse_caller
from amalgam8.model.errors import InvalidInput, InvalidSetting
from amalgam8.model.instance import ENDPOINT_TYPES
from amalgam8.runtime import logs
from amalgam8.runtime.kinds import (
    BOOLEAN,
    FILE,
    LISTEN_PORT,
    PATH,
    PORT,
    TEXT,
    URL,
    Kind,
    choice,
    duration,
    whole,
)
from amalgam8.runtime.settings import setting
from amalgam8.sidecar.tcp import TCP_PROXIES, TcpProxy

DRAIN_LIMIT = 2.0
"""Seconds; more would not leave the app the time to end within the 5 s that all of it may take."""


def _service(text: str) -> Caller:
    try:
        return parse_caller(text)
    except InvalidInput as error:
        raise ValueError(str(error)) from None


def _tags(text: str) -> tuple[str, ...]:
    tags = tuple(tag.strip() for tag in text.split(","))
    if not all(tags):
        raise ValueError("an empty tag")
    return tags


SERVICE = Kind[Caller]("a service as name or name:tag,tag", _service)
TAGS = Kind[tuple[str, ...]]("tags with commas between", _tags, ",".join, many=True)


@dataclasses.dataclass(frozen=True)
class Settings:
    """All of them; ``checked`` has looked at each against the others."""

    service: Caller = setting(
        Caller(),
        "The service that this instance is one of, and its tags; rules with a source know it by these.",
        SERVICE,
        yaml="service.name",
    )
    service_tags: tuple[str, ...] = setting(
        (), "More tags, beside those in service.", TAGS, yaml="service.tags"
    )
    register: bool = setting(False, "Register the instance, renew its lease, deregister at the end.", BOOLEAN)
    proxy: bool = setting(False, "Run the proxy through which the app calls other services.", BOOLEAN)
    proxy_adapter: str = setting("envoy", "Which proxy.", choice("envoy", "nginx"))
    endpoint_host: str = setting(
        "",
        "Where other sidecars reach the instance: an address or host name. None: the first address of this "
        "machine that is not loopback; write 127.0.0.1 for a mesh on one machine.",
        TEXT,
        yaml="endpoint.host",
    )
    endpoint_port: int = setting(
        0,
        "The port of the instance; needed to register.",
        dataclasses.replace(whole(0, 65535), allowed=PORT.allowed),
        yaml="endpoint.port",
    )
    endpoint_type: str = setting(
        "http", "What the instance speaks.", choice(*ENDPOINT_TYPES), yaml="endpoint.type"
    )
    http_listener_port: int = setting(
        6379,
        "The port at which the app calls other services: http://localhost:6379/<service>/<path>.",
        PORT,
        yaml="proxy_config.http_listener_port",
    )
    tcp_proxies: tuple[TcpProxy, ...] = setting(
        (),
        "Ports at which the app reaches a service by plain TCP connections.",
        TCP_PROXIES,
        yaml="proxy_config.tcp_proxies",
    )
    listen_host: str = setting("127.0.0.1", "The address that the proxy listens on.")
    admin_port: int = setting(6116, "The port of /state, /-/plan, /-/status and /metrics.", LISTEN_PORT)
    registry_url: str = setting("", "The registry.", URL, yaml="registry.url")
    registry_token: str = setting(
        "", "Sent to the registry as bearer token.", yaml="registry.token", secret=True
    )
    controller_url: str = setting("", "The controller.", URL, yaml="controller.url")
    controller_token: str = setting(
        "", "Sent to the controller as bearer token.", yaml="controller.token", secret=True
    )
    ca_cert: Path | None = setting(
        None,
        "Authorities in PEM that https URLs of registry and controller are checked against. None: those of "
        "the system.",
        FILE,
    )
    client_cert: Path | None = setting(
        None, "Certificate chain in PEM to show where registry or controller ask for one.", FILE
    )
    client_key: Path | None = setting(None, "Private key of client_cert, in PEM.", FILE)
    state_dir: Path | None = setting(
        None,
        "A folder for this sidecar alone, for its id and the proxy's files. None: a folder below "
        "~/.local/state/amalgam8 that is named after service and port.",
        dataclasses.replace(PATH, show=lambda value: str(value or "")),
    )
    proxy_binary: Path | None = setting(
        None,
        "The proxy's program. None: the Envoy that was installed with this package, or this machine's nginx.",
        dataclasses.replace(PATH, show=lambda value: str(value or "")),
        yaml="proxy_config.proxy_binary_path",
    )
    proxy_ca_cert_file: Path | None = setting(
        None,
        "Certificates (PEM) of the authorities that https endpoints are verified with. None: the system's.",
        dataclasses.replace(PATH, show=lambda value: str(value or "")),
        yaml="proxy_config.ca_cert_file",
    )
    proxy_tls_skip_verify: bool = setting(
        False, "Call https endpoints without verifying who they are: for tests only.", BOOLEAN
    )
    access_log: str = setting(
        "",
        "The file for access records, one JSON object for each call. None: access.log in the state folder; "
        "off: no records.",
        TEXT,
    )
    access_log_size: int = setting(
        50,
        "Megabytes after which the access log is put aside and a new one begun; two older ones are kept.",
        whole(1, 10_000),
    )
    drain: float = setting(
        1.0,
        "How long, after deregistering, the app goes on serving the calls that still come.",
        duration(0.0, DRAIN_LIMIT),
    )
    discovery_adapter: str = setting(
        "amalgam8",
        "Where instances are learned from.",
        choice("amalgam8", later=("kubernetes", "eureka")),
    )
    rules_adapter: str = setting(
        "amalgam8", "Where rules are learned from.", choice("amalgam8", later=("kubernetes",))
    )
    log_level: str = setting("info", "The least severe log entries that are written.", logs.LEVEL)
    log_format: str = setting("text", "Logs for people or for machines.", logs.FORMAT)

    @property
    def own_service(self) -> Caller:
        """Who this sidecar is to rules with a source."""
        return caller(self.service.service, (*self.service.tags, *self.service_tags))

    def access_log_file(self) -> Path | None:
        """Where access records go; None: nowhere."""
        if self.access_log == "off":
            return None
        return Path(self.access_log).absolute() if self.access_log else self.state_folder() / "access.log"

    def state_folder(self) -> Path:
        """``state_dir``, or the one that stands for it: per user, service and port."""
        if self.state_dir is not None:
            return self.state_dir
        above = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
        port = self.http_listener_port if self.proxy else self.endpoint_port or self.admin_port
        return above / "amalgam8" / "sidecar" / f"{self.service.service or 'unnamed'}-{port}"


def checked(settings: Settings, command: tuple[str, ...]) -> Settings:
    """The same settings.

    Raises:
        InvalidSetting: two of them contradict each other, or one is missing that another needs.
    """
    if not (settings.register or settings.proxy or command):
        raise InvalidSetting("nothing to do: give --register, --proxy or a command to run, or all of them")
    if settings.register:
        _need(settings.service.service, "service", "register")
        _need(settings.endpoint_port, "endpoint_port", "register")
        _need(settings.registry_url, "registry_url", "register")
    if settings.proxy:
        _need(settings.registry_url, "registry_url", "proxy")
        _need(settings.controller_url, "controller_url", "proxy")
    if settings.proxy_ca_cert_file is not None and not settings.proxy_ca_cert_file.is_file():
        raise InvalidSetting(f"proxy_ca_cert_file: there is no file {settings.proxy_ca_cert_file}")
    if settings.proxy and settings.admin_port == settings.http_listener_port:
        raise InvalidSetting(
            f"admin_port: {settings.admin_port} is http_listener_port as well; give each its own"
        )
    for proxy in settings.tcp_proxies:
        if not settings.proxy:
            raise InvalidSetting(
                "tcp_proxies: without proxy there is nothing that would listen; give --proxy"
            )
        for name in ("http_listener_port", "admin_port"):
            if proxy.port == getattr(settings, name):
                raise InvalidSetting(f"tcp_proxies: {proxy.port} is {name} as well; give each its own")
    return settings


def _need(value: object, name: str, because: str) -> None:
    if not value:
        raise InvalidSetting(f"{name}: missing, and {because} needs it; give --{name} or A8_{name.upper()}")


def _later(*names: str, what: str) -> dict[str, str]:
    return dict.fromkeys(names, f"{what} not supported yet")


_POLLING = "nothing is polled, changes are streamed; remove this setting"

REFUSED = {
    **_later("dns", "dns_port", "dns_domain", "dnsconfig", what="the DNS server is"),
    **_later("healthchecks", what="health checks are"),
    **_later("kubernetes_url", "kubernetes_token", "kubernetes_namespace", what="Kubernetes is"),
    **_later("kubernetes_pod_name", "kubernetes", what="Kubernetes is"),
    **_later("eureka_url", "eureka", what="Eureka is"),
    **_later("proxy_tls", "proxy_cert_chain_file", "proxy_private_key_file", what="TLS of the proxy is"),
    **_later("proxy_config.tls", what="TLS of the proxy is"),
    **_later("proxy_config.cert_chain_file", "proxy_config.private_key_file", what="TLS of the proxy is"),
    **_later("proxy_config.grpc_http1_bridge", what="the gRPC bridge is"),
    "registry_poll": _POLLING,
    "controller_poll": _POLLING,
    "registry.poll": _POLLING,
    "controller.poll": _POLLING,
    "supervise": "there is no such setting any more: the command after the flags is what is supervised",
    "commands": "write the command after the flags; more than one is not supported yet",
}
"""Settings of the original that are not built, and the sentence for each."""
