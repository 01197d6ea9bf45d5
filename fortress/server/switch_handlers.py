"""Answer a gateway's operators; at a bank these operations are not known."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fortress.errors import MessageInvalid
from fortress.protocol import switching as messages
from fortress.protocol.fields import Done
from fortress.server import approvals
from fortress.server.approvals import switch_of
from fortress.server.handlers import Handler, plain
from fortress.server.node import Node
from fortress.server.session import Session


async def handle_add_bank(node: Node, session: Session, request: messages.AddBank) -> Done:
    """Let a bank register, once a second administrator agrees."""
    switch_of(node)
    if request.authority:
        authority_of(request.authority)  # an approved act must not fail on this later
    answer: Done = await approvals.ask_or_act(node, session, "add_bank", request)
    return answer


async def handle_suspend_bank(node: Node, session: Session, request: messages.SuspendBank) -> Done:
    """Refuse a bank's payments from now on, or take them again."""
    return await switch_of(node).suspend_bank(node.bank.actor(session.customer, session.roles), request)


async def handle_positions(node: Node, session: Session, request: messages.ListPositions) -> messages.PositionsAnswer:
    """Tell where the banks stand with each other."""
    return await switch_of(node).positions()


async def handle_windows(node: Node, session: Session, request: messages.ListWindows) -> messages.WindowsAnswer:
    """List settlement windows."""
    return await switch_of(node).windows(request)


async def handle_window(node: Node, session: Session, request: messages.GetWindow) -> messages.WindowView:
    """Report a window and compare it with the banks' books."""
    return await switch_of(node).window(request)


async def handle_close_window(node: Node, session: Session, request: messages.CloseWindow) -> Done:
    """End the open settlement window."""
    return await switch_of(node).close_window(node.bank.actor(session.customer, session.roles), request)


def authority_of(pem: str) -> bytes:
    """Give the DER bytes of a bank's authority.

    Raises:
        MessageInvalid: it is not one certificate in PEM, or that of no authority.
    """
    try:
        (certificate,) = x509.load_pem_x509_certificates(pem.encode())
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound) as exc:
        raise MessageInvalid("the authority is not one certificate in PEM", {"field": "authority"}) from exc
    if not constraints.ca:
        raise MessageInvalid("this certificate is not an authority's; it is ca.crt", {"field": "authority"})
    return certificate.public_bytes(Encoding.DER)


SWITCH_HANDLERS: tuple[Handler, ...] = (
    plain("add_bank", handle_add_bank),
    plain("suspend_bank", handle_suspend_bank),
    plain("positions", handle_positions),
    plain("windows", handle_windows),
    plain("window", handle_window),
    plain("close_window", handle_close_window),
)
