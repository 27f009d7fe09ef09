"""Whom the proxy believes when it calls an https endpoint; the same for every proxy.

Refuses to guess: without a file of authorities nobody is believed, unless the settings say everybody is.
"""

import os
import ssl
from pathlib import Path

import msgspec

_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
FOLDERS = {"/etc/ssl/certs/ca-certificates.crt": "/etc/ssl/certs"}
"""Where a system keeps the authorities of a bundle one by one as well."""

NO_AUTHORITIES = (
    "no file of certificate authorities was found; set proxy_ca_cert_file; instance {} gets no calls"
)
"""Takes the instance's id."""


class Trust(msgspec.Struct, frozen=True):
    """Whom to believe: ``authorities`` is a PEM file; ``verify`` False: everybody.

    ``folder`` has the same authorities in a file each, named by hash as OpenSSL looks for them; empty: none.
    """

    authorities: str = ""
    verify: bool = True
    folder: str = ""

    @property
    def usable(self) -> bool:
        """Whether there is anybody to believe."""
        return bool(self.authorities) or not self.verify


NO_TRUST = Trust()
"""Nobody is believed: https instances get no calls."""


def trust(authorities: Path | None, verify: bool) -> Trust:
    """``authorities`` None: the system's, if they are found."""
    if authorities is not None:
        return Trust(str(authorities), verify)
    found = (ssl.get_default_verify_paths().cafile, os.environ.get("SSL_CERT_FILE"), *_BUNDLES)
    bundle = next((path for path in found if path and Path(path).is_file()), "")
    folder = FOLDERS.get(bundle, "")
    return Trust(bundle, verify, folder if folder and by_hash(folder) else "")


def by_hash(folder: str) -> list[Path]:
    """Files that OpenSSL finds in a folder of authorities, the first of each name; links may lead nowhere."""
    return sorted(path for path in Path(folder).glob("*.0") if path.is_file())
