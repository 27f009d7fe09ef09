"""``a8sidecar`` as a process with each real proxy: https, host names and TCP, as the settings say."""

import asyncio
import signal
from pathlib import Path

import pytest

from amalgam8.clients.http import Http, Refusal
from amalgam8.model.errors import Unreachable
from amalgam8.model.instance import Endpoint, Instance
from tests.conftest import eventually, free_port
from tests.sidecar.authority import Authority
from tests.sidecar.connections import echoes, takers
from tests.sidecar.nginx.support import Backend
from tests.sidecar.support import sidecar
from tests.wire import ControllerStandIn, Instances, RegistryStandIn, served


def registered(identity: str, service: str, kind: str, value: str) -> Instance:
    return Instance(identity, service, Endpoint(kind, value), 60, "UP", tags=("v1",))


@pytest.mark.parametrize("adapter", ["envoy", "nginx"])
async def test_https_host_names_and_tcp_proxies(tmp_path: Path, adapter: str) -> None:
    authority, port, tcp = Authority(tmp_path), free_port(), free_port()
    secure = Backend("secure")
    await secure.start(0, authority.context("localhost"))
    async with echoes("echo") as (echo,):
        known = (
            registered("1", "secure", "https", f"https://localhost:{secure.port}/ignored"),
            registered("2", "echo", "tcp", f"127.0.0.1:{echo.port}"),
        )
        registry = RegistryStandIn(Instances("e", known))
        async with served(registry.app) as registry_port, served(ControllerStandIn().app) as controller_port:
            argv = (
                *("--proxy", f"--proxy-adapter={adapter}", f"--http-listener-port={port}"),
                *(f"--tcp-proxies={tcp}=echo:v1", f"--proxy-ca-cert-file={authority.file}"),
                f"--registry-url=http://127.0.0.1:{registry_port}",
                f"--controller-url=http://127.0.0.1:{controller_port}",
            )
            async with sidecar(tmp_path / "sidecar", *argv) as running:
                http = Http(f"http://127.0.0.1:{port}")

                async def answers() -> bool:
                    try:
                        return b'"path":"/x"' in (await http.request("GET", "/secure/x")).body
                    except (Refusal, Unreachable):
                        return False

                await eventually(answers, within=20, what=str(running.lines))
                await http.close()
                assert secure.last is not None
                assert secure.last.header("host") == ["localhost"]
                assert await takers(tcp, 3) == {"echo": 3}
                assert [each["port"] for each in (await running.status())["proxy"]["tcp"]] == [tcp]
                assert await running.end(signal.SIGTERM) == 0
    await secure.stop()


async def test_an_nginx_without_streams_is_refused_only_where_tcp_is_asked_for(tmp_path: Path) -> None:
    modules, fake = tmp_path / "modules", tmp_path / "nginx"
    modules.mkdir()
    for name in ("ndk_http_module.so", "ngx_http_lua_module.so"):
        (modules / name).touch()
    fake.write_text(
        '#!/bin/sh\n[ "$1" = -V ] || exec sleep 60\n'
        f'echo "configure arguments: --modules-path={modules} --with-stream=dynamic"\n'
    )
    fake.chmod(0o755)
    nowhere = f"http://127.0.0.1:{free_port()}"
    argv = (
        *(
            "--proxy",
            "--proxy-adapter=nginx",
            f"--proxy-binary={fake}",
            f"--http-listener-port={free_port()}",
        ),
        *(f"--registry-url={nowhere}", f"--controller-url={nowhere}"),
    )
    async with (
        asyncio.timeout(30),
        sidecar(tmp_path / "one", *argv, f"--tcp-proxies={free_port()}=db") as refused,
    ):
        assert await refused.process.wait() == 2
    said = [line for line in refused.lines if line.startswith("a8sidecar: ")]
    missing = f"{modules}/ngx_stream_module.so is missing (Debian: apt install libnginx-mod-stream)"
    assert said == [f"a8sidecar: tcp_proxies: {missing}"]
    async with sidecar(tmp_path / "two", *argv) as taken:
        await taken.wrote("the sidecar is up")
        assert await taken.end(signal.SIGTERM) == 0
