"""The text format, read back by the Prometheus client."""

from prometheus_client.parser import text_string_to_metric_families

from amalgam8.sidecar.figures import Figure, exposition


def test_it_reads_back() -> None:
    odd = 'a "quoted" \\ name\n'
    text = exposition(
        [
            Figure("a8_sidecar_stream_lost_total", "counter", 3, {"stream": "registry"}),
            Figure("a8_sidecar_registered", "gauge", True),
            Figure("a8_sidecar_stream_lost_total", "counter", 0.25, {"stream": odd}),
        ]
    )
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    lost = families["a8_sidecar_stream_lost"]
    assert lost.type == "counter"
    assert [(sample.labels, sample.value) for sample in lost.samples] == [
        ({"stream": "registry"}, 3.0),
        ({"stream": odd}, 0.25),
    ]
    assert families["a8_sidecar_registered"].samples[0].value == 1.0


def test_no_figures_no_text() -> None:
    assert exposition([]) == b""
