"""What is known of a bank's nodes from what they answer: a headline, the last ten minutes, what happened.

Asks nobody and reads no clock: each answer, each silence and each second is told to :class:`Watch` with its time. Times
of events and lengths of outages are as seen from here, at one look a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from fortress.protocol.administration import StatusAnswer
from fortress.web import administration as admin
from fortress.web.conversions import time_of, time_or_none

SAMPLES_MAX: Final = 600
"""Ten minutes of seconds."""
EVENTS_MAX: Final = 200
SILENT: Final = "silent"
OK: Final = "ok"
UNSEEN: Final = StatusAnswer("", "", "", 0, 0, 0, 0, 0, 0, 0.0, "")
IN_ORDER: Final = ("", "alone", "primary.paired", "standby.in_sync")
"""States of a node with which nobody need concern themselves; an older node tells none."""

Severity = Literal["ok", "warning", "danger"]


@dataclass(slots=True)
class Sight:
    """One node, as it is seen from here.

    Attributes:
        address: where it is asked.
        status: what it said last.
        seen_us: when that was; 0: never.
        answers: whether it answered when it was asked last; None: it was not asked yet.
        latency_ms: how long the last answer took.
        lost_us: since when it has been silent.
    """

    address: str
    status: StatusAnswer = UNSEEN
    seen_us: int = 0
    answers: bool | None = None
    latency_ms: float = 0.0
    lost_us: int = 0

    @property
    def name(self) -> str:
        """As people call it: its name once it has said it, else its address."""
        return self.status.node or self.address

    @property
    def is_primary(self) -> bool:
        """Whether it takes payments, as far as it knows."""
        return self.answers is True and self.status.role == "primary" and self.status.state != "blocked"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the bank is: a sentence, how bad that is, and what to do."""

    headline: str
    severity: Severity
    advice: str = ""


