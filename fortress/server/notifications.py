"""Tell sessions what happened on their accounts, once it is committed, and from where they left off.

A push carries its position, so a client that was away asks for everything after the last one it saw: first what the
tables have, then what comes. A session that does not keep up loses its subscription; nothing is lost, since its client
subscribes again from its last position, which it does by itself when it has heard nothing for a while.
"""

from __future__ import annotations

import asyncio
from operator import itemgetter
from typing import Any, Final

from fortress.errors import Busy, MessageInvalid
from fortress.ledger import entries as codec
from fortress.ledger.delta import Delta
from fortress.protocol.reading import EntryPush
from fortress.server.bank import Bank
from fortress.server.session import Session
from fortress.server.views import history_row

SUBSCRIPTIONS_MAX: Final = 100_000
"""Pairs of account and session."""
PAST_ROWS_MAX: Final = 10_000
"""Entries of the past that one subscription may ask for."""
PUSHES_AT_ONCE: Final = 128


class Notifications:
    """Who wants to know about which account.

    Args:
        bank: where the past is read from.
    """

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._sessions: dict[int, dict[Session, None]] = {}  # account -> sessions, in order of subscription
        self._accounts: dict[Session, list[int]] = {}
        self._pairs = 0

    async def subscribe(self, session: Session, accounts: list[int], from_position: int) -> int:
        """Push what touches the accounts after ``from_position`` (0: from now on); return the present position.

        Raises:
            Busy: too many subscriptions on this node, or the session does not take what is pushed.
            MessageInvalid: too much happened since ``from_position``; page through the history instead.
        """
        self.unsubscribe(session)
        self._check_room(accounts)
        committer = self._bank.committer
        position = from_position or committer.committed_position
        while position < committer.committed_position:
            target = committer.committed_position
            await self._bank.tables_hold(target)
            await self._push_past(session, await self._bank.read(self._past, accounts, position, target))
            position = target
        # Nothing is awaited from here on, so no commit falls between the past and what comes.
        self.unsubscribe(session)  # another one of this session may have come in between
        self._check_room(accounts)
        if session.is_open:  # else nobody would take it away again
            self._pairs += len(accounts)
            self._accounts[session] = accounts
            for number in accounts:
                self._sessions.setdefault(number, {})[session] = None
        return position

    def _check_room(self, accounts: list[int]) -> None:
        if self._pairs + len(accounts) > SUBSCRIPTIONS_MAX:
            raise Busy("too many subscriptions on this node", {"subscriptions_max": SUBSCRIPTIONS_MAX})

    async def _push_past(self, session: Session, found: list[tuple[int, Any, int]]) -> None:
        for pushed, (position, entry, number) in enumerate(found, 1):
            if not self._push(session, number, position, entry):
                raise Busy("what is pushed is not taken; subscribe again from the last position seen")
            if pushed % PUSHES_AT_ONCE == 0:
                session.flush()
                await asyncio.sleep(0)  # others get their turn, and the peer its time to read

    def _past(self, accounts: list[int], after: int, to: int) -> list[tuple[int, Any, int]]:
        found: list[tuple[int, Any, int]] = []
        for number in accounts:
            found += [(position, entry, number) for position, entry in self._bank.queries.span(number, after, to)]
            if len(found) > PAST_ROWS_MAX:
                message = f"more than {PAST_ROWS_MAX} entries since position {after}; page through the history instead"
                raise MessageInvalid(message, {"field": "from_position"})
        return sorted(found, key=itemgetter(0, 2))

    def unsubscribe(self, session: Session) -> None:
        """Forget a session."""
        accounts = self._accounts.pop(session, ())
        self._pairs -= len(accounts)
        for number in accounts:
            sessions = self._sessions.get(number)
            if sessions is not None:
                sessions.pop(session, None)
                if not sessions:
                    del self._sessions[number]

    def on_commit(self, delta: Delta) -> None:
        """Push the entries of a committed record to those who want them."""
        if not self._sessions:
            return
        wanted = self._sessions
        pairs = zip(delta.chain, delta.entries, strict=True)
        for position, ((a, _, b, _), blob) in enumerate(pairs, delta.first_position):
            if a in wanted or b in wanted:
                entry = codec.decode(blob)
                self._push_to_all(a, position, entry)
                self._push_to_all(b, position, entry)

    def _push_to_all(self, number: int, position: int, entry: Any) -> None:
        for session in tuple(self._sessions.get(number, ())):
            if not self._push(session, number, position, entry):
                self.unsubscribe(session)

    def _push(self, session: Session, number: int, position: int, entry: Any) -> bool:
        return session.push("entry", EntryPush(number, history_row(position, entry, number)))
