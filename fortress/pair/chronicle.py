"""The log of events: what happened to a node in its pair, in a file that people can read while nothing runs.

Lines of JSON in ``events.jsonl``; when the file is full it becomes ``events.1.jsonl``, and that one's predecessor goes.
Nothing depends on it, so it is not synced: after a power cut the last lines may be missing, and a torn one is skipped.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

NAME: Final = "events.jsonl"
OLD_NAME: Final = "events.1.jsonl"
FILE_BYTES_MAX: Final = 1024 * 1024
FACT_LENGTH_MAX: Final = 500
FACTS_MAX: Final = 16
AGAIN_AFTER: Final = timedelta(minutes=5)
"""The same event again is written only after this time: a state that lasts fills no file."""
FILE_MODE: Final = 0o600
OPTIONAL: Final = re.compile(r"\[([^]]*)\]")
FACT: Final = re.compile(r"\{(\w+)\}")

Fact = str | int

logger = logging.getLogger(__name__)


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """One event.

    Attributes:
        time: when, UTC, as the node's clock had it.
        node: to whom it happened.
        epoch: that the node had promised; 0 if none.
        name: of the event; see `SENTENCES`.
        facts: numbers and words about it.
    """

    time: datetime
    node: str
    epoch: int = 0
    name: str
    facts: dict[str, Fact] = {}


SENTENCES: Final[dict[str, str]] = {
    # changes of the register, by the name that the role machine gives them
    "first": "is the first primary of this pair",
    "solo": "goes on alone as primary: new entries are on one machine",
    "join": "counts the other node again: entries are on two machines",
    "takeover": "took over as primary[; nothing had been heard of the other node for {silent_ms} ms]",
    "switch": "handed over to the other node in order",
    "bump": "is primary again after a restart",
    # what else the role machine tells
    "joining": "begins to count on the other node, which has record {lsn} of {end}",
    "blocked": "holds entries, for neither the other node nor the register answers ({reason})",
    "switch_over_failed": "could not hand over in time, and stays primary",
    "wish_refused": "could not do what was asked ({wish}) while {phase}",
    "takeover_refused": "may not take over: the register does not count this node in epoch {epoch}",
    "superseded": "learned that epoch {epoch} has begun, and stops acting in {promised}",
    "peer_left": "was told by the other node that it goes down in order",
    "peer_broke_rules": "heard from the other node what cannot be ({said}), and did not take it",
    "register_empty": "found nothing in the register, though epoch {promised} was promised",
    # what the node tells
    "restarting": "starts anew: {reason}",
    "quarantined": "takes no part until it is rebuilt: {reason}",
    "peer_rejected": "turned away who called as the other node: {reason}",
    "register_unreachable": "does not reach the register: {reason}",
    "register_exchanged": "finds another register than before: {now} instead of {before}",
    # what operators did to its folder
    "forced": "was made primary by an operator, who gave up what only the other node had",
    "rejoined": "begins anew as an empty member; its old data was put aside",
}
"""Event -> what happened to the node named before it; facts stand in braces, and what needs a fact in brackets."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Happening).decode


def utc_now() -> datetime:
    """Give the present time."""
    return datetime.now(UTC)


class Chronicle:
    """Write the events of one node.

    Args:
        folder: the node's data folder.
        node: its name.
        now: the clock.
        bytes_max: size of a file.
    """

    def __init__(
        self, folder: Path, node: str, *, now: Callable[[], datetime] = utc_now, bytes_max: int = FILE_BYTES_MAX
    ) -> None:
        self._folder = folder
        self._node = node
        self._now = now
        self._bytes_max = bytes_max
        self._last: Happening | None = None

    def write(self, name: str, *, epoch: int = 0, facts: Mapping[str, Fact] | None = None) -> None:
        """Add an event; a file that cannot be written is logged, since nothing may wait or fail for it."""
        short = {key: _short(value) for key, value in list((facts or {}).items())[:FACTS_MAX]}
        happening = Happening(time=self._now(), node=self._node, epoch=epoch, name=name, facts=short)
        if self._last is not None and _is_again(self._last, happening):
            return
        self._last = happening
        line = _encode(happening) + b"\n"
        path = self._folder / NAME
        try:
            if path.exists() and path.stat().st_size + len(line) > self._bytes_max:
                os.replace(path, self._folder / OLD_NAME)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            logger.warning("event not written", extra={"fields": {"name": name, "reason": error.strerror or ""}})


def read(folder: Path, *, limit: int = 100) -> tuple[Happening, ...]:
    """Read the newest events of a data folder, oldest first; also while its node runs.

    Lines that cannot be read, as a torn one, are skipped; no file means that nothing happened yet.
    """
    found: list[Happening] = []
    for name in (NAME, OLD_NAME):
        try:
            lines = (folder / name).read_bytes().splitlines()
        except FileNotFoundError:
            continue
        found += [happening for line in reversed(lines) if (happening := _readable(line))][: limit - len(found)]
    return tuple(reversed(found))


def sentence(happening: Happening) -> str:
    """Say an event in a sentence; one that this version does not know is told by its name and its facts."""
    form = SENTENCES.get(happening.name)
    if form is None:
        facts = ", ".join(f"{key} {value}" for key, value in happening.facts.items())
        return happening.name.replace("_", " ") + (f" ({facts})" if facts else "")
    return OPTIONAL.sub(lambda part: _if_known(part[1], happening.facts), form).format_map(_Facts(happening.facts))


def _if_known(part: str, facts: Mapping[str, Fact]) -> str:
    return part if all(name in facts for name in FACT.findall(part)) else ""


class _Facts(dict[str, Fact]):
    """Facts of an event; one that is missing reads as a question mark."""

    def __missing__(self, key: str) -> str:
        return "?"


def _is_again(last: Happening, fresh: Happening) -> bool:
    same = (last.name, last.epoch, last.facts) == (fresh.name, fresh.epoch, fresh.facts)
    return same and fresh.time - last.time < AGAIN_AFTER


def _short(value: Fact) -> Fact:
    return value[:FACT_LENGTH_MAX] if isinstance(value, str) else value


def _readable(line: bytes) -> Happening | None:
    try:
        return _decode(line)
    except msgspec.MsgspecError:
        return None
