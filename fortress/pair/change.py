"""What any register takes: the one way in which a configuration may follow another, and what the others are told."""

from __future__ import annotations

from typing import Final

from fortress.errors import LocalProtocolError, PairError, RegisterStale
from fortress.pair.messages import INSTANCE_SIZE_BYTES, Configuration, Member

FIRST_EPOCH: Final = 1
CLUSTER_SIZE_BYTES_MAX: Final = 64
NAME_LENGTH_MAX: Final = 64
WITNESS_SIZE_BYTES_MAX: Final = 32
EPOCH_MAX: Final = 2**53
"""JSON readers keep numbers exact up to here; at one change a millisecond it takes 285,000 years."""


class Conflict(PairError):
    """The register holds something else than what was to be replaced.

    Attributes:
        configuration: what it holds.
    """

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(f"the register holds epoch {configuration.epoch}, which is not what was to be replaced")
        self.configuration = configuration


def check_change(expected: int | None, fresh: Configuration) -> None:
    """Check that a configuration may follow the one of epoch ``expected`` (None: that nothing is held yet).

    Raises:
        LocalProtocolError: it may not follow it, whatever the register holds.
    """
    next_epoch = FIRST_EPOCH if expected is None else expected + 1
    if fresh.epoch != next_epoch or fresh.epoch > EPOCH_MAX:
        raise LocalProtocolError(f"epoch {fresh.epoch} cannot follow {expected}: the next one is {next_epoch}")
    check_configuration(fresh)


def check_configuration(configuration: Configuration) -> None:
    """Check that a configuration makes sense in itself.

    Raises:
        LocalProtocolError: it does not.
    """
    members = configuration.in_sync
    if not 1 <= len(members) <= 2 or configuration.primary not in members:
        raise LocalProtocolError("one node or two are in sync, and the primary is one of them")
    if len({member.instance for member in members}) < len(members) or not all(map(_is_member, members)):
        raise LocalProtocolError(f"members differ in their instances of {INSTANCE_SIZE_BYTES} bytes and have names")
    if len(configuration.witness) > WITNESS_SIZE_BYTES_MAX:
        raise LocalProtocolError(f"the id of a witness has at most {WITNESS_SIZE_BYTES_MAX} bytes")


def check_fresh(held: Configuration | None, known: int) -> None:
    """Check that a register is not older than the epoch that a node has promised, or has read from it before.

    Raises:
        RegisterStale: it is: its storage was lost, restored or exchanged.
    """
    epoch = held.epoch if held else 0
    if epoch < known:
        message = f"the register holds {f'epoch {epoch}' if held else 'nothing'}, but epoch {known} was there before"
        raise RegisterStale(message, {"held": epoch, "known": known})


def check_held(held: Configuration | None, expected: int | None) -> None:
    """Check that a register holds what is to be replaced: the configuration of this epoch; None: nothing yet.

    Raises:
        RegisterStale: it holds less, though that epoch can only have been read from it.
        Conflict: it holds something else.
    """
    check_fresh(held, expected or 0)
    if held is not None and held.epoch != expected:
        raise Conflict(held)


def _is_member(member: Member) -> bool:
    return len(member.instance) == INSTANCE_SIZE_BYTES and 1 <= len(member.name) <= NAME_LENGTH_MAX
