"""Ways to the Kubernetes API: what a kubeconfig and a pod's service account say, and what is refused."""

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from amalgam8.catalogs.kubernetes.catalog import KubernetesOptions, access_to
from amalgam8.catalogs.kubernetes.connect import Access, Connection, by_kubeconfig, by_url, in_cluster
from amalgam8.model.errors import InvalidSetting, Unreachable
from tests.catalogs.kubernetes.cluster import Cluster
from tests.catalogs.tls import TlsServer, make_pair
from tests.wire import served


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``ca.crt`` and ``ca.key``."""
    directory = tmp_path_factory.mktemp("pair")
    make_pair(directory)
    return directory


def config(path: Path, cluster: dict[str, Any], user: dict[str, Any] | None = None) -> Path:
    document = {
        "current-context": "main",
        "contexts": [
            {"name": "main", "context": {"cluster": "c", "user": "u"}},
            {"name": "other", "context": {"cluster": "elsewhere"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://k8s.example:6443", **cluster}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    file = path / "config"
    file.write_text(yaml.safe_dump(document))
    return file


def test_a_kubeconfig_with_a_token(tmp_path: Path) -> None:
    access = by_kubeconfig(config(tmp_path, {}, {"token": "secret"}))
    assert (access.url, access.token) == ("https://k8s.example:6443", "secret")
    assert "secret" not in repr(access)


def test_a_kubeconfig_with_files_beside_it(tmp_path: Path, pair: Path) -> None:
    for name in ("ca.crt", "ca.key"):
        (tmp_path / name).write_bytes((pair / name).read_bytes())
    user = {"client-certificate": "ca.crt", "client-key": "ca.key", "tokenFile": "token"}
    access = by_kubeconfig(config(tmp_path, {"certificate-authority": "ca.crt"}, user))
    assert access.token_file == tmp_path / "token"
    assert access.tls is not None
    assert [one["subject"] for one in access.tls.get_ca_certs()] == [((("commonName", "tests"),),)]


def test_a_kubeconfig_with_everything_in_it(tmp_path: Path, pair: Path) -> None:
    crt, key = (base64.b64encode((pair / name).read_bytes()).decode() for name in ("ca.crt", "ca.key"))
    user = {"client-certificate-data": crt, "client-key-data": key}
    access = by_kubeconfig(config(tmp_path, {"certificate-authority-data": crt}, user))
    assert access.tls is not None
    assert len(access.tls.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("cluster", "user", "said"),
    [
        ({"insecure-skip-tls-verify": True}, {}, "certificates are always checked"),
        ({"server": "k8s.example"}, {}, "server: must be"),
        ({"server": "http://k8s.example"}, {"token": "secret"}, "must be https"),
        ({"certificate-authority": "missing.crt"}, {}, "certificate-authority: No such file"),
        ({"certificate-authority-data": "?"}, {}, "no base64"),
        ({"certificate-authority-data": "YQ=="}, {}, "cannot be used"),
        ({}, {"exec": {"command": "aws"}}, "plug-ins are not started"),
        ({}, {"username": "a", "password": "secret"}, "put a token"),
    ],
)
def test_what_a_kubeconfig_may_not_say(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidSetting, match=said) as caught:
        by_kubeconfig(config(tmp_path, cluster, user))
    assert "secret" not in str(caught.value)


def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    file = config(tmp_path, {})
    with pytest.raises(InvalidSetting, match="contexts has none named 'mine'"):
        by_kubeconfig(file, "mine")
    with pytest.raises(InvalidSetting, match="clusters has none named 'elsewhere'"):
        by_kubeconfig(file, "other")


@pytest.mark.parametrize("text", ["token: [secret", "- a", "", "x: !!python/object:os.x secret"])
def test_what_is_no_kubeconfig(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(InvalidSetting) as caught:
        by_kubeconfig(tmp_path / "config")
    assert "secret" not in str(caught.value)


def test_a_pod_has_a_service_account(tmp_path: Path, pair: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert in_cluster(environ, tmp_path) is None
    (tmp_path / "token").write_text("secret")
    (tmp_path / "ca.crt").write_bytes((pair / "ca.crt").read_bytes())
    access = in_cluster(environ, tmp_path)
    assert access is not None
    assert (access.url, access.token_file) == ("https://10.96.0.1:443", tmp_path / "token")
    assert in_cluster({}, tmp_path) is None
    v6 = in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1"}, tmp_path)
    assert v6 is not None
    assert v6.url == "https://[fd00::1]:443"


def test_the_first_way_that_is_given_counts(tmp_path: Path) -> None:
    file = config(tmp_path, {}, {"token": "secret"})
    environ = {"KUBECONFIG": f"{file}:/another"}
    assert access_to(KubernetesOptions(), environ).url == "https://k8s.example:6443"
    assert access_to(KubernetesOptions(url="http://127.0.0.1:1"), environ).url == "http://127.0.0.1:1"


async def test_a_token_in_a_file_is_read_anew(tmp_path: Path) -> None:
    cluster, token = Cluster(), tmp_path / "token"
    async with served(cluster) as port:
        connection = Connection(by_url(f"http://127.0.0.1:{port}", token_file=token))
        with pytest.raises(Unreachable, match="cannot be read"):
            await connection.get("/api/v1/pods", ())
        for text in ("first\n", "second"):
            token.write_text(text)
            await connection.get("/api/v1/pods", ())
        await connection.close()
    assert cluster.tokens == ["Bearer first", "Bearer second"]


def test_a_token_never_goes_to_another_machine_in_the_clear() -> None:
    assert isinstance(by_url("http://localhost:8001", "secret"), Access)
    assert isinstance(by_url("http://[::1]:8001", "secret"), Access)
    assert isinstance(by_url("http://10.0.0.1:8001"), Access)
    with pytest.raises(InvalidSetting, match="https"):
        by_url("http://10.0.0.1:8001", "secret")


def test_a_url_holds_no_credentials() -> None:
    with pytest.raises(InvalidSetting, match="give a token") as caught:
        by_url("https://user:secret@10.0.0.1:6443")
    assert "secret" not in str(caught.value)


async def test_certificates_are_checked_both_ways(tmp_path: Path, pair: Path) -> None:
    server = TlsServer(b"{}")
    async with server.serving(pair / "ca.crt", pair / "ca.key"):
        url = f"https://127.0.0.1:{server.port}"
        stranger = Connection(by_url(url))
        with pytest.raises(Unreachable, match=r"(?i)certificate"):
            await stranger.get("/api/v1/pods", ())
        await stranger.close()
        assert server.clients == []
        user = {"client-certificate": str(pair / "ca.crt"), "client-key": str(pair / "ca.key")}
        authority = {"server": url, "certificate-authority": str(pair / "ca.crt")}
        for access in (
            by_url(url, "token", ca_file=str(pair / "ca.crt")),
            by_kubeconfig(config(tmp_path, authority, user)),
        ):
            known = Connection(access)
            assert await known.get("/api/v1/pods", ()) == b"{}"
            await known.close()
    assert server.clients == [None, ((("commonName", "tests"),),)]


def test_authorities_of_clusters_need_not_be_of_the_newest_fashion(pair: Path) -> None:
    access = by_url("https://10.0.0.1", ca_file=str(pair / "ca.crt"))
    assert access.tls is not None
    assert access.tls.verify_mode == ssl.CERT_REQUIRED
    assert access.tls.check_hostname
    assert not access.tls.verify_flags & ssl.VERIFY_X509_STRICT
