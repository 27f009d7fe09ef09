"""Finding nginx."""

from pathlib import Path

import pytest

from amalgam8.model.errors import InvalidSetting
from amalgam8.sidecar.nginx.process import find_binary


def test_a_binary_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert find_binary(None).name == "nginx"
    with pytest.raises(InvalidSetting, match="is no executable file; allowed is the path of an nginx"):
        find_binary(str(tmp_path / "nginx"))
