"""``a8ctl up``: its flags, and the folder for what the mesh keeps. Running it is ``run``'s."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from amalgam8.cli import demos
from amalgam8.cli.demos import Demo
from amalgam8.cli.mesh import read_mesh
from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.kinds import choice

PROXY = choice("envoy", "nginx")


def up(
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", metavar="FILE", help="A mesh.yaml: services and their commands."),
    ] = None,
    demo: Annotated[Demo | None, typer.Option("--demo", help="A mesh that comes with the package.")] = None,
    registry_port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="PORT", help="Where the registry listens.")
    ] = 31300,
    controller_port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="PORT", help="Where the controller listens.")
    ] = 31200,
    gateway_port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="PORT", help="Where calls from outside the mesh go in.")
    ] = 32000,
    proxy: Annotated[
        str, typer.Option(metavar="PROXY", help="The proxy of every sidecar: envoy or nginx.")
    ] = "envoy",
    state_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep rules and state here; without it they end with the mesh."),
    ] = None,
) -> int:
    """Run a mesh: registry, controller, gateway, and each app with its sidecar.

    Everything listens on 127.0.0.1 and runs until Ctrl-C or until one process ends.
    """
    if (file is None) == (demo is None):
        raise InvalidSetting("give -f mesh.yaml or --demo, one of them; see 'a8ctl up --help'")
    try:
        adapter = PROXY.read(proxy)
    except ValueError as error:
        reason = str(error) or f"{proxy!r} is not allowed; allowed: {PROXY.allowed}"
        raise InvalidSetting(f"--proxy: {reason}") from None
    mesh = read_mesh(file or demos.folder(demo or Demo.BOOKINFO) / "mesh.yaml")
    # asyncio and the HTTP client are for those who run a mesh, not for those who ask for --help.
    from amalgam8.cli import run

    with _state_folder(state_dir) as state:
        return run.run(mesh, run.Places(registry_port, controller_port, gateway_port, adapter, state), demo)


@contextlib.contextmanager
def _state_folder(chosen: Path | None) -> Iterator[Path]:
    if chosen is None:
        with tempfile.TemporaryDirectory(prefix="a8-up-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
        return
    try:
        chosen.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=chosen):
            pass
    except OSError as error:
        raise InvalidSetting(f"--state-dir: {chosen} cannot be used: {error.strerror}") from None
    yield chosen.resolve()
