"""bookinfo as real processes behind a stand-in for their sidecar: what it shows, and what it survives."""

import html
import http.client
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import pytest
from tests.examples.programs import (
    HANG,
    LIMIT,
    Program,
    Reply,
    Sidecar,
    fetch,
    program,
    sidecar,
    wait_until,
)

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
NO_DETAILS = "Details are unavailable at the moment."
NO_REVIEWS = "Reviews are unavailable at the moment."


@dataclass(frozen=True)
class Bookinfo:
    sidecar: Sidecar
    details: Program
    ratings: Program
    reviews: dict[str, Program]
    page: Program

    def product_page(self, path: str = "/productpage", **headers: str) -> Reply:
        return fetch(self.page.port, path, headers)

    def login(self, name: str, **headers: str) -> Reply:
        return fetch(self.page.port, "/login", FORM | headers, "POST", f"username={name}")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bookinfo]:
    logs = tmp_path_factory.mktemp("bookinfo")
    with ExitStack() as stack:
        mesh = stack.enter_context(sidecar())

        def start(name: str, tags: str = "v1", **env: str) -> Program:
            env |= {"A8_SERVICE": f"{name}:{tags}", "A8_PROXY_URL": mesh.url}
            return stack.enter_context(program(f"bookinfo/{name}.py", logs, **env))

        # Patience that no machine is too busy for: the time limits have tests of their own.
        patient = {"DETAILS_TIMEOUT": "20", "REVIEWS_TIMEOUT": "20", "RATINGS_TIMEOUT": "20"}
        yield Bookinfo(
            mesh,
            start("details"),
            start("ratings"),
            {v: start("reviews", f"{v},version={v}", **patient) for v in ("v1", "v2", "v3")},
            start("productpage", **patient),
        )


@pytest.fixture
def bookinfo(started: Bookinfo) -> Bookinfo:
    started.sidecar.seen.clear()
    started.sidecar.targets = {
        "productpage": started.page,
        "details": started.details,
        "ratings": started.ratings,
        "reviews": started.reviews["v1"],
    }
    return started


def star_colors(page: str) -> set[str]:
    return {color for color in ("black", "red") if color in page.lower()}


def test_facts(bookinfo: Bookinfo) -> None:
    assert json.loads(fetch(bookinfo.details.port, "/details").text) == {
        "paperback": "200 pages",
        "publisher": "PublisherA",
        "language": "English",
        "isbn_10": "1234567890",
        "isbn_13": "123-1234567980",
    }
    assert json.loads(fetch(bookinfo.ratings.port, "/ratings").text) == {"Reviewer1": 5, "Reviewer2": 4}


def test_everyone_is_healthy(bookinfo: Bookinfo) -> None:
    for service in (bookinfo.details, bookinfo.ratings, bookinfo.page, *bookinfo.reviews.values()):
        assert fetch(service.port, "/health").status == 200


@pytest.mark.parametrize(("version", "color"), [("v1", None), ("v2", "black"), ("v3", "red")])
def test_a_version_shows_its_stars_and_the_page_no_other_color_word(
    bookinfo: Bookinfo, version: str, color: str | None
) -> None:
    bookinfo.sidecar.targets["reviews"] = bookinfo.reviews[version]
    reply = bookinfo.product_page()
    assert reply.status == 200
    assert reply.text.count("<blockquote>") == 2
    assert star_colors(reply.text) == ({color} if color else set())
    labels = re.findall(r'aria-label="(\d \w+ stars)"', reply.text)
    assert labels == ([f"5 {color} stars", f"4 {color} stars"] if color else [])
    assert "1234567890" in reply.text
    assert "unavailable" not in reply.text


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_page_for_programs(bookinfo: Bookinfo, version: str) -> None:
    bookinfo.sidecar.targets["reviews"] = bookinfo.reviews[version]
    parts = json.loads(bookinfo.product_page("/productpage?format=json").text)
    assert parts["details"]["publisher"] == "PublisherA"
    assert all(review["text"] for review in parts["reviews"].values())
    color = {"v2": "black", "v3": "red"}.get(version)
    ratings = {name: review.get("rating") for name, review in parts["reviews"].items()}
    assert ratings == {
        "Reviewer1": {"stars": 5, "color": color} if color else None,
        "Reviewer2": {"stars": 4, "color": color} if color else None,
    }


def test_stars_by_setting_instead_of_version(bookinfo: Bookinfo, tmp_path: Path) -> None:
    env = {"ENABLE_RATINGS": "true", "STAR_COLOR": "red", "A8_SERVICE": "reviews:v1"}
    with program("bookinfo/reviews.py", tmp_path, A8_PROXY_URL=bookinfo.sidecar.url, **env) as reviews:
        bookinfo.sidecar.targets["reviews"] = reviews
        assert star_colors(bookinfo.product_page().text) == {"red"}


