"""What a handler of the pages is given and gives back; how handlers of this room plug into the site.

A module of handlers has a table ``HANDLERS: Final[dict[str, Handler]]``, from the name of an operation to an async
function of one :class:`Call`. It returns the operation's answer, a struct of :mod:`fortress.web.shapes`; or a
:class:`Download`; or an async iterator of :class:`Event` where the answer is an event stream. It raises
`FortressError` (`NotFound` for what is not there); :mod:`fortress.web.problems` makes the answer of it.

What one process needs once for all requests, such as a poller, is a class that takes the :class:`Context`; handlers get
the one object by ``call.context.shared(Poller)``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeVar, cast

from fortress.client.client import Client
from fortress.client.me import Me
from fortress.config import WebSettings
from fortress.errors import MessageInvalid, NotAllowed, NotSignedIn
from fortress.web import administration as admin
from fortress.web.operations import Operation

T = TypeVar("T", bound="Shared")

BEGIN_AGAIN: Final = ""
"""A stream without ``Last-Event-ID`` begins with what happens from now on."""


class NotFound(MessageInvalid):
    """There is nothing of this name here, or it is not yours."""

    hint = "check the address; what belongs to others is answered like what is not there"


class WrongMethod(MessageInvalid):
    """This address is not asked in this way."""

    hint = "the API's document is at /api/openapi.json"


class BodyLate(MessageInvalid):
    """What was sent did not come in time."""

    hint = "send it again"


class OriginRefused(NotAllowed):
    """This did not come from the bank's own pages."""

    hint = "load the page anew; if that does not help, ask whoever runs the pages to check web.origin"


class Laboratory(Protocol):
    """A demo's processes, to be killed, stopped and cut off for a class; only `fortress demo` has one."""

    async def view(self) -> admin.LabView:
        """Tell how all processes are; ``payment`` of the view is left to the caller."""

    async def act(self, name: str, act: str) -> None:
        """Do something to a process.

        Raises:
            NotFound: there is no process of this name.
        """

    async def close(self) -> None:
        """Ask the processes no more."""


class Connect(Protocol):
    """Makes a client of the bank; a protocol for the sake of its argument."""

    def __call__(self, agent: str = "") -> Client:
        """Make a client that calls itself this in the bank's list of sessions."""


class Shared(Protocol):
    """What a process makes once, at first use, and closes at its end."""

    def __init__(self, context: Context) -> None: ...

    async def close(self) -> None:
        """End what it runs."""


@dataclass(slots=True, kw_only=True)
class Context:
    """What all requests to one process of `fortress web` have in common.

    Attributes:
        bank: the bank's id.
        kind: whether it is a bank, or a gateway between banks.
        settings: of the pages.
        connect: makes a client of the bank that nobody has signed in with; its user closes it. Not connected yet.
        laboratory: of a demo, else None.
        chronicle: reads what the nodes whose folders are here remember of what happened to them; blocks.
    """

    bank: str
    kind: Literal["bank", "gateway"]
    settings: WebSettings
    connect: Connect
    laboratory: Laboratory | None = None
    chronicle: Callable[[], Sequence[admin.Event]] = tuple
    _shared: dict[type, Shared] = field(default_factory=dict)

    def shared(self, kind: type[T]) -> T:
        """Give the one object of a class in this process, made at first use."""
        found = self._shared.get(kind)
        if found is None:
            found = self._shared[kind] = kind(self)
        return cast(T, found)

    async def close(self) -> None:
        """Close all shared objects, and the laboratory."""
        if self.laboratory is not None:
            await self.laboratory.close()
        while self._shared:
            _, each = self._shared.popitem()
            await each.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, decoded and allowed by the table of operations; what else is allowed the bank decides.

    Attributes:
        operation: the line of the table.
        path, query, body: as the line says, of its types; None where it says none.
        context: of the process.
        session: hexadecimal id of the bank's session, empty if nobody is signed in.
        last_event_id: ``Last-Event-ID`` of a stream that is taken up again, else empty.
        address: whence the request comes.
        agent: what the browser calls itself, cut.
        anti_forgery: what changes of this session must bring.
        signed_in_as: the session's client, for :attr:`me`.
    """

    operation: Operation
    context: Context
    path: Any = None
    query: Any = None
    body: Any = None
    session: str = ""
    last_event_id: str = BEGIN_AGAIN
    address: str = ""
    agent: str = ""
    anti_forgery: str = ""
    signed_in_as: Me | None = None

    @property
    def me(self) -> Me:
        """The session at the bank; it is there wherever the table asks for a role.

        Raises:
            NotSignedIn: nobody is signed in.
        """
        if self.signed_in_as is None:
            raise NotSignedIn
        return self.signed_in_as


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file that is made while it is sent; an error after the first piece cuts it, so that nobody takes it for whole.

    Attributes:
        name: of the file: letters, digits, dot and dash.
        media_type: such as ``text/csv``.
        pieces: its bytes.
    """

    name: str
    media_type: str
    pieces: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """An answer that begins or ends the browser's session.

    Attributes:
        answer: as the table says.
        token: of the bank, for the cookie; empty: the cookie is taken away.
    """

    answer: object
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream; the site encodes it.

    Attributes:
        name: what ``EventSource.addEventListener`` waits for.
        data: a struct, made JSON.
        id: comes back as ``Last-Event-ID``; empty: none.
    """

    name: str
    data: object
    id: str = ""


Handler = Callable[[Call], Awaitable[Any]]
Handlers = Mapping[str, Handler]
