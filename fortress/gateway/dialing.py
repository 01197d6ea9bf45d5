"""A bank's one link to its gateway: dialed, registered, and dialed again for as long as this node is primary.

The addresses are tried in turn until the gateway's primary takes the registration; a standby may say where that is, and
is believed once: whoever answers there must show the gateway's certificate all the same. Between rounds the wait
doubles, each time between half and whole, up to `WAIT_S_MAX`. Nothing is given up: a bank refused today may be let in
tomorrow without anybody touching it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable
from typing import Final

from fortress.config import Settings
from fortress.errors import BankRejected, CertificateUnusable, FortressError, GatewayUnreachable
from fortress.gateway.links import Answerer, Link, dial
from fortress.gateway.messages import Message, Register, Registered, Rejected
from fortress.pair.link import check_certificate, dialing_context
from fortress.server.logs import log_event

WAIT_S_MIN: Final = 0.05
WAIT_S_MAX: Final = 2.0
REGISTER_S: Final = 5.0
"""How long the gateway may take to answer a registration."""

logger = logging.getLogger(__name__)


class Dialer:
    """Keep a registered link to the gateway between `start` and `stop`; all callbacks are called on the loop.

    Args:
        settings: addresses, authority and name of the gateway, and this node's own certificate; the files are read
            again for each round, so renewed ones need no restart.
        introduce: gives what the gateway is told first on each link.
        on_registered: called when a registration was taken.
        on_message: called with every later message that is none of the link's own.
        on_lost: called when a link that was registered has ended.
        answer: answers the gateway's questions.
        on_fault: told the error that ended the dialing, which nothing should.

    Attributes:
        link: the registered link; None while there is none.
        registered: what the gateway answered to the last registration; None before the first.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        introduce: Callable[[], Register],
        on_registered: Callable[[Link], None],
        on_message: Callable[[Link, Message], None],
        on_lost: Callable[[], None],
        answer: Answerer,
        on_fault: Callable[[BaseException], None],
    ) -> None:
        self.link: Link | None = None
        self.registered: Registered | None = None
        self._settings = settings
        self._introduce = introduce
        self._on_registered = on_registered
        self._on_message = on_message
        self._on_lost = on_lost
        self._answer = answer
        self._on_fault = on_fault
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._elsewhere = ""
        self._trouble = ""
        self._linked_s = 0.0

    @property
    def since_s(self) -> float | None:
        """For how long there has been a registered link; None while there is none."""
        return asyncio.get_running_loop().time() - self._linked_s if self.link is not None else None

    @property
    def addresses(self) -> list[str]:
        """Where the gateway listens, as the settings say."""
        return [address.strip() for address in self._settings.gateway.addresses.split(",") if address.strip()]

    def start(self) -> None:
        """Begin to dial; on what is begun already, do nothing."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep())
            self._task.add_done_callback(self._ended)

    def hang_up(self) -> None:
        """End the link and dial no more; ``on_lost`` is called soon, if the link was registered."""
        if self.link is not None:
            self.link.end()
            self.link = None
        if self._task is not None:
            self._task.cancel()
            self._ending.add(self._task)
            self._task = None

    async def stop(self) -> None:
        """Hang up, and wait until that is done."""
        self.hang_up()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._on_fault(fault)

    # --- Dialing ----
    async def _keep(self) -> None:
        wait_s = WAIT_S_MIN
        while True:
            for address in self.addresses:
                wait_s = WAIT_S_MIN if await self._serve(address) else wait_s
                elsewhere, self._elsewhere = self._elsewhere, ""
                if elsewhere:
                    wait_s = WAIT_S_MIN if await self._serve(elsewhere) else wait_s
                    self._elsewhere = ""
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, WAIT_S_MAX)

    async def _serve(self, address: str) -> bool:
        """Dial an address, register, and stay until the link ends; False when it never was registered."""
        attempt = Attempt(asyncio.get_running_loop())
        try:
            attempt.link = await dial(address, self._context(), lambda: self._make(attempt))
            try:
                async with asyncio.timeout(REGISTER_S):
                    said = await attempt.said
            except TimeoutError:
                raise GatewayUnreachable("the gateway does not answer") from None
            if isinstance(said, Rejected):
                self._elsewhere = said.elsewhere
                raise BankRejected(f"the gateway refused the registration: {said.message}", {"code": said.code})
            self._trouble = ""
            log_event(logger, logging.INFO, "gateway linked", address=address, gateway=said.gateway, epoch=said.epoch)
            reason = await attempt.ended
            log_event(logger, logging.WARNING, "gateway lost", address=address, reason=str(reason or "it has ended"))
            return True
        except FortressError as error:
            self._tell(address, error)
            return False
        finally:
            self._leave(attempt)

    def _context(self) -> ssl.SSLContext:
        path, tls = self._settings.path, self._settings.tls
        return dialing_context(path(tls.certificate), path(tls.key), path(self._settings.gateway.authority))

    def _make(self, attempt: Attempt) -> Link:
        return Link(
            is_dialer=True,
            check=self._check,
            on_open=lambda link: link.send(self._introduce()),
            on_message=lambda link, message: self._heard(attempt, link, message),
            on_lost=lambda link, reason: attempt.lost(reason),
            answer=self._answer,
        )

    def _check(self, link: Link, connection: ssl.SSLObject) -> None:
        check_certificate(connection, self._settings.gateway.bank, BankRejected)

    def _heard(self, attempt: Attempt, link: Link, message: Message) -> None:
        if attempt.is_registered and link is self.link:
            self._on_message(link, message)
        elif isinstance(message, Registered) and not attempt.said.done():
            # at once, for what follows may have come in the same read
            attempt.is_registered = True
            attempt.said.set_result(message)
            self.link, self.registered = link, message
            self._linked_s = asyncio.get_running_loop().time()
            self._on_registered(link)
        elif isinstance(message, Rejected) and not attempt.said.done():
            attempt.said.set_result(message)

    def _leave(self, attempt: Attempt) -> None:
        """End what was tried; nothing that it still says counts."""
        if attempt.link is not None:
            attempt.link.end()
        attempt.close()
        if attempt.is_registered:
            attempt.is_registered = False
            if self.link is attempt.link:
                self.link = None
            self._on_lost()

    def _tell(self, address: str, error: FortressError) -> None:
        """Log why there is no link, once for each reason: it is tried again and again."""
        trouble = f"{address}: {error.message}"
        if trouble != self._trouble:
            self._trouble = trouble
            level = logging.ERROR if isinstance(error, BankRejected | CertificateUnusable) else logging.WARNING
            log_event(logger, level, "gateway not linked", address=address, code=error.code, reason=error.message)


class Attempt:
    """One link that is tried, and then stands or not.

    Attributes:
        link: set once it is open.
        is_registered: whether the gateway took the registration.
        said: what the gateway answered to it; GatewayUnreachable if the link ended before.
        ended: why the link ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.link: Link | None = None
        self.is_registered = False
        self.said: asyncio.Future[Registered | Rejected] = loop.create_future()
        self.ended: asyncio.Future[Exception | None] = loop.create_future()

    def lost(self, reason: Exception | None) -> None:
        """Take note that the link has ended."""
        if not self.said.done():
            self.said.set_exception(GatewayUnreachable(f"the gateway ended the link: {reason or 'without a reason'}"))
        if not self.ended.done():
            self.ended.set_result(reason)

    def close(self) -> None:
        """Nobody waits any more."""
        if self.said.done() and not self.said.cancelled():
            self.said.exception()  # looked at: nobody waits for it
        self.said.cancel()
        self.ended.cancel()
