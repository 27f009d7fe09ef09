"""Whom the settings make the proxy believe."""

from pathlib import Path

import pytest

from amalgam8.sidecar.trust import NO_TRUST, Trust, trust


def test_the_file_of_the_settings_comes_first(tmp_path: Path) -> None:
    assert trust(tmp_path / "mine.pem", True) == Trust(str(tmp_path / "mine.pem"))


def test_without_it_the_systems_authorities_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "system.pem"
    system.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    assert Path(trust(None, True).authorities).is_file()


def test_nobody_or_everybody() -> None:
    assert not NO_TRUST.usable
    assert Trust(verify=False).usable
    assert Trust("a.pem").usable
