"""How a bank is, judged from what its nodes say: a sentence, what to do next, an exit code. Asks nobody itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fortress.cli.failures import Exit
from fortress.cli.output import Json, Table

COLUMNS: Final = ("Node", "Address", "Role", "State", ">Term", ">Seq", ">Behind", "Seen")
HEARD_S_MAX: Final = 3.0
"""A node that was heard of within this time is taken to be there."""
WATCH: Final = "fortress status --watch"

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """What is known of one node.

    Attributes:
        name: its name; empty if not known.
        address: where clients reach it, or where it was asked.
        document: what it said of itself; empty if it did not answer.
        seen_s: how long ago the other node heard of it; None: never, or nobody could tell.
        behind: records it lacks, as the other node knows.
    """

    name: str
    address: str
    document: Document
    seen_s: float | None = None
    behind: int | None = None

    @property
    def role(self) -> str:
        """Primary or standby; empty if it did not answer."""
        return str(self.document.get("role", ""))

    @property
    def state(self) -> str:
        """Where it stands, as people say it."""
        if not self.document:
            return "running" if _is_heard(self.seen_s) else "not reachable"
        if failed_checks(self.document):
            return "needs care"
        phase = str(self.document.get("state") or "ready")
        return phase.rpartition(".")[2].replace("_", " ")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the bank is.

    Attributes:
        sentence: for people.
        next: what to do; empty for nothing.
        exit: for scripts.
    """

    sentence: str
    next: str
    exit: Exit


def with_peer(view: NodeView) -> list[NodeView]:
    """Give a node and what it knows of the other one."""
    peer = view.document.get("peer")
    if not isinstance(peer, Mapping):
        return [view]
    behind = view.document.get("behind") if view.role == "primary" else None
    other = NodeView(
        name=str(peer.get("name") or "?"),
        address=str(peer.get("address") or ""),
        document={},
        seen_s=peer.get("seen_s"),
        behind=behind,
    )
    return [view, other]


def verdict(views: Sequence[NodeView]) -> Verdict:
    """Judge how a bank is by what is known of its nodes, of which at least one must have answered."""
    found = _verdict(views)
    if any("switch" in view.document for view in views):
        found = Verdict(found.sentence.replace("Bank ", "Gateway ", 1), found.next, found.exit)
    for document in _primary_documents(views):
        found = _with_links(found, document)
    return found


def links_of(views: Sequence[NodeView]) -> list[str]:
    """Say how a bank's link to its gateway is, or a gateway's to its banks; nothing for a bank that knows no other."""
    said = []
    for document in _primary_documents(views):
        gateway, switch = document.get("gateway"), document.get("switch")
        if isinstance(gateway, Mapping):
            state = "connected" if gateway.get("connected") else "not connected"
            since = gateway.get("since_s")
            state += f" for {span_text(since)}" if since is not None else ""
            said.append(f"Gateway {gateway.get('bank')}: {state}; {gateway.get('payments_open', 0)} payments under way")
        if isinstance(switch, Mapping):
            said.append(
                f"Banks: {switch.get('banks_connected', 0)} of {switch.get('banks', 0)} connected; "
                f"{document.get('payments_in_doubt', 0)} payments not decided everywhere"
            )
    return said


def _primary_documents(views: Sequence[NodeView]) -> list[Document]:
    """Give what the primary says of itself; only it speaks with a gateway or with banks."""
    return [view.document for view in views if view.role == "primary" and view.document.get("state") != "blocked"][:1]


def _with_links(found: Verdict, document: Document) -> Verdict:
    """Add to a verdict what is wrong between banks and gateway; each works for itself nevertheless."""
    gateway, switch = document.get("gateway"), document.get("switch")
    wrong: list[tuple[str, str]] = []
    if isinstance(gateway, Mapping):
        wrong += _wrong_with_gateway(gateway)
    if isinstance(switch, Mapping):
        wrong += _wrong_with_banks(switch)
    for more, step in wrong:
        exit = Exit.degraded if found.exit is Exit.ok else found.exit
        found = Verdict(f"{found.sentence[:-1]}; {more}.", found.next or step, exit)
    return found


