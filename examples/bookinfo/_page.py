"""The HTML of the product page: what came from the other services, made into text for people.

The names of the star colours appear in a page only when stars of that colour do, so that `grep` can tell
versions apart. The texts and styles here and in productpage.html avoid every word that contains them.
Everything that came from outside is escaped.
"""

from dataclasses import dataclass
from html import escape
from string import Template
from typing import Generic, TypeVar

from _app import version
from msgspec import Struct

T = TypeVar("T")

STAR_COLORS = {"black": "#111318", "red": "#d3122a"}
STARS = 5


class Details(Struct):
    paperback: str
    publisher: str
    language: str
    isbn_10: str
    isbn_13: str


class Rating(Struct):
    stars: int
    color: str


class Review(Struct, omit_defaults=True):
    text: str
    rating: Rating | None = None


@dataclass(frozen=True)
class Part(Generic[T]):
    """What became of the question to another service."""

    answer: T | None  # None: no attempt brought a usable answer
    attempts: int
    seconds: float  # over all attempts

    def note(self) -> str:
        outcome = "took" if self.answer is not None else "gave up after"
        tries = f", {self.attempts} attempts" if self.attempts > 1 else ""
        return f"{outcome} {duration(self.seconds)}{tries}"


def duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def product_page(
    layout: Template, user: str, details: Part[Details], reviews: Part[dict[str, Review]]
) -> str:
    return layout.substitute(
        account=account(user),
        details=details_part(details.answer),
        details_note=details.note(),
        reviews=reviews_part(reviews.answer),
        reviews_note=reviews.note(),
        version=escape(version()),
    )


def account(user: str) -> str:
    if user:
        initial = escape(user[0].upper())
        return (
            f'<span class="who"><span class="avatar" aria-hidden="true">{initial}</span>{escape(user)}</span>'
            '<a class="button quiet" href="logout">Sign out</a>'
        )
    return (
        '<form method="post" action="login">'
        '<input name="username" maxlength="40" placeholder="Your name" aria-label="Your name"'
        ' autocomplete="username" autocapitalize="none" spellcheck="false">'
        '<button class="button">Sign in</button></form>'
    )


def details_part(details: Details | None) -> str:
    if details is None:
        return unavailable("Details")
    facts = {
        "Paperback": details.paperback,
        "Publisher": details.publisher,
        "Language": details.language,
        "ISBN-10": details.isbn_10,
        "ISBN-13": details.isbn_13,
    }
    rows = (f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f"<dl>{''.join(rows)}</dl>"


def reviews_part(reviews: dict[str, Review] | None) -> str:
    if reviews is None:
        return unavailable("Reviews")
    return "".join(
        f"<blockquote>{stars(review.rating)}<p>{escape(review.text)}</p><cite>{escape(name)}</cite></blockquote>"
        for name, review in reviews.items()
    )


def stars(rating: Rating | None) -> str:
    if rating is None:
        return ""
    lit = min(max(rating.stars, 0), STARS)
    color = STAR_COLORS.get(rating.color, "#5b6472")
    label = escape(f"{lit} {rating.color} {'star' if lit == 1 else 'stars'}")
    return (
        f'<div class="stars" role="img" aria-label="{label}" title="{label}" style="color:{color}">'
        f"{'★' * lit}<i>{'★' * (STARS - lit)}</i></div>"
    )


def unavailable(what: str) -> str:
    return f'<p class="missing">{what} are unavailable at the moment.</p>'
