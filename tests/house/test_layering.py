"""Imports run downwards, and the core stays free of I/O."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_import_contracts() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run([command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_nothing_heavy_is_imported_by_the_core() -> None:
    """The core alone must not pull in an HTTP library, gRPC or a database."""
    code = (
        "import sys, amalgam8.routing.decide, amalgam8.routing.compile, amalgam8.model.rule_reader;"
        "heavy = ('asyncio', 'grpc', 'starlette', 'uvicorn', 'httpcore', 'sqlite3');"
        "print([name for name in heavy if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
