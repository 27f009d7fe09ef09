"""Files of clients that are refused. That certificates are checked: ``tests/web/test_tls.py``."""

import ssl
from pathlib import Path

import pytest

from amalgam8.clients.tls import client_context
from amalgam8.model.errors import InvalidSetting
from tests.web.certificates import made


def test_nothing_given_is_the_systems_trust() -> None:
    assert client_context(None) is None


def test_names_and_chains_are_checked(tmp_path: Path) -> None:
    context = client_context(made(tmp_path).ca)
    assert context is not None
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    files, nothing, junk = made(tmp_path), tmp_path / "nothing", tmp_path / "junk"
    junk.write_bytes(b"junk")
    cases: list[tuple[tuple[Path | None, Path | None, Path | None], str]] = [
        ((nothing, None, None), f"ca_cert: cannot read {nothing}"),
        ((junk, None, None), f"ca_cert: {junk} holds no certificates"),
        ((None, files.client_cert, None), "client_key: missing, and client_cert needs it"),
        ((None, None, files.client_key), "client_cert: missing, and client_key needs it"),
        ((files.ca, files.client_cert, junk), "client_cert:"),
        ((files.ca, files.client_cert, files.key), "client_cert:"),
    ]
    for given, says in cases:
        with pytest.raises(InvalidSetting) as caught:
            client_context(*given)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
