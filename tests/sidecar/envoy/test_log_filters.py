"""Filters of records and replies: what each asks for. What Envoy makes of them stands where they are used."""

from google.protobuf.json_format import MessageToDict

from amalgam8.sidecar.envoy.log_filters import all_hold, any_holds, by_grpc, by_noted, by_presence, by_status


def test_what_nobody_noted_is_found_by_its_absence() -> None:
    for present in (True, False):
        found = by_presence("a", present).metadata_filter
        assert found.matcher.value.present_match == present
        assert found.match_if_key_not_found.value == (not present)
    assert by_noted("a", "1").metadata_filter.match_if_key_not_found.value is False


def test_a_request_without_a_content_type_is_no_grpc() -> None:
    found = by_grpc(False).header_filter.header
    assert found.invert_match
    assert found.treat_missing_header_as_empty


def test_filters_are_joined() -> None:
    joined = any_holds(all_hold(by_status(200), by_grpc(True)), by_status(404, "NE"))
    first, second = MessageToDict(joined)["orFilter"]["filters"]
    assert len(first["andFilter"]["filters"]) == 2
    assert second["statusCodeFilter"]["comparison"]["op"] == "NE"
