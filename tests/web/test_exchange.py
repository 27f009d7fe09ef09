"""Requests and answers as nouns."""

import gzip
from itertools import islice
from uuid import UUID

import msgspec

from amalgam8.web.exchange import Answer, Asked, json_answer, pairs, request_ids


def fields(head: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n")[1:-1])]


def test_the_bytes_and_the_fields_of_a_form_say_the_same() -> None:
    for answer in (
        Answer(),
        json_answer({"a": [1]}, 201, ((b"location", b"/x"), (b"etag", b'"1"'))),
        Answer(b"text", 503, kind=b"text/plain"),
    ):
        for packed in (False, True):
            form = answer.form(may_vary=True, packed=packed)
            assert sorted(fields(form.head)) == sorted(form.pairs())
            assert form.head.startswith(b"HTTP/1.1 %d " % answer.status)
            assert (b"content-length", b"%d" % len(form.body)) in form.pairs()
            assert (b"vary", b"Accept-Encoding") in form.pairs()
            assert (gzip.decompress(form.body) if packed and answer.body else form.body) == answer.body


def test_an_empty_body_is_not_compressed() -> None:
    form = Answer().form(may_vary=True, packed=True)
    assert form.body == b""
    assert all(name != b"content-encoding" for name, _ in form.pairs())


def test_where_nothing_is_compressed_nothing_varies() -> None:
    assert b"vary" not in Answer(b"x").form(may_vary=False, packed=False).head


def test_an_answer_is_put_into_its_forms_once() -> None:
    answer = json_answer(list(range(1000)))
    assert answer.form(may_vary=True, packed=True) is answer.form(may_vary=True, packed=True)
    assert answer.form(may_vary=True, packed=False) is answer.form(may_vary=True, packed=False)
    assert answer.form(may_vary=True, packed=False) is not answer.form(may_vary=True, packed=True)


def test_bytes_are_json_already_and_nothing_is_no_body() -> None:
    assert json_answer(b"[1]").body == b"[1]"
    assert json_answer(None).body == b""
    assert msgspec.json.decode(json_answer({"a": 1}).body) == {"a": 1}


def test_parameters_come_in_order_with_blanks_and_decoded() -> None:
    assert pairs(b"b=1&a=%C3%A4+x&b=&c") == [("b", "1"), ("a", "ä x"), ("b", ""), ("c", "")]
    assert pairs(b"") == []


def test_without_a_host_the_server_is_named() -> None:
    assert Asked("GET", "/", b"", {"host": "a:1"}).host() == "a:1"
    assert Asked("GET", "/", b"", {}, server=("10.0.0.1", 80)).host() == "10.0.0.1:80"


def test_request_ids_are_long_and_never_the_same() -> None:
    made = list(islice(request_ids(), 1000))
    assert len(set(made)) == 1000
    assert all(str(UUID(one)) == one and UUID(one).version == 4 for one in made)
