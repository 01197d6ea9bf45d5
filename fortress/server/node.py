"""What every handler reaches: the node and its parts, built whole before the first connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fortress.config import Settings
from fortress.ledger.keyring import Keyring
from fortress.server.login import LoginDesk
from fortress.server.statistics import Statistics
from fortress.server.throttle import Throttle
from fortress.server.tokens import Tokens

if TYPE_CHECKING:
    from fortress.server.bank import Bank
    from fortress.server.server import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One running node.

    Attributes:
        settings: of its folder, as they were at the start; what reloads, the parts below were told.
        bank: answers what is asked of the ledger.
        server: its connections.
        keyring: its secrets.
        desk: of the logins.
        tokens: of the sessions.
        throttle: of failed logins.
        statistics: its counters.
    """

    settings: Settings
    bank: Bank
    server: Server
    keyring: Keyring
    desk: LoginDesk
    tokens: Tokens
    throttle: Throttle
    statistics: Statistics