def test_the_index_and_the_signed_in_page_have_no_color_words(bookinfo: Bookinfo) -> None:
    assert star_colors(bookinfo.product_page("/").text) == set()
    assert star_colors(bookinfo.product_page(Cookie="user=jason").text) == set()


# Failures of the others.


def test_reviews_that_fail_are_asked_twice_and_left_out(bookinfo: Bookinfo) -> None:
    bookinfo.sidecar.targets["reviews"] = lambda: (500, "{}")
    reply = bookinfo.product_page()
    assert reply.status == 200
    assert NO_REVIEWS in reply.text
    assert "<blockquote>" not in reply.text
    assert "PublisherA" in reply.text
    assert star_colors(reply.text) == set()
    assert len(bookinfo.sidecar.calls("reviews")) == 2
    assert json.loads(bookinfo.product_page("/productpage?format=json").text).keys() == {"details"}


def test_the_second_attempt_may_succeed(bookinfo: Bookinfo) -> None:
    answers = iter([(503, ""), (200, '{"Ann":{"text":"Good."}}')])
    bookinfo.sidecar.targets["reviews"] = lambda: next(answers)
    page = bookinfo.product_page().text
    assert "Good." in page
    assert ", 2 attempts" in page


def test_details_that_fail_are_asked_once_and_left_out(bookinfo: Bookinfo) -> None:
    bookinfo.sidecar.targets["details"] = lambda: (503, "")
    reply = bookinfo.product_page()
    assert reply.status == 200
    assert NO_DETAILS in reply.text
    assert reply.text.count("<blockquote>") == 2
    assert star_colors(reply.text) == set()
    assert len(bookinfo.sidecar.calls("details")) == 1


@pytest.mark.parametrize(
    "body", ["", "oops", "[]", '{"Ann":{}}', '{"Ann":{"text":"x","rating":{"stars":"5"}}}']
)
def test_an_answer_of_the_wrong_shape_is_a_failure(bookinfo: Bookinfo, body: str) -> None:
    bookinfo.sidecar.targets["reviews"] = lambda: (200, body)
    reply = bookinfo.product_page()
    assert (reply.status, NO_REVIEWS in reply.text) == (200, True)


