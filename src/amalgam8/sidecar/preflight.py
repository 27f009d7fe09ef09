"""What a proxy is to listen on and to write to: looked at before it starts, so that what cannot be is one
sentence.

The same for every proxy. Refuses names other than localhost: which address one means is not for the sidecar
to say.
"""

import ipaddress
import os
import socket
from pathlib import Path

from amalgam8.model.errors import InvalidSetting


def listen_address(host: str) -> str:
    """The IP address to listen on.

    Raises:
        InvalidSetting: ``host`` is neither an IP address nor localhost.
    """
    if host == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise InvalidSetting(f"listen_host: {host!r}; allowed is an IP address or localhost") from None


def check_port(host: str, port: int, setting: str = "http_listener_port") -> None:
    """Refuse a port that cannot be had.

    Raises:
        InvalidSetting: naming port, host and reason.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        raise port_taken(host, port, os.strerror(error.errno or 0), setting) from error


def port_taken(host: str, port: int, reason: str, setting: str = "http_listener_port") -> InvalidSetting:
    return InvalidSetting(f"{setting}: port {port} on {host} is taken ({reason})")


def check_writable(file: Path | None, setting: str) -> None:
    """Refuse a file that nobody could append to; it is made if it is not there. None: nothing is written.

    Raises:
        InvalidSetting: naming file and reason.
    """
    if file is None:
        return
    try:
        with file.open("ab"):
            pass
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise InvalidSetting(f"{setting}: {file} cannot be written to ({reason})") from error
