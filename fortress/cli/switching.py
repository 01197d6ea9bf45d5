"""``switchover``, ``failover``, ``pause``, ``resume``: what an operator asks of the nodes of a pair.

A node is asked at the socket in its data folder, so these run on the node's own machine. Only ``failover
--allow-data-loss`` goes to the register itself: it is the one act that may lose acknowledged entries, and no node does
it by itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fortress.cli.command import Call, command, current_call
from fortress.cli.misuse import Misuse
from fortress.cli.output import Json, say, show
from fortress.cli.prompts import confirm, confirm_name
from fortress.errors import FortressError, NoPrimary, Unreachable

if TYPE_CHECKING:
    from fortress.config import Settings
    from fortress.pair.control import ControlState
    from fortress.pair.messages import Configuration
    from fortress.pair.register import Register

FOLDERS = click.argument("folders", type=click.Path(path_type=Path), nargs=-1, metavar="DIR")
YES = click.option("--yes", is_flag=True, help="Do not ask.")
LOOK_EVERY_S: Final = 0.1


@command("switchover", "fortress switchover ./bank-a", "fortress switchover ./bank-a ./bank-a-2 --yes")
@FOLDERS
@YES
def switchover_command(folders: tuple[Path, ...], yes: bool) -> None:
    """Make the other node primary, in order: requests are held for a moment, and none fails.

    Call it on the primary's machine, with its folder.
    """
    call = current_call()
    nodes = _members(call, folders)
    settings, before = _primary_of(call, nodes)
    other = (before.get("peer") or {}).get("name") or "the other node"
    confirm(call, f"Make {other} primary of bank {settings.node.bank} instead of {settings.node.name}?", yes=yes)
    started = time.monotonic()
    _ask(call, settings, "switchover")
    _tell(call, settings.node.bank, other, time.monotonic() - started)


@command(
    "failover",
    "fortress failover --to node-2 ./bank-a-2",
    "fortress failover --to node-2 ./bank-a-2 --allow-data-loss",
)
@FOLDERS
@click.option("--to", "name", required=True, metavar="NAME", help="The node that shall be primary.")
@click.option("--allow-data-loss", is_flag=True, help="Even if entries are missing there: they are lost for good.")
@click.option("--confirm", "typed", metavar="NAME", help="With --allow-data-loss: the node's name again, unasked.")
@YES
def failover_command(folders: tuple[Path, ...], name: str, allow_data_loss: bool, typed: str | None, yes: bool) -> None:
    """Make a node primary now, because the primary is gone or not to be trusted; call it with that node's folder.

    The node takes over only if it has everything that was acknowledged. If the primary is lost for good with entries
    that this node never got, --allow-data-loss gives them up; do that only when the other disk cannot be read again.
    """
    call = current_call()
    settings = _named(_members(call, folders), name)
    if allow_data_loss:
        lost = f"Entries that {name} never got are lost for good, though they were acknowledged."
        confirm_name(call, f"{lost} The other node must be off and stay off.", name, typed)
        started = time.monotonic()
        if not _force(call, settings):
            document: Json = {"bank": settings.node.bank, "primary": name, "seconds": None}
            show(call, document, f"{name} is primary by the register, and acts on it when it is started")
            return
    else:
        confirm(call, f"Make {name} primary of bank {settings.node.bank} now?", yes=yes)
        started = time.monotonic()
        _ask(call, settings, "failover")
    _tell(call, settings.node.bank, name, time.monotonic() - started)


@command("pause", "fortress pause ./bank-a", "fortress pause ./bank-a ./bank-a-2")
@FOLDERS
def pause_command(folders: tuple[Path, ...]) -> None:
    """Let a node take over nothing by itself, as while a machine or the network is worked on; call it on both nodes.

    It ends with 'fortress resume', or when the node is started anew.
    """
    _each(current_call(), folders, "pause", "takes over nothing by itself until 'fortress resume'")


@command("resume", "fortress resume ./bank-a")
@FOLDERS
def resume_command(folders: tuple[Path, ...]) -> None:
    """Let a node take over again by itself."""
    _each(current_call(), folders, "resume", "takes over again by itself")


def _each(call: Call, folders: Sequence[Path], act: str, words: str) -> None:
    nodes = _members(call, folders)
    for settings in nodes:
        _ask(call, settings, act)
    names = [settings.node.name for settings in nodes]
    show(call, {"nodes": [*names], "done": act}, *(f"{name} {words}" for name in names))


def _members(call: Call, folders: Sequence[Path]) -> list[Settings]:
    """Read the folders' settings; each must be a node of a pair."""
    from fortress.cli.configuration import load_settings

    nodes = [load_settings(call, folder) for folder in folders or (call.config,)]
    for settings in nodes:
        if not settings.pair.peer:
            raise Misuse(
                f"{settings.node.name} of bank {settings.node.bank} is a node alone",
                f"make a second one with 'fortress init DIR --join {settings.folder}'",
            )
    return nodes


