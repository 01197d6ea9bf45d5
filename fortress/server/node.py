"""What every handler reaches: the node and its parts, built whole before the first connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fortress import __version__
from fortress.config import Settings
from fortress.errors import OK
from fortress.ledger.keyring import Keyring
from fortress.protocol.administration import StatusAnswer
from fortress.server.backup_note import LastBackup
from fortress.server.login import LoginDesk
from fortress.server.ports import Ports
from fortress.server.statistics import Statistics
from fortress.server.throttle import Throttle
from fortress.server.tokens import Tokens

if TYPE_CHECKING:
    from fortress.server.bank import Bank
    from fortress.server.notifications import Notifications
    from fortress.server.server import Server

ROLE = "primary"  # a node alone


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a node stands in its pair.

    Attributes:
        role: primary or standby.
        term: the epoch that it has promised.
        copies: machines that hold each new entry.
        state: more exactly, as the pair's roles are named.
    """

    role: str
    term: int
    copies: int
    state: str = "alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One running node.

    Attributes:
        settings: of its folder, as they were at the start; what reloads, the parts below were told.
        bank: answers what is asked of the ledger.
        notifications: who wants to hear about which account.
        server: its connections.
        keyring: its secrets.
        desk: of the logins.
        tokens: of the sessions.
        throttle: of failed logins.
        statistics: its counters.
        ports: where payments between banks are plugged in.
        standing: tells where it stands in its pair; None: it is alone.
        backup: the last one that was made of it.
        started_s: monotonic time of the start.
    """

    settings: Settings
    bank: Bank
    notifications: Notifications
    server: Server
    keyring: Keyring
    desk: LoginDesk
    tokens: Tokens
    throttle: Throttle
    statistics: Statistics
    standing: Callable[[], Standing] | None = None
    backup: LastBackup = field(default_factory=LastBackup)
    ports: Ports = field(default_factory=Ports)
    started_s: float = field(default_factory=time.monotonic)

    def status(self) -> StatusAnswer:
        """Tell role, position and health."""
        committer, counters = self.bank.committer, self.statistics.counters.values()
        standing = self.standing() if self.standing is not None else Standing(ROLE, self.bank.engine.epoch, 1)
        return StatusAnswer(
            self.settings.node.bank,
            self.settings.node.name,
            standing.role,
            standing.term,
            committer.committed_lsn,
            committer.committed_position,
            standing.copies,
            self.statistics.connections,
            sum(counter.codes[OK] for counter in counters if counter.is_task),
            round(time.monotonic() - self.started_s, 3),
            __version__,
            standing.state,
            self.backup.made_us,
            self.backup.position,
        )