def test_without_a_sidecar_the_page_is_still_a_page(bookinfo: Bookinfo, tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:1"
    with program("bookinfo/productpage.py", tmp_path, A8_PROXY_URL=nobody) as page:
        reply = fetch(page.port, "/productpage")
    assert reply.status == 200
    assert NO_DETAILS in reply.text
    assert NO_REVIEWS in reply.text


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_reviews_without_the_ratings_they_want_are_a_500(bookinfo: Bookinfo, version: str) -> None:
    bookinfo.sidecar.targets["ratings"] = lambda: (503, "")
    assert fetch(bookinfo.reviews[version].port, "/reviews").status == 500
    assert len(bookinfo.sidecar.calls("ratings")) == 1


def test_only_versions_with_stars_ask_for_ratings(bookinfo: Bookinfo) -> None:
    bookinfo.sidecar.targets["ratings"] = lambda: (503, "")
    assert fetch(bookinfo.reviews["v1"].port, "/reviews").status == 200
    assert bookinfo.sidecar.calls("ratings") == []


# Time limits: what never answers is given up.


def test_page_gives_up_waiting(bookinfo: Bookinfo, tmp_path: Path) -> None:
    bookinfo.sidecar.targets |= {"details": lambda: HANG, "reviews": lambda: HANG}
    hasty = {"DETAILS_TIMEOUT": "0.1", "REVIEWS_TIMEOUT": "0.1", "A8_PROXY_URL": bookinfo.sidecar.url}
    with program("bookinfo/productpage.py", tmp_path, **hasty) as page:
        replies = [fetch(page.port, "/productpage") for _ in range(3)]
        log = page.log()
    assert all(r.status == 200 and NO_DETAILS in r.text and NO_REVIEWS in r.text for r in replies)
    assert len(bookinfo.sidecar.calls("details")) == 3
    assert len(bookinfo.sidecar.calls("reviews")) == 6
    assert log.count("attempt 1 of 2: /reviews/reviews did not answer within 0.1 s\n") == 3
    assert log.count("attempt 2 of 2: /reviews/reviews did not answer within 0.1 s\n") == 3


def test_reviews_give_up_waiting(bookinfo: Bookinfo, tmp_path: Path) -> None:
    bookinfo.sidecar.targets["ratings"] = lambda: HANG
    env = {"A8_SERVICE": "reviews:v2", "RATINGS_TIMEOUT": "0.1", "A8_PROXY_URL": bookinfo.sidecar.url}
    with program("bookinfo/reviews.py", tmp_path, **env) as reviews:
        assert fetch(reviews.port, "/reviews").status == 500


@pytest.mark.parametrize(
    ("script", "tag", "line"),
    [
        ("productpage", "v1", "productpage: waits up to 1 s for details, twice 3 s for reviews\n"),
        ("reviews", "version=v1", "reviews v1: no stars\n"),
        ("reviews", "v2", "reviews v2: black stars, waits up to 10 s for ratings\n"),
        ("reviews", "v3", "reviews v3: red stars, waits up to 2.5 s for ratings\n"),
    ],
)
def test_limits_by_default(tmp_path: Path, script: str, tag: str, line: str) -> None:
    with program(f"bookinfo/{script}.py", tmp_path, A8_SERVICE=f"{script}:{tag}") as started_program:
        wait_until(lambda: started_program.log() == line)


# What travels along.


def test_request_id_trace_and_user_reach_the_last_service(bookinfo: Bookinfo) -> None:
    bookinfo.sidecar.targets["reviews"] = bookinfo.reviews["v2"]
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    bookinfo.product_page(
        **{
            "X-Request-ID": "r-1",
            "traceparent": trace,
            "Cookie": "version=v1; user=jason; superuser=x",
            "X-Other": "stays",
        }
    )
    for service in ("details", "reviews", "ratings"):
        (call,) = bookinfo.sidecar.calls(service)
        assert call.headers["x-request-id"] == "r-1"
        assert call.headers["traceparent"] == trace
        assert call.headers["cookie"] == "user=jason"
        assert "x-other" not in call.headers


def test_nothing_travels_along_when_there_is_nothing(bookinfo: Bookinfo) -> None:
    bookinfo.product_page(Cookie="superuser=jason")
    (call,) = bookinfo.sidecar.calls("reviews")
    assert not {"cookie", "x-request-id", "traceparent"} & call.headers.keys()


# Signing in and out.


def test_sign_in_sets_the_cookie_and_the_page_greets(bookinfo: Bookinfo) -> None:
    reply = bookinfo.login("jason")
    assert (reply.status, reply.headers["Location"]) == (302, "productpage")
    cookie = reply.headers["Set-Cookie"].split(";")[0]
    assert cookie == "user=jason"
    page = bookinfo.product_page(Cookie=cookie).text
    assert "jason" in page
    assert 'href="logout"' in page
    assert 'action="login"' not in page


def test_sign_out_clears_the_cookie(bookinfo: Bookinfo) -> None:
    reply = bookinfo.product_page("/logout", Cookie="user=jason")
    assert (reply.status, reply.headers["Location"]) == (302, "productpage")
    assert reply.headers["Set-Cookie"].startswith('user=""; ')
    assert "Max-Age=0" in reply.headers["Set-Cookie"]
    assert 'action="login"' in bookinfo.product_page().text


@pytest.mark.parametrize(
    ("referer", "location"),
    [
        (
            "http://gateway:32000/productpage/productpage?a=b",
            "http://gateway:32000/productpage/productpage?a=b",
        ),
        ("http://elsewhere/productpage", "productpage"),
        ("http://gateway:32000@elsewhere/", "productpage"),
        ("javascript://gateway:32000/%0aalert(1)", "productpage"),
        ("//gateway:32000/x", "productpage"),
        ("http://[gateway:32000/x", "productpage"),
    ],
)
def test_redirect_goes_back_but_never_to_another_host(
    bookinfo: Bookinfo, referer: str, location: str
) -> None:
    reply = bookinfo.login("jason", Host="gateway:32000", Referer=referer)
    assert reply.headers["Location"] == location


def test_no_name_no_cookie(bookinfo: Bookinfo) -> None:
    reply = bookinfo.login("+++")
    assert (reply.status, reply.headers["Set-Cookie"]) == (302, None)


def test_names_and_forms_have_limits(bookinfo: Bookinfo) -> None:
    assert bookinfo.login("x" * 100).headers["Set-Cookie"].split(";")[0] == "user=" + "x" * 40
    assert bookinfo.login("x" * 5000).status == 413


@pytest.mark.parametrize("name", ["<b>'\"&", "Zoë 漢", "a; Path=/x\r\nX: y", "$account ${details}"])
def test_any_name_comes_back_escaped_and_safe(bookinfo: Bookinfo, name: str) -> None:
    escaped = html.escape(name)
    encoded = "".join(f"%{byte:02X}" for byte in name.encode())
    reply = bookinfo.login(encoded)
    assert reply.headers["X"] is None
    cookie = reply.headers["Set-Cookie"].split(";")[0]
    page = bookinfo.product_page(Cookie=cookie).text
    assert f"</span>{escaped}</span>" in page
    assert "<b>'" not in page


def test_what_other_services_say_is_escaped(bookinfo: Bookinfo) -> None:
    evil = "<script>x</script>\"'"
    rating = {"stars": 99, "color": evil}
    bookinfo.sidecar.targets["reviews"] = lambda: (200, json.dumps({evil: {"text": evil, "rating": rating}}))
    details = dict.fromkeys(("paperback", "publisher", "language", "isbn_10", "isbn_13"), evil)
    bookinfo.sidecar.targets["details"] = lambda: (200, json.dumps(details))
    page = bookinfo.product_page().text
    assert "<script" not in page
    assert page.count("&lt;script&gt;x&lt;/script&gt;&quot;&#x27;") == 9
    assert page.count("★") == 5


# Behind a gateway, which cuts off the first part of the path.


def follow(bookinfo: Bookinfo, at: str, reference: str) -> str:
    path = urljoin(f"http://gateway{at}", reference)
    assert path.startswith("http://gateway/")
    return path.removeprefix("http://gateway")


def test_sign_in_behind_a_path_prefix(bookinfo: Bookinfo) -> None:
    gateway, at = bookinfo.sidecar.port, "/productpage/productpage"
    page = fetch(gateway, at).text
    form = re.search(r'<form method="post" action="([^"]+)"', page)
    assert form
    target = follow(bookinfo, at, form[1])
    reply = fetch(gateway, target, FORM, "POST", "username=jason")
    assert reply.status == 302
    assert follow(bookinfo, target, reply.headers["Location"]) == at
    page = fetch(gateway, at, {"Cookie": "user=jason"}).text
    link = re.search(r'href="(\w+)">Sign out', page)
    assert link
    target = follow(bookinfo, at, link[1])
    assert follow(bookinfo, target, fetch(gateway, target).headers["Location"]) == at


@pytest.mark.parametrize("at", ["/productpage", "/productpage/"])
def test_the_index_leads_to_the_page_with_and_without_a_slash(bookinfo: Bookinfo, at: str) -> None:
    gateway = bookinfo.sidecar.port
    link = re.search(r'<a href="([^"]+)"', fetch(gateway, at).text)
    assert link
    at = follow(bookinfo, at, link[1])
    reply = fetch(gateway, at)
    if reply.status == 302:
        at = follow(bookinfo, at, reply.headers["Location"])
        reply = fetch(gateway, at)
    assert reply.status == 200
    assert at.partition("?")[0] == "/productpage/productpage"
    assert "<blockquote>" in reply.text


def test_the_page_needs_nothing_from_elsewhere(bookinfo: Bookinfo) -> None:
    page = bookinfo.product_page().text
    addresses = re.findall(r'(?:src|href|action|url)\s*[=(]\s*["\']?([^"\'\s)>]+)', page)
    assert all(a in ("login", "logout") or a.startswith("data:") for a in addresses), addresses
    assert "<script" not in page


# The end.


@pytest.mark.parametrize("script", ["details", "ratings", "reviews", "productpage"])
def test_sigterm_ends_a_service_with_exit_code_0(tmp_path: Path, script: str) -> None:
    with program(f"bookinfo/{script}.py", tmp_path) as service:
        assert fetch(service.port, "/health").status == 200
        assert service.terminate() == 0
        assert "Traceback" not in service.log()


def test_sigterm_does_not_wait_for_a_call_that_hangs(bookinfo: Bookinfo, tmp_path: Path) -> None:
    bookinfo.sidecar.targets["ratings"] = lambda: HANG
    env = {"A8_SERVICE": "reviews:v2", "RATINGS_TIMEOUT": "1000", "A8_PROXY_URL": bookinfo.sidecar.url}
    with ExitStack() as stack:
        reviews = stack.enter_context(program("bookinfo/reviews.py", tmp_path, **env))
        client = http.client.HTTPConnection("127.0.0.1", reviews.port, timeout=LIMIT)
        stack.enter_context(closing(client))
        client.request("GET", "/reviews")
        wait_until(lambda: len(bookinfo.sidecar.calls("ratings")) == 1)
        assert reviews.terminate() == 0
        assert "Traceback" not in reviews.log()
