"""The details service: facts about the book. `GET /details` -> JSON."""

from _app import serve
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

DETAILS = {
    "paperback": "200 pages",
    "publisher": "PublisherA",
    "language": "English",
    "isbn_10": "1234567890",
    "isbn_13": "123-1234567980",
}


async def details(_: Request) -> JSONResponse:
    return JSONResponse(DETAILS)


if __name__ == "__main__":
    serve([Route("/details", details)])
