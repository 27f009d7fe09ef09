"""The reviews service: what readers say. `GET /reviews` -> JSON; three versions in one program.

v1 has no stars, v2 has black ones, v3 red ones. v2 waits up to 10 s for ratings, longer than productpage
waits for reviews: that is the defect which the delay in this demo brings to light. v3 gives up after 2.5 s,
before its caller does. Without the ratings that it wants it answers 500.
"""

import os
import sys
from dataclasses import dataclass
from typing import Any

from _app import Mesh, UnavailableError, serve, timeout_from, version
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

REVIEWS = {
    "Reviewer1": (
        "Two pairs of twins, one busy afternoon, and not a dull scene in it. "
        "I laughed out loud on the train, and the whole carriage looked up."
    ),
    "Reviewer2": (
        "Short, quick and full of mistaken identities. "
        "The plot is as thin as paper, but the jokes have aged remarkably well."
    ),
}


@dataclass(frozen=True)
class Reviews:
    mesh: Mesh
    star_color: str | None  # None: this version shows no ratings
    timeout: float  # seconds for ratings

    async def answer(self, request: Request) -> JSONResponse:
        reviews: dict[str, dict[str, Any]] = {name: {"text": text} for name, text in REVIEWS.items()}
        if self.star_color is None:
            return JSONResponse(reviews)
        try:
            ratings = await self.mesh.get("/ratings/ratings", request, dict[str, int], self.timeout)
        except UnavailableError as error:
            print(f"no ratings: {error}", file=sys.stderr, flush=True)
            return JSONResponse({"error": "ratings are unavailable"}, status_code=500)
        for name, review in reviews.items():
            if name in ratings:
                review["rating"] = {"stars": ratings[name], "color": self.star_color}
        return JSONResponse(reviews)


def main() -> None:
    with_ratings = os.environ.get("ENABLE_RATINGS", str(version() != "v1")).lower() == "true"
    color = os.environ.get("STAR_COLOR", "red" if version() == "v3" else "black")
    timeout = timeout_from("RATINGS_TIMEOUT", 10 if color == "black" else 2.5)
    stars = f"{color} stars, waits up to {timeout:g} s for ratings" if with_ratings else "no stars"
    print(f"reviews {version()}: {stars}", file=sys.stderr, flush=True)
    mesh = Mesh()
    serve([Route("/reviews", Reviews(mesh, color if with_ratings else None, timeout).answer)], mesh)


if __name__ == "__main__":
    main()