def _wrong_with_gateway(gateway: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if disputes := gateway.get("disputes"):
        what = "payment contradicts" if disputes == 1 else "payments contradict"
        yield f"{disputes} {what} the gateway", "fortress payment list --in-doubt"
    if not gateway.get("connected"):
        more = f"the gateway {gateway.get('bank')} is not connected, so no other bank can be paid"
        yield more, "start the gateway, and see there that it knows this bank: fortress bank list"


def _wrong_with_banks(switch: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if differences := switch.get("differences"):
        yield f"the books of {', '.join(sorted(differences))} differ from the gateway's", "fortress windows show"
    missing = int(switch.get("banks", 0)) - int(switch.get("banks_connected", 0))
    if missing > 0:
        more = f"{missing} {'bank is' if missing == 1 else 'banks are'} not connected"
        yield more, "fortress bank list says which"


def _verdict(views: Sequence[NodeView]) -> Verdict:
    answering = [view for view in views if view.document]
    bank = answering[0].document.get("bank", "?")
    failed = [reason for view in answering for reason in failed_checks(view.document)]
    if failed:
        return Verdict(f"Bank {bank} needs care: {'; '.join(failed)}.", "fortress doctor", Exit.degraded)
    blocked = [view for view in answering if view.document.get("state") == "blocked"]
    primaries = [view for view in answering if view.role == "primary" and view not in blocked]
    if primaries:
        return _with_primary(bank, max(primaries, key=lambda view: int(view.document.get("term", 0))), views)
    if blocked:
        waiting = f"{blocked[0].name} hears neither the other node nor the register, and holds them"
        return Verdict(
            f"Bank {bank} takes no payments: {waiting}.", "start the other node, or the witness", Exit.unreachable
        )
    return _without_primary(bank, answering[0])


def failed_checks(document: Document) -> list[str]:
    """List what must hold for a node to be ready and does not."""
    checks: Mapping[str, Mapping[str, Any]] = document.get("checks", {})
    return [f"{name}: {check.get('reason', '')}" for name, check in checks.items() if not check.get("ok")]


def table_of(views: Sequence[NodeView]) -> Table:
    """Lay the nodes out, one in a row."""
    rows = [
        (
            view.name,
            view.address,
            view.role or "?",
            view.state,
            str(view.document.get("term", "")),
            str(view.document.get("position", "")),
            str(view.document.get("behind", 0) if view.document else "" if view.behind is None else view.behind),
            seen_text(view),
        )
        for view in views
    ]
    return Table(columns=COLUMNS, rows=rows)


def rows_of(views: Sequence[NodeView]) -> list[Json]:
    """Give the table for programs."""
    return [
        {
            "node": view.name,
            "address": view.address,
            "role": view.role or None,
            "state": view.state,
            "term": view.document.get("term"),
            "position": view.document.get("position"),
            "behind": view.document.get("behind", 0) if view.document else view.behind,
            "seen_s": 0.0 if view.document else view.seen_s,
        }
        for view in views
    ]


def seen_text(view: NodeView) -> str:
    """Say when a node was last heard of."""
    if view.document:
        return "now"
    return "never" if view.seen_s is None else f"{span_text(view.seen_s)} ago"


def span_text(seconds: float) -> str:
    """Write a span of time in its two largest units."""
    left = int(seconds)
    parts: list[str] = []
    for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (name == "s" and not parts):
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def _is_heard(seen_s: float | None) -> bool:
    return seen_s is not None and seen_s <= HEARD_S_MAX


def _with_primary(bank: str, primary: NodeView, views: Sequence[NodeView]) -> Verdict:
    document, name = primary.document, primary.name
    others = [view for view in views if view is not primary]
    if int(document.get("copies", 1)) >= 2:
        return _paired(bank, name, document)
    if not others and "peer" not in document:
        return Verdict(f"Bank {bank} is up: {name} is primary; entries are on one machine.", "", Exit.ok)
    other = others[0] if others else NodeView(name="the other node", address="", document={})
    alone = f"Bank {bank} has no standby: {name} is primary, and new entries are on one machine"
    if other.document or _is_heard(other.seen_s):
        behind = other.document.get("behind", other.behind)
        far = f", {behind} records behind" if behind else ""
        return Verdict(f"{alone}; {other.name} is catching up{far}.", WATCH, Exit.degraded)
    named = other.name if other.name not in ("", "?") else "the other node"
    return Verdict(f"{alone}.", f"start {named}: fortress serve DIR; or 'fortress events' says why", Exit.degraded)


def _paired(bank: str, primary: str, document: Document) -> Verdict:
    register: Mapping[str, Any] = document.get("register") or {}
    sentence = f"Bank {bank}: two copies, {primary} is primary"
    if register.get("reachable", True):
        return Verdict(f"{sentence}.", "", Exit.ok)
    return Verdict(
        f"{sentence}; the register ({register.get('kind', '?')}) does not answer, so no node could take over.",
        "start the witness: fortress witness DIR",
        Exit.degraded,
    )


def _without_primary(bank: str, view: NodeView) -> Verdict:
    document, name = view.document, view.name
    peer = document.get("peer")
    if not isinstance(peer, Mapping):
        return Verdict(f"Bank {bank}: {name} is {view.role} and takes no payments.", WATCH, Exit.degraded)
    if not _is_heard(peer.get("seen_s")):
        start = "start the other node: fortress serve DIR"
        more = "" if view.state == "in sync" else " --allow-data-loss"
        step = f"{start}; or if it is lost for good: fortress failover --to {name}{more}"
        return Verdict(f"Bank {bank} has no primary: {name} is {view.state} and hears nobody.", step, Exit.unreachable)
    other = peer.get("name") or "the other node"
    if view.state == "in sync":
        return _paired(bank, other, document)
    behind = document.get("behind")
    far = f", {behind} records behind" if behind else ""
    return Verdict(f"Bank {bank} has no standby yet: {name} is {view.state}{far}.", WATCH, Exit.degraded)
