"""From what a handler gives to what a browser gets: JSON, problems, files, streams of events, headers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from fortress.errors import AuthenticationError, FortressError
from fortress.web import problems
from fortress.web.assets import Asset
from fortress.web.call import Download, Event
from fortress.web.sessions import Seat
from fortress.web.shapes import Problem

HEARTBEAT_S: Final = 15.0
WRITE_S_MAX: Final = 10.0
"""A browser that takes nothing for so long is dropped."""
HEARTBEAT: Final = b":\n\n"
POLICY: Final = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'none'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
TRANSPORT_SECURITY: Final = "max-age=31536000"
"""``Strict-Transport-Security`` (RFC 6797), for a year, where the origin is https."""

_encode = msgspec.json.Encoder().encode


def json_answer(answer: object, status: int = 200) -> web.Response:
    """Answer with a struct."""
    return web.Response(body=_encode(answer), status=status, content_type="application/json")


def problem_answer(error: FortressError) -> web.Response:
    """Answer with an error."""
    problem = problems.problem_of(error)
    response = _problem(problem)
    if after_s := problems.retry_after_s(error):
        response.headers["Retry-After"] = str(after_s)
    return response


def fault_answer(request_id: str) -> web.Response:
    """Answer when there is a fault in this program; what it is, the log says."""
    words = "something is wrong with the pages themselves"
    hint = f"try again; if it stays so, tell the bank that it was request {request_id}"
    return _problem(Problem("urn:fortress:FT-6000", words, 500, words, "FT-6000", "same_id", hint))


def _problem(problem: Problem) -> web.Response:
    return web.Response(body=_encode(problem), status=problem.status, content_type=problems.CONTENT_TYPE)


def asset_answer(asset: Asset, headers: Mapping[str, str]) -> web.Response:
    """Answer with a file of the pages, or say that the browser has it already."""
    compressed = bool(asset.small) and "gzip" in headers.get("Accept-Encoding", "")
    tag = asset.etag(compressed=compressed)
    known = {each.strip().removeprefix("W/") for each in headers.get("If-None-Match", "").split(",")}
    answered = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if tag in known:
        return web.Response(status=304, headers=answered)
    answered["Content-Type"] = asset.content_type
    if compressed:
        answered["Content-Encoding"] = "gzip"
    return web.Response(body=asset.small if compressed else asset.body, headers=answered)


async def download_answer(request: web.Request, download: Download) -> web.StreamResponse:
    """Send a file as it is made; a fault after its beginning cuts the connection, so that the browser sees it fail."""
    pieces = aiter(download.pieces)
    first = await anext(pieces, b"")  # what fails before the first piece is still answered as a problem
    response = web.StreamResponse(
        headers={
            "Content-Type": download.media_type,
            "Content-Disposition": f'attachment; filename="{download.name}"',
        }
    )
    await response.prepare(request)
    try:
        await _write(response, first)
        async for piece in pieces:
            await _write(response, piece)
    except (FortressError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
    return response


async def stream_answer(
    request: web.Request, events: AsyncIterator[Event], seat: Seat, stopping: asyncio.Future[None], cookie: str = ""
) -> web.StreamResponse:
    """Send events as they come, until the browser goes, the session is over, or this process stops."""
    headers = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers={**headers, "Set-Cookie": cookie} if cookie else headers)
    iterator = aiter(events)
    coming: asyncio.Task[Event | None] | None = None
    try:
        await response.prepare(request)
        while True:
            coming = coming or asyncio.create_task(_next(iterator))
            waited: list[asyncio.Future[Any]] = [coming, seat.ended, stopping]
            await asyncio.wait(waited, timeout=HEARTBEAT_S, return_when="FIRST_COMPLETED")
            if seat.ended.done() or stopping.done():
                break
            if not coming.done():
                if not await _is_alive(seat):
                    break
                await _write(response, HEARTBEAT)
                continue
            event, coming = coming.result(), None
            if event is None:
                break
            await _write(response, event_bytes(event))
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()  # the browser comes back by itself, and says what it has seen
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.wait([coming])
        closing = getattr(iterator, "aclose", None)
        if closing is not None:
            await closing()
    return response


def event_bytes(event: Event) -> bytes:
    """Write an event as a stream has it (WHATWG HTML, 9.2.5); JSON holds no line ends."""
    id = b"id: %b\n" % event.id.encode() if event.id else b""
    return b"%bevent: %b\ndata: %b\n\n" % (id, event.name.encode(), _encode(event.data))


async def _next(iterator: AsyncIterator[Event]) -> Event | None:
    return await anext(iterator, None)


async def _is_alive(seat: Seat) -> bool:
    """Whether the session goes on; a bank that cannot be asked right now has not ended it."""
    if not seat.me.is_connected:
        try:
            await seat.me.whoami()
        except AuthenticationError:
            return False
        except FortressError:
            pass
    return seat.is_valid


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_S_MAX):
        await response.write(data)
