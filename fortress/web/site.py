"""The site: every operation of the table on its address, the built pages on all others, and the rules for all of them.

A request passes, in this order: the allowance of its address; the origin and the anti-forgery token, if it changes
something; the session, by its cookie; the roles of the table; the types of the table; its handler. Whatever goes wrong
on the way becomes a problem document, and a fault of this program one that says only which request it was.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from aiohttp import web

from fortress import __version__
from fortress.client.me import Me
from fortress.errors import (
    AddressInUse,
    Busy,
    FortressError,
    LedgerError,
    MessageInvalid,
    MessageTooLarge,
    NotAllowed,
    NotSignedIn,
    OutcomeUnknown,
    SettingInvalid,
)
from fortress.web import (
    administration_handlers,
    answers,
    ceremonies,
    cluster,
    cookies,
    customer,
    intake,
    laboratory,
    operator_handlers,
    problems,
    session_handlers,
)
from fortress.web.assets import Assets
from fortress.web.call import BodyLate, Call, Context, Download, Entrance, Handler, NotFound, WrongMethod
from fortress.web.limits import Allowance, client_address, network_of
from fortress.web.operations import OPERATIONS, Operation, openapi
from fortress.web.sessions import Lease, Sessions

KEEP_ALIVE_S: Final = 30
FIRST_REQUEST_S: Final = 10
"""A connection that has not sent one whole request by then is closed."""
BODY_S_MAX: Final = 10
STOP_S: Final = 2
BURST_S: Final = 20
AGENT_LENGTH_MAX: Final = 100
DOCUMENT_URL: Final = "/api/openapi.json"
CEREMONY_URL: Final = "/api/ceremony"
REQUEST_ID: Final = web.RequestKey("request_id", str)
ADDRESS: Final = web.RequestKey("address", str)

MODULES: Final[Sequence[Mapping[str, Handler]]] = (
    session_handlers.HANDLERS,
    customer.HANDLERS,
    administration_handlers.HANDLERS,
    operator_handlers.HANDLERS,
    cluster.HANDLERS,
    laboratory.HANDLERS,
)

logger = logging.getLogger(__name__)


def handlers_of(modules: Sequence[Mapping[str, Handler]] = MODULES) -> dict[str, Handler]:
    """Give the handler of each operation.

    Raises:
        ValueError: an operation has none, or two.
    """
    found: dict[str, Handler] = {}
    for module in modules:
        if twice := found.keys() & module.keys():
            raise ValueError(f"operations with two handlers: {sorted(twice)}")
        found |= module
    if differing := found.keys() ^ {each.name for each in OPERATIONS}:
        raise ValueError(f"operations without a handler, or handlers of none: {sorted(differing)}")
    return found


class Site:
    """Serve the pages of one bank. Made once, started and stopped once.

    Args:
        context: of the process; :meth:`stop` closes what it shares.
        assets: the built pages.
        tls: for browsers; None where TLS ends before this process, or for this machine alone.
    """

    def __init__(self, context: Context, assets: Assets, tls: ssl.SSLContext | None = None) -> None:
        settings = context.settings
        self.context = context
        self.origins: Collection[str] = {settings.origin} if settings.origin else frozenset()
        self._cookie = cookies.name_of(context.bank)
        self._assets = assets
        self._tls = tls
        self._proxies = {network_of(part.strip()) for part in settings.proxies.split(",")} - {""}
        self._requests = Allowance(settings.requests_per_s, BURST_S * settings.requests_per_s)
        self._handlers = handlers_of()
        self._document = openapi(__version__)
        self._streams = 0
        self._silent: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
            shutdown_timeout=STOP_S,
            handler_cancellation=True,  # a stream ends when its browser is gone, and not at the next heartbeat
        )
        self._listener: asyncio.Server | None = None
        self._stopping: asyncio.Future[None] | None = None

    @property
    def port(self) -> int:
        """The port that it listens on, once started."""
        if self._listener is None:
            raise RuntimeError("the site is not started")
        return int(self._listener.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen where the settings say.

        Raises:
            AddressInUse: something else listens there.
            SettingInvalid: this machine has no such address, or the port needs rights that the process lacks.
        """
        host, port = self.context.settings.host, self.context.settings.port
        loop = asyncio.get_running_loop()
        self._stopping = loop.create_future()
        await self._runner.setup()
        try:
            self._listener = await loop.create_server(self._accept, host, port, ssl=self._tls)
        except OSError as exc:
            await self._runner.cleanup()
            if exc.errno == errno.EADDRINUSE:
                raise AddressInUse(f"{host}:{port} is taken, so the pages cannot be served there") from exc
            raise SettingInvalid(f"the pages cannot be served on {host}:{port}: {exc.strerror}") from exc
        self.origins = self.origins or own_origins(host, self.port, is_secure=self._tls is not None)

    async def stop(self) -> None:
        """Close the listener, end all streams, give requests under way a moment, leave the bank."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._stopping is not None and not self._stopping.done():
            self._stopping.set_result(None)
        for deadline in self._silent.values():
            deadline.cancel()
        self._silent.clear()
        await self._runner.cleanup()
        await self.context.close()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._frame], client_max_size=intake.BODY_BYTES_MAX)
        application.on_response_prepare.append(self._add_headers)
        router = application.router
        for operation in OPERATIONS:
            router.add_route(operation.method, operation.url, self._asked_for(operation), name=operation.name)
        router.add_get(DOCUMENT_URL, self._describe, allow_head=False)
        router.add_get(CEREMONY_URL, self._ceremony, allow_head=False)
        router.add_get("/{path:.*}", self._show)
        return application

    def _asked_for(self, operation: Operation) -> Any:
        async def asked(request: web.Request) -> web.StreamResponse:
            return await self._operate(operation, request)

        return asked

    # --- connections ------------------------------------------------------------------------------------------------

    def _accept(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        if server is None or len(server.connections) >= self.context.settings.connections_max:
            return _Refusal()
        handler = server()
        loop = asyncio.get_running_loop()
        self._silent[handler] = loop.call_later(FIRST_REQUEST_S, self._close_silent, handler)
        return handler

    def _close_silent(self, handler: web.RequestHandler) -> None:
        del self._silent[handler]
        if handler.transport is not None:
            handler.transport.abort()

    # --- every request ----------------------------------------------------------------------------------------------

    @web.middleware
    async def _frame(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if deadline := self._silent.pop(request.protocol, None):
            deadline.cancel()
        began_s = time.perf_counter()
        request_id = request[REQUEST_ID] = secrets.token_hex(8)
        address = request[ADDRESS] = client_address(
            request.remote or "", request.headers.get("X-Forwarded-For", ""), self._proxies
        )
        status = 499  # as nginx says it: the browser went away
        try:
            response = await self._framed(request, handler, address, request_id)
            status = response.status
            return response
        finally:
            name = request.match_info.route.name or ("page" if not request.path.startswith("/api") else "none")
            level = logging.DEBUG if name == "page" else logging.INFO
            ms = round((time.perf_counter() - began_s) * 1000, 1)
            fields = {"method": request.method, "operation": name, "status": status, "ms": ms}
            logger.log(level, "request", extra={"fields": {**fields, "from": address, "request": request_id}})

    async def _framed(self, request: web.Request, handler: Any, address: str, request_id: str) -> web.StreamResponse:
        try:
            self._requests.take(address, time.monotonic())
            response: web.StreamResponse = await handler(request)
            return response
        except FortressError as error:
            return self._refusal(request, error)
        except web.HTTPMethodNotAllowed as error:
            response = self._refusal(request, WrongMethod())
            response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
            return response
        except web.HTTPRequestEntityTooLarge:
            return self._refusal(request, MessageTooLarge(f"a body has at most {intake.BODY_BYTES_MAX} bytes"))
        except web.HTTPException as error:
            return self._refusal(request, NotFound() if error.status == 404 else MessageInvalid(error.reason))
        except ConnectionError:
            return web.Response(status=499)  # the browser has gone, so nobody hears this
        except Exception:
            logger.exception("fault in a request", extra={"fields": {"request": request_id}})
            return answers.fault_answer(request_id)

    def _refusal(self, request: web.Request, error: FortressError) -> web.Response:
        response = answers.problem_answer(error)
        if problems.is_session_over(error) and self._cookie in request.cookies:
            response.headers["Set-Cookie"] = cookies.no_cookie(self._cookie)
        return response

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        for name, value in answers.HEADERS.items():
            response.headers[name] = value
        response.headers["X-Request-Id"] = request.get(REQUEST_ID, "")
        response.headers.setdefault("Cache-Control", "no-store")
        if any(origin.startswith("https://") for origin in self.origins):
            response.headers["Strict-Transport-Security"] = answers.TRANSPORT_SECURITY
        response.headers.popall("Server", None)

    # --- what there is ----------------------------------------------------------------------------------------------

    async def _show(self, request: web.Request) -> web.StreamResponse:
        asset = self._assets.find(request.path)
        if asset is None or request.path == "/api" or request.path.startswith("/api/"):
            raise NotFound
        return answers.asset_answer(asset, request.headers)

    async def _describe(self, request: web.Request) -> web.StreamResponse:
        return answers.json_answer(self._document)

    async def _ceremony(self, request: web.Request) -> web.StreamResponse:
        cookies.check_origin(request.headers, self.origins, is_told=True)
        desk = self.context.shared(ceremonies.Ceremonies)
        agent = session_handlers.agent_of(request[ADDRESS], request.headers.get("User-Agent", "")[:AGENT_LENGTH_MAX])
        credential = cookies.credential_of(request.cookies, self._cookie)
        token = credential.token if credential is not None else ""
        assert self._stopping is not None
        return await desk.hold(request, address=request[ADDRESS], agent=agent, token=token, stopping=self._stopping)

    async def _operate(self, operation: Operation, request: web.Request) -> web.StreamResponse:
        self._check_place(operation)
        credential = cookies.credential_of(request.cookies, self._cookie)
        if operation.name == "begin_session":
            credential = None  # a new session gets random bytes of its own
        elif operation.roles and credential is None:
            raise NotSignedIn
        if operation.method != "GET":
            cookies.check_origin(request.headers, self.origins)
            cookies.check_anti_forgery(request.headers, credential)
        if not operation.roles:
            fresh = cookies.Credential("", cookies.new_random())
            return await self._handle(operation, request, fresh, None)
        assert credential is not None
        return await self._operate_signed_in(operation, request, credential)

    async def _operate_signed_in(
        self, operation: Operation, request: web.Request, credential: cookies.Credential
    ) -> web.StreamResponse:
        address = request[ADDRESS]
        agent = session_handlers.agent_of(address, request.headers.get("User-Agent", "")[:AGENT_LENGTH_MAX])
        sessions = self.context.shared(Sessions)
        # what is read does not keep a session alive: open pages read by themselves, also where nobody sits any more
        needs_bank = operation.needs_bank
        renews = operation.method != "GET" and needs_bank
        lasting = sessions.lease(credential.token, agent, address=address, renews=renews, needs_bank=needs_bank)
        async with lasting as lease:
            _check_roles(operation, lease.seat.me)
            return await self._handle(operation, request, credential, lease)

    def _check_place(self, operation: Operation) -> None:
        place = "demo" if self.context.laboratory is not None else ""
        if operation.where not in ("both", self.context.kind, place):
            raise NotFound

    async def _handle(
        self, operation: Operation, request: web.Request, credential: cookies.Credential, lease: Lease | None
    ) -> web.StreamResponse:
        call = Call(
            operation=operation,
            context=self.context,
            path=intake.from_texts(operation.path, "path", request.match_info) if operation.path else None,
            query=intake.from_query(operation.query, request.query) if operation.query else None,
            body=await _body(operation, request),
            session=lease.seat.session if lease else "",
            last_event_id=request.headers.get("Last-Event-ID", "")[:AGENT_LENGTH_MAX],
            address=request[ADDRESS],
            agent=request.headers.get("User-Agent", "")[:AGENT_LENGTH_MAX],
            anti_forgery=credential.anti_forgery,
            signed_in_as=lease.seat.me if lease else None,
        )
        with _unclear(call):
            answer = await self._handlers[operation.name](call)
        token, is_end = lease.token if lease else "", False
        if isinstance(answer, Entrance):
            token, is_end, answer = answer.token, not answer.token, answer.answer
        if isinstance(answer, Download):
            return await answers.download_answer(request, answer)
        if isinstance(answer, AsyncIterator):
            assert lease is not None
            return await self._stream(request, answer, lease)
        response = answers.json_answer(answer)
        if token:
            response.headers["Set-Cookie"] = cookies.Credential(token, credential.random).cookie(self._cookie)
        elif is_end:
            response.headers["Set-Cookie"] = cookies.no_cookie(self._cookie)
        return response

    async def _stream(self, request: web.Request, events: AsyncIterator[Any], lease: Lease) -> web.StreamResponse:
        if self._streams >= self.context.settings.streams_max:
            raise Busy("too many streams are open")
        assert self._stopping is not None
        self._streams += 1
        try:
            return await answers.stream_answer(request, events, lease.seat, self._stopping)
        finally:
            self._streams -= 1


@contextmanager
def _unclear(call: Call) -> Iterator[None]:
    """Say that a change may have been done when the bank failed over it; a repeat with the same id finds out."""
    try:
        yield
    except LedgerError as error:
        if call.operation.method == "GET":
            raise
        id = getattr(call.body, "id", "")
        raise OutcomeUnknown("the bank failed; it may or may not have been done", {"id": id}) from error


def _check_roles(operation: Operation, me: Me) -> None:
    if not set(operation.roles) & set(me.signed_in.roles):
        raise NotAllowed("this needs another role", {"roles": " or ".join(operation.roles)})


async def _body(operation: Operation, request: web.Request) -> Any:
    if operation.body is None:
        return None
    if request.content_type != "application/json":
        raise MessageInvalid("the body must be application/json", {"field": "body"})
    try:
        async with asyncio.timeout(BODY_S_MAX):
            body = await request.read()
    except TimeoutError as error:
        raise BodyLate from error
    return intake.from_json(operation.body, body)


def own_origins(host: str, port: int, *, is_secure: bool) -> frozenset[str]:
    """Give the origins at which a browser finds a site that says no other; this machine has several names."""
    scheme = "https" if is_secure else "http"
    hosts = {f"[{host}]" if ":" in host else host}
    if is_loopback(host):
        hosts |= {"localhost", "127.0.0.1", "[::1]"}
    port_text = "" if port == (443 if is_secure else 80) else f":{port}"
    return frozenset(f"{scheme}://{each}{port_text}" for each in hosts)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host == "localhost" or host == "::1" or host.startswith("127.")


class _Refusal(asyncio.Protocol):
    """Close a connection over the limit at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
