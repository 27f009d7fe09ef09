"""What one tenant sees of metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from amalgam8.web.figures import OneTenant


def test_series_of_other_tenants_are_left_out() -> None:
    source = CollectorRegistry()
    requests = Counter("requests_total", "Requests.", ("tenant", "route"), registry=source)
    Gauge("memory_bytes", "Memory.", registry=source).set(7)
    for tenant in ("blue", "green", ""):
        requests.labels(tenant, "/").inc()
    whole = generate_latest(source).decode()
    blue = generate_latest(OneTenant(source, "blue")).decode()
    nobody = generate_latest(OneTenant(source, "")).decode()
    assert 'tenant="green"' in whole
    assert 'requests_total{route="/",tenant="blue"} 1.0' in blue
    assert "green" not in blue
    for shown in (blue, nobody):
        assert "memory_bytes 7.0" in shown
        assert 'requests_total{route="/",tenant=""} 1.0' in shown
    assert "blue" not in nobody
    assert blue.count("# HELP") == whole.count("# HELP")
