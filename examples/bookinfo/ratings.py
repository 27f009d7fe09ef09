"""The ratings service: stars, 0 to 5, by reviewer. `GET /ratings` -> JSON."""

from _app import serve
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

RATINGS = {"Reviewer1": 5, "Reviewer2": 4}


async def ratings(_: Request) -> JSONResponse:
    return JSONResponse(RATINGS)


if __name__ == "__main__":
    serve([Route("/ratings", ratings)])
