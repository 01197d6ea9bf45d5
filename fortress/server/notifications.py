"""Tell sessions what happened on their accounts, once it is committed, and from where they left off.

A push carries its position, so a client that was away asks for everything after the last one it saw: first what the
tables have, then what comes. A session that does not keep up loses its subscription and is told so; nothing is
lost, since it can subscribe again from its last position.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from fortress.errors import Busy
from fortress.ledger import entries as codec
from fortress.ledger.delta import Delta
from fortress.protocol.reading import EntryPush
from fortress.server.bank import Bank
from fortress.server.session import Session
from fortress.server.views import history_row

SUBSCRIPTIONS_MAX = 100_000  # account and session pairs


class Notifications:
    """Who wants to know about which account.

    Args:
        bank: where the past is read from.
    """

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._sessions: dict[int, dict[Session, None]] = {}  # account -> sessions, in order of subscription
        self._accounts: dict[Session, list[int]] = {}

    async def subscribe(self, session: Session, accounts: list[int], from_position: int) -> int:
        """Push what touches the accounts after ``from_position`` (0: from now on); return the present position.

        Raises:
            Busy: too many subscriptions on this node.
            MessageInvalid: too much happened since ``from_position``; page through the history instead.
        """
        self.unsubscribe(session)
        if len(self._accounts) + len(accounts) > SUBSCRIPTIONS_MAX:
            raise Busy("too many subscriptions on this node", {"subscriptions_max": SUBSCRIPTIONS_MAX})
        committer = self._bank.committer
        position = from_position or committer.committed_position
        while position < committer.committed_position:
            target = committer.committed_position
            await self._bank.tables_hold(target)
            for entry_position, entry, number in await self._bank.read(self._past, accounts, position, target):
                self._push(session, number, entry_position, entry)
            position = target
        # Nothing is awaited from here on, so no commit falls between the past and what comes.
        self._accounts[session] = accounts
        for number in accounts:
            self._sessions.setdefault(number, {})[session] = None
        return position

    def _past(self, accounts: list[int], after: int, to: int) -> list[tuple[int, Any, int]]:
        spans = [(number, self._bank.queries.span(number, after, to)) for number in accounts]
        found = [(position, entry, number) for number, rows in spans for position, entry in rows]
        return sorted(found, key=itemgetter(0, 2))

    def unsubscribe(self, session: Session) -> None:
        """Forget a session."""
        for number in self._accounts.pop(session, ()):
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
        for (position, a, _, b, _), blob in zip(delta.chain, delta.entries, strict=True):
            if a in wanted or b in wanted:
                entry = codec.decode(blob)
                for number in (a, b):
                    for session in list(wanted.get(number, ())):
                        self._push(session, number, position, entry)

    def _push(self, session: Session, number: int, position: int, entry: Any) -> None:
        if not session.push("entry", EntryPush(number, history_row(position, entry, number))):
            self.unsubscribe(session)
