"""An authority of our own and certificates that it signs, made on the spot."""

from pathlib import Path

import msgspec
import trustme


class Files(msgspec.Struct, frozen=True):
    """Paths of PEM files."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path


def made(folder: Path) -> Files:
    """A server's certificate for localhost and 127.0.0.1, and a client's."""
    authority = trustme.CA()
    files = Files(*(folder / name for name in ("ca", "cert", "key", "client_cert", "client_key")))
    authority.cert_pem.write_to_path(str(files.ca))
    for leaf, cert, key in (
        (authority.issue_cert("localhost", "127.0.0.1"), files.cert, files.key),
        (authority.issue_cert("sidecar@example.org"), files.client_cert, files.client_key),
    ):
        leaf.private_key_pem.write_to_path(str(key))
        for blob in leaf.cert_chain_pems:
            blob.write_to_path(str(cert), append=True)
    return files
