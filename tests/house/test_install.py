"""``pip install .`` in a fresh virtual environment gives the four commands, Envoy and the demos."""

import os
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_a_plain_install_gives_everything(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    bin_ = tmp_path / "env" / "bin"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=240
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(bin_ / "python", "-m", "pip", "install", "--quiet", ROOT)
    for command in ("a8registry", "a8controller", "a8sidecar", "a8ctl"):
        assert "Usage" in run(bin_ / command, "--help")
    where = "import amalgam8, pathlib; print(pathlib.Path(amalgam8.__file__).parent)"
    package = Path(run(bin_ / "python", "-c", where).strip())
    assert package.is_relative_to(tmp_path)
    assert (package / "examples" / "bookinfo" / "mesh.yaml").exists()
    binary = next(package.parent.glob("envoy/_bin/envoy"))
    assert "1.40" in run(binary, "--version")
