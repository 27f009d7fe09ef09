"""A certificate authority of a test's own."""

import ssl
from pathlib import Path

import trustme


class Authority:
    """``file`` holds its certificate; the proxies under test are told to trust it, or not."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.file = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def context(self, *names: str, common_name: str | None = None, alpn: str = "") -> ssl.SSLContext:
        """For a server that shows a certificate for these host names and addresses."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*names, common_name=common_name).configure_cert(context)
        if alpn:
            context.set_alpn_protocols([alpn])
        return context

    def pair(self, *names: str) -> tuple[bytes, bytes]:
        """Key and certificate chain in PEM."""
        issued = self._authority.issue_cert(*names)
        return issued.private_key_pem.bytes(), b"".join(blob.bytes() for blob in issued.cert_chain_pems)
