"""Whom the settings make the proxy believe."""

from pathlib import Path

import pytest

from amalgam8.sidecar.trust import FOLDERS, NO_TRUST, Trust, trust


def test_the_file_of_the_settings_comes_first(tmp_path: Path) -> None:
    assert trust(tmp_path / "mine.pem", True) == Trust(str(tmp_path / "mine.pem"))


def test_without_it_the_systems_authorities_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "system.pem"
    system.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    assert Path(trust(None, True).authorities).is_file()


def test_a_folder_of_the_same_authorities_is_known_where_it_has_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert trust(None, True).folder == ""
    monkeypatch.setitem(FOLDERS, str(bundle), str(tmp_path))
    assert trust(None, True).folder == ""
    (tmp_path / "00000000.0").symlink_to(tmp_path / "gone.pem")
    assert trust(None, True).folder == ""
    (tmp_path / "0a1b2c3d.0").symlink_to(bundle)
    assert trust(None, True) == Trust(str(bundle), True, str(tmp_path))
    assert trust(bundle, True).folder == ""  # said by the settings: that file, and nothing else


def test_nobody_or_everybody() -> None:
    assert not NO_TRUST.usable
    assert Trust(verify=False).usable
    assert Trust("a.pem").usable