class Watch:
    """Keep what is seen of one bank's nodes.

    Args:
        bank: its id.
        kind: bank or gateway.
        addresses: of its nodes.

    Attributes:
        samples: one a second, oldest first, bounded.
        events: what happened, oldest first, bounded.
    """

    def __init__(self, bank: str, kind: Literal["bank", "gateway"], addresses: Sequence[str]) -> None:
        self.samples: deque[admin.Sample] = deque(maxlen=SAMPLES_MAX)
        self.events: deque[admin.Event] = deque(maxlen=EVENTS_MAX)
        self._name = "The gateway" if bank == kind else f"{kind.capitalize()} {bank}"
        self._sights = {address: Sight(address) for address in addresses}
        self._primary = ""
        self._term = 0
        self._copies = 0
        self._served_us = 0
        self._counted: tuple[str, int, int, float] | None = None
        self._sampled_us = 0

    # --- what is seen -------------------------------------------------------------------------------------------

    def heard(self, address: str, status: StatusAnswer, latency_ms: float, now_us: int) -> None:
        """Take a node's answer."""
        sight = self._sights[address]
        was_silent, lost_us = sight.answers is False, sight.lost_us
        is_anew = sight.answers and status.uptime_s < sight.status.uptime_s
        sight.status, sight.seen_us, sight.answers, sight.latency_ms = status, now_us, True, latency_ms
        if was_silent and lost_us:
            away_s = (now_us - lost_us) / 1e6
            is_end = sight.is_primary and address == self._primary
            outage_s = self._outage_s(now_us) if is_end else None  # nobody else was primary meanwhile
            self._note(now_us, sight, "back", f"{sight.name} answers again after {away_s:.1f} s", outage_s)
        elif is_anew:
            self._note(now_us, sight, "restarted", f"{sight.name} was started anew")
        if sight.is_primary:
            self._served(sight, now_us)

    def missed(self, address: str, now_us: int) -> None:
        """Take that a node did not answer."""
        sight = self._sights[address]
        if sight.answers:
            sight.lost_us = now_us
            self._note(now_us, sight, "lost", f"{sight.name} does not answer any more")
        sight.answers = False

    def pause(self) -> None:
        """Take that nobody will look for a while: what happens meanwhile is not seen, so no length of it is known."""
        self._served_us = 0
        self._counted = None
        for sight in self._sights.values():
            sight.answers, sight.lost_us = None, 0

    def _served(self, primary: Sight, now_us: int) -> None:
        """Take that a primary answered; tell if it is another one than before, or has another number of copies."""
        status = primary.status
        if status.term < self._term:
            return  # it does not know yet that another one is primary
        if self._primary and primary.address != self._primary:
            words = f"{primary.name} took over as primary"
            self._note(now_us, primary, "takeover", words, self._outage_s(now_us))
        if self._copies and status.copies != self._copies:
            words = "entries are on two machines again" if status.copies > 1 else "new entries are on one machine"
            self._note(now_us, primary, "join" if status.copies > 1 else "solo", words)
        self._primary, self._term, self._copies, self._served_us = primary.address, status.term, status.copies, now_us

    def _outage_s(self, now_us: int) -> float | None:
        """Give the time since a primary answered; None if nobody looked all the while."""
        return round((now_us - self._served_us) / 1e6, 1) if self._served_us else None

    def _note(self, now_us: int, sight: Sight, event: str, words: str, outage_s: float | None = None) -> None:
        self.events.append(admin.Event(time_of(now_us), sight.name, event, words, outage_s))

    # --- each second --------------------------------------------------------------------------------------------

    def tick(self, now_us: int) -> None:
        """Add up a second that has gone by; before all nodes were asked nothing is known of it."""
        sight = self._acting()
        if sight is None:
            if any(each.answers is None for each in self._sights.values()):
                return
            self._counted = None
            self.samples.append(admin.Sample(time_of(now_us), 0.0, 0.0, None, self._term))
            return
        status, before = sight.status, self._counted
        self._counted = counted = (sight.address, status.position, status.tasks_processed, status.uptime_s)
        span_s = (now_us - self._sampled_us) / 1e6
        self._sampled_us = now_us
        entries = requests = 0.0
        # another node, or the same one started anew, counts from elsewhere
        if before is not None and before[0] == counted[0] and before[3] <= counted[3] and span_s > 0:
            entries = max(counted[1] - before[1], 0) / span_s
            requests = max(counted[2] - before[2], 0) / span_s
        sample = (round(entries, 1), round(requests, 1), round(sight.latency_ms, 2), status.term)
        self.samples.append(admin.Sample(time_of(now_us), *sample))

    # --- what is told -------------------------------------------------------------------------------------------

    def cluster(self, now_us: int) -> admin.Cluster:
        """Tell how the bank and its nodes are."""
        found = self.verdict()
        nodes = list(self._nodes())
        return admin.Cluster(found.headline, found.severity, found.advice, nodes, time_of(now_us))

    def verdict(self) -> Verdict:
        """Judge how the bank is from what its nodes said last."""
        sights = list(self._sights.values())
        answering = [sight for sight in sights if sight.answers]
        if not answering:
            if any(sight.answers is None for sight in sights):
                return Verdict(f"{self._name} is being asked how it is.", OK)
            return Verdict(f"{self._name} does not answer.", "danger", "Start its nodes: fortress serve DIR")
        primary = self._acting()
        if primary is None:
            return self._without_primary(answering)
        return self._with_primary(primary, [sight for sight in sights if sight is not primary])

    def _with_primary(self, primary: Sight, others: Sequence[Sight]) -> Verdict:
        silent = [sight.name for sight in others if sight.answers is False]
        if primary.status.copies > 1:
            if silent:
                words = f"{self._name} has two copies, but {silent[0]} does not answer here."
                return Verdict(words, "warning", f"See whether {silent[0]} runs and can be reached from here.")
            return Verdict(f"{self._name} is well: two copies.", OK)
        if primary.status.state == "alone":
            return Verdict(f"{self._name} is up: one node, so entries are on one machine.", OK)
        words = f"{self._name} has no standby."
        coming = [sight for sight in others if sight.answers]
        if coming:
            phase = _phase(coming[0].status)
            return Verdict(words, "warning", f"{coming[0].name} is {phase}; wait until it is in sync.")
        start = f"Start {silent[0]}" if silent else "Start the other node"
        return Verdict(words, "warning", f"New entries are on one machine. {start}: fortress serve DIR")

    def _without_primary(self, answering: Sequence[Sight]) -> Verdict:
        words = f"{self._name} has no primary."
        if any(sight.status.state == "blocked" for sight in answering):
            advice = (
                "Payments wait: a node hears neither the other one nor the register. Start the other, or the witness."
            )
            return Verdict(words, "danger", advice)
        if any(sight.status.state in ("standby.in_sync", "") for sight in answering):
            return Verdict(
                words, "danger", "The standby takes over within seconds; if not, 'fortress events' says why."
            )
        return Verdict(words, "danger", "Start the other node, which has the newest entries: fortress serve DIR")

    def _acting(self) -> Sight | None:
        """Give the node that is primary: of two that believe so, the one of the later term."""
        primaries = [sight for sight in self._sights.values() if sight.is_primary]
        return max(primaries, key=lambda sight: sight.status.term, default=None)

    def _nodes(self) -> Iterator[admin.Node]:
        primary = self._acting()
        for sight in self._sights.values():
            s = sight.status
            behind = 0
            if primary is not None and sight is not primary and s.state != "standby.in_sync" and sight.seen_us:
                behind = max(primary.status.lsn - s.lsn, 0)
            yield admin.Node(
                address=sight.address,
                node=s.node,
                role=s.role,
                state=OK if sight.answers and s.state in IN_ORDER else _phase(s) if sight.answers else SILENT,
                term=s.term,
                lsn=s.lsn,
                position=s.position,
                behind=behind,
                copies=s.copies,
                connections=s.connections,
                tasks_processed=s.tasks_processed,
                uptime_s=s.uptime_s,
                version=s.version,
                seen=time_or_none(sight.seen_us),
                backup=time_or_none(s.backup_us),
                backup_position=s.backup_position,
            )


def _phase(status: StatusAnswer) -> str:
    """Say a node's state as people do."""
    return status.state.rpartition(".")[2].replace("_", " ") or OK