def _named(nodes: Sequence[Settings], name: str) -> Settings:
    for settings in nodes:
        if settings.node.name == name:
            return settings
    here = ", ".join(f"{str(each.folder)!r} is {each.node.name}" for each in nodes)
    raise Misuse(f"no folder named is of {name}: {here}", f"call it on the machine of {name}, with its folder")


def _primary_of(call: Call, nodes: Sequence[Settings]) -> tuple[Settings, dict[str, Any]]:
    """Find the primary among the nodes that are here."""
    for settings in nodes:
        try:
            document = _ask(call, settings, "status")
        except Unreachable:
            if len(nodes) == 1:
                raise
            continue
        if document.get("role") == "primary":
            return settings, document
        other = (document.get("peer") or {}).get("name") or "the other node"
    if len(nodes) > 1:
        raise NoPrimary("none of these nodes is primary")
    raise Misuse(f"{nodes[0].node.name} is not primary", f"call it on the machine of {other}, with its folder")


def _ask(call: Call, settings: Settings, act: str) -> dict[str, Any]:
    from fortress.server.folder import data_folder
    from fortress.server.operations import ask

    return ask(data_folder(settings), act, timeout_s=call.timeout_s)


def _tell(call: Call, bank: str, name: str, seconds: float) -> None:
    document: Json = {"bank": bank, "primary": name, "seconds": round(seconds, 3)}
    show(call, document, f"{name} is primary of bank {bank}; that took {seconds:.2f} s")


def _force(call: Call, settings: Settings) -> bool:
    """Write into the register that this node alone is the pair, then wait until it acts on that, if it runs."""
    import asyncio

    from fortress.pair.chronicle import Chronicle
    from fortress.pair.control import CONTROL_NAME, read_control
    from fortress.server.folder import data_folder

    _check_gone(call, settings)
    path = data_folder(settings) / CONTROL_NAME
    try:
        control = read_control(path)
    except FileNotFoundError as exc:
        raise Misuse(
            f"{settings.node.name} was never part of its pair", "there is nothing on it to go on with"
        ) from exc
    if control.quarantined:
        raise Misuse(f"the data of {settings.node.name} cannot be trusted: {control.quarantined}", "restore a backup")
    found = asyncio.run(_write_register(settings, control))
    Chronicle(data_folder(settings), settings.node.name).write("forced", epoch=found.epoch)
    say(call, f"the register says so in epoch {found.epoch}")
    deadline = time.monotonic() + call.timeout_s
    while True:
        try:
            if _ask(call, settings, "status").get("role") == "primary":
                return True
        except Unreachable:
            return False
        if time.monotonic() > deadline:
            raise NoPrimary(f"{settings.node.name} has not acted on it yet", {"epoch": found.epoch})
        time.sleep(LOOK_EVERY_S)


def _check_gone(call: Call, settings: Settings) -> None:
    """Refuse to lose anything while the other node is there and primary."""
    from fortress.cli.status import read_peer

    try:
        document = read_peer(call, settings)
    except FortressError:
        return
    if document.get("role") == "primary":
        name = document.get("node")
        raise Misuse(f"{name} answers and is primary, so nothing need be lost", "call 'fortress switchover' there")


async def _write_register(settings: Settings, control: ControlState) -> Configuration:
    from fortress.pair.messages import Configuration, Member

    register = open_register_of(settings, control)
    member = Member(settings.node.name, control.instance)
    try:
        held = await register.get()
        if held is not None and held.primary == member:
            return held
        epoch = held.epoch if held is not None else 0
        fresh = Configuration(epoch + 1, member, (member,), held.witness if held is not None else b"")
        return await register.compare_and_set(epoch if held is not None else None, fresh)
    finally:
        await register.close()


def open_register_of(settings: Settings, control: ControlState) -> Register:
    """Make a client of a node's register, with the node's own certificate.

    Raises:
        SettingInvalid, CertificateUnusable: the settings or certificates do not allow it.
    """
    from fortress.pair.link import dialing_context
    from fortress.pair.register import open_register

    tls = settings.tls
    ca = settings.path(settings.pair.register_ca or tls.ca)
    dialing = dialing_context(settings.path(tls.certificate), settings.path(tls.key), ca)
    return open_register(settings.pair, dialing, control.cluster, promised=lambda: control.promised)
