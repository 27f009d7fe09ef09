"""What calls cost, and the file that tells Envoy. What Envoy makes of it stands in ``test_limits``."""

import json
from pathlib import Path

import pytest

from amalgam8.sidecar.envoy.slices import COST_LIMIT, TOKENS, cost, cost_format, short, write


@pytest.mark.parametrize(
    ("share", "tokens"),
    [
        (1, TOKENS),
        (0.5, 2 * TOKENS),
        (2, TOKENS // 2),
        (0.001, 1000 * TOKENS),
        (0, COST_LIMIT),
        (1e-9, COST_LIMIT),
    ],
)
def test_the_smaller_the_share_the_more_a_call_costs(share: float, tokens: int) -> None:
    assert cost(share) == tokens


def test_the_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "slices.json"
    write(file, {})
    empty = json.loads(file.read_bytes())
    write(file, {'odd:)"name/0': 0.5})
    found = json.loads(file.read_bytes())
    assert found["version_info"] != empty["version_info"]
    (metadata,) = found["resources"][0]["typed_config"]["metadata"]
    assert metadata["value"] == {short('odd:)"name/0'): str(2 * TOKENS)}
    assert [path.name for path in tmp_path.iterdir()] == ["slices.json"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_budget_can_have_any_name() -> None:
    assert 'odd:)"name' not in cost_format('odd:)"name/0')
