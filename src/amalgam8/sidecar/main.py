"""``a8sidecar``: reads the settings and runs the agent with the proxy that they name."""

import functools
from pathlib import Path

from amalgam8.runtime.service import run
from amalgam8.sidecar import agent
from amalgam8.sidecar.proxy import Proxy
from amalgam8.sidecar.settings import REFUSED, Settings


def main() -> int:
    """The console script; returns the exit code."""
    return run(
        "a8sidecar",
        Settings,
        functools.partial(agent.run, make_proxy=make_proxy),
        refused=REFUSED,
        command="[command...]",
    )


def make_proxy(settings: Settings, folder: Path) -> Proxy:
    """The proxy of ``proxy_adapter``, whose files live in ``folder``."""
    binary = str(settings.proxy_binary) if settings.proxy_binary else None
    # Imported here: gRPC costs memory that a sidecar without this proxy need not pay.
    if settings.proxy_adapter == "nginx":
        from amalgam8.sidecar.nginx.adapter import Nginx

        return Nginx(
            state_dir=folder,
            listen_host=settings.listen_host,
            http_port=settings.http_listener_port,
            binary=binary,
            own_service=settings.own_service,
            access_log=settings.access_log_file(),
            ca_cert_file=settings.proxy_ca_cert_file,
            tls_verify=not settings.proxy_tls_skip_verify,
            tcp_proxies=settings.tcp_proxies,
            access_log_size=settings.access_log_size * 1024 * 1024,
        )
    from amalgam8.sidecar.envoy.adapter import Envoy

    return Envoy(
        state_dir=folder,
        listen_host=settings.listen_host,
        http_port=settings.http_listener_port,
        binary=binary,
        own_service=settings.own_service,
        access_log=settings.access_log_file(),
        ca_cert_file=settings.proxy_ca_cert_file,
        tls_verify=not settings.proxy_tls_skip_verify,
        tcp_proxies=settings.tcp_proxies,
        access_log_size=settings.access_log_size * 1024 * 1024,
    )
