"""``bank``: a bank joins a gateway; and the banks of a gateway, as its customers and its administrators see them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fortress.cli.command import Call, current_call, group
from fortress.cli.desk import visit
from fortress.cli.gateways import Gateway, connect_bank, gateway_of, read_authority
from fortress.cli.misuse import Misuse
from fortress.cli.output import Fields, Json, Table, say, show
from fortress.cli.prompts import confirm
from fortress.cli.settlement import position_json, positions_table
from fortress.cli.users import show_done
from fortress.cli.views import time_json, time_text
from fortress.errors import NotAllowed, Refused, Status, UnknownOperation

if TYPE_CHECKING:
    from fortress.client.me import Me
    from fortress.protocol.switching import BankView, PositionView

NAME = click.argument("name", metavar="BANK")

bank_command = group(
    "bank",
    "Banks that pay each other through a gateway.",
    "fortress bank list",
    "fortress bank join ./bank-a ./bank-a-2 --gateway-folder ./gateway",
    "fortress bank add a --authority ./bank-a/certs/ca.crt --currency EUR --cap 10000",
)


@bank_command.command(
    "join",
    examples=(
        "fortress bank join ./bank-a ./bank-a-2 --gateway-folder ./gateway --gateway-folder ./gateway-2",
        "fortress bank join ./bank-a --authority ./gateway-ca.crt --addresses g1.example.org:7615,g2.example.org:7615",
    ),
)
@click.argument("folders", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="DIR...")
@click.option(
    "--gateway-folder",
    "gateways",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="A folder of the gateway, if it is here; may be repeated for both of its nodes.",
)
@click.option("--authority", type=click.Path(path_type=Path), metavar="FILE", help="The gateway's ca.crt otherwise.")
@click.option("--addresses", default="", metavar="LIST", help="Where the gateway takes banks: host:port,host:port.")
@click.option("--name", default="", metavar="ID", help="The gateway's id; gateway by default.")
@click.option("--replace", is_flag=True, help="The bank has another gateway, with which nothing is under way any more.")
def join_command(
    folders: tuple[Path, ...],
    gateways: tuple[Path, ...],
    authority: Path | None,
    addresses: str,
    name: str,
    replace: bool,
) -> None:
    """Tell a bank's nodes which gateway they pay through: settings, and its authority's certificate.

    Name the folders of both nodes of a pair. The gateway's administrators let the bank in with 'fortress bank add'.
    """
    call = current_call()
    gateway = _gateway(gateways, authority, addresses, name)
    nodes = connect_bank(folders, gateway, replace=replace)
    first = nodes[0]
    document: Json = {
        "bank": first.node.bank,
        "gateway": first.gateway.bank,
        "addresses": first.gateway.addresses,
        "authority": str(first.path(first.gateway.authority)),
        "nodes": [node.node.name for node in nodes],
    }
    sentence = f"Bank {first.node.bank} pays others through {first.gateway.bank} at {first.gateway.addresses}."
    show(call, document, sentence)
    if len(nodes) == 1 and first.pair.peer:
        say(call, "do the same for the other node's folder, or name both")
    _say_next(call, folders, first.node.bank, str(first.path(first.tls.ca)))


def _gateway(gateways: Sequence[Path], authority: Path | None, addresses: str, name: str) -> Gateway:
    if gateways:
        if authority or addresses or name:
            raise Misuse(
                "the gateway's folder tells its authority, addresses and id",
                "leave out --authority, --addresses and --name, or --gateway-folder",
            )
        return gateway_of(gateways)
    if authority is None or not addresses:
        raise Misuse(
            "it is not known which gateway this shall be",
            "name its folder with --gateway-folder, or --authority FILE and --addresses HOST:PORT,...",
        )
    return Gateway(bank=name or "gateway", addresses=addresses, authority=authority)


def _say_next(call: Call, folders: Sequence[Path], bank: str, ca: str) -> None:
    from fortress import config
    from fortress.server.folder import served_by

    for folder in folders:
        if pid := served_by(config.load(folder, {}, {})):
            say(call, f"process {pid} serves {str(folder)!r} and must be started anew to know it")
    say(call, f"next, at the gateway: fortress bank add {bank} --authority {ca} --currency EUR --cap 10000")


@bank_command.command(
    "add", examples=("fortress bank add a --authority ./bank-a/certs/ca.crt --currency EUR --cap 10000",)
)
@NAME
@click.option("--authority", type=click.Path(path_type=Path), metavar="FILE", help="The bank's ca.crt.")
@click.option("--currency", required=True, help="In which it pays and is paid.")
@click.option("--cap", required=True, metavar="AMOUNT", help="What it may owe the others at most.")
def add_command(name: str, authority: Path | None, currency: str, cap: str) -> None:
    """Let a bank pay and be paid in a currency, at a gateway (administrator, with a second one's approval).

    The first time with the certificate of the bank's authority; a further currency needs none.
    """
    from fortress.client.money import parse

    call = current_call()
    most = parse(cap, currency.upper())
    if most.currency != currency.upper():
        raise Misuse(f"the cap is in {most.currency}, the position in {currency.upper()}", "name one currency")
    pem = read_authority(authority).encode() if authority is not None else b""

    async def add(me: Me) -> None:
        done = await me.switching.add_bank(name, most, authority=pem)
        show_done(call, done, f"Bank {name} may pay and be paid; it may owe {most}.")

    visit(call, add)


@bank_command.command("list", examples=("fortress bank list", "fortress bank list --json"))
def list_command() -> None:
    """List the banks that can be paid."""
    call = current_call()

    async def read(me: Me) -> None:
        banks = await me.switching.banks()
        show(call, [bank_json(view) for view in banks], banks_table(banks))

    visit(call, read)


@bank_command.command("show", examples=("fortress bank show b",))
@NAME
def show_command(name: str) -> None:
    """Show one bank; at a gateway with its positions (staff)."""
    call = current_call()

    async def read(me: Me) -> None:
        found = [view for view in await me.switching.banks() if view.bank == name]
        if not found:
            raise Refused(Status.bank_unknown, {"bank": name})
        positions = [each for each in await _positions(me) if each.bank == name]
        document: Json = {**bank_json(found[0]), "positions": [position_json(each) for each in positions]}
        tables = [positions_table(positions)] if positions else []
        show(call, document, bank_fields(found[0]), *tables)

    visit(call, read)


@bank_command.command("suspend", examples=("fortress bank suspend b",))
@NAME
@click.option("--yes", is_flag=True, help="Do not ask.")
def suspend_command(name: str, yes: bool) -> None:
    """Take no payments from or to a bank from now on, at a gateway (administrator)."""
    call = current_call()
    confirm(call, f"Refuse all payments from and to bank {name}?", yes=yes)

    async def suspend(me: Me) -> None:
        done = await me.switching.suspend_bank(name)
        show_done(call, done, f"Bank {name} is suspended; payments already decided are still carried out.")

    visit(call, suspend)


@bank_command.command("resume", examples=("fortress bank resume b",))
@NAME
def resume_command(name: str) -> None:
    """Take payments from and to a suspended bank again, at a gateway (administrator)."""
    call = current_call()

    async def resume(me: Me) -> None:
        show_done(call, await me.switching.suspend_bank(name, resume=True), f"Bank {name} may pay and be paid again.")

    visit(call, resume)


async def _positions(me: Me) -> Sequence[PositionView]:
    """Positions are told by a gateway to its staff; to others a bank is shown without."""
    try:
        return (await me.switching.positions()).positions
    except (UnknownOperation, NotAllowed):
        return ()


def bank_json(view: BankView) -> dict[str, Json]:
    """One bank for programs."""
    return {
        "bank": view.bank,
        "state": view.state,
        "connected": view.is_connected,
        "node": view.node or None,
        "epoch": view.epoch,
        "addresses": list(view.addresses),
        "since": time_json(view.since_us),
    }


def banks_table(banks: Sequence[BankView]) -> Table:
    """Banks for people, one a row."""
    rows = [
        (view.bank, view.state, _link(view), view.node, str(view.epoch or ""), time_text(view.since_us))
        for view in banks
    ]
    return Table(columns=("Bank", "State", "Link", "Node", ">Term", "Since"), rows=rows, empty="no banks yet")


def bank_fields(view: BankView) -> Fields:
    """One bank for people, in full."""
    pairs = [
        ("Bank", view.bank),
        ("State", view.state),
        ("Link", _link(view)),
        ("Node", view.node),
        ("Term", str(view.epoch or "")),
        ("Addresses", ", ".join(view.addresses)),
        ("Since", time_text(view.since_us)),
    ]
    return Fields(pairs=[pair for pair in pairs if pair[1]])


def _link(view: BankView) -> str:
    return "connected" if view.is_connected else "not connected"
