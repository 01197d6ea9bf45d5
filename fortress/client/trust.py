"""Whom a client trusts: the authority's certificates, and a pinned fingerprint if there is one.

Trust is checked twice. TLS checks that the node's certificate comes from the authority; it does not check the host's
name, since nodes move and failovers change addresses. Which bank it is, is proven inside, in the handshake of the
sealed channel, by a certificate for the bank's id; that proof also holds when TLS ends on the way, at a gateway or a
load balancer. Then whoever answers at the address may show a certificate of another authority, the path's.
"""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fortress.errors import UsageError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

FINGERPRINT_SIZE_BYTES = 32


class Trust:
    """What makes a server trusted; one object serves any number of connections.

    Args:
        ca: the authority's certificates in PEM, or the path of a file with them.
        fingerprint: SHA-256 of a certificate that must be on the way from the bank's up to the authority's, in
            hexadecimal with or without colons; empty for none.
        path_ca: likewise the certificates of the authority of who answers at the address, if that is not the bank.

    Attributes:
        has_path: whether somebody else answers at the address. Then only the addresses given lead to the bank.
        tls: the TLS context of all connections: TLS 1.3 only, a chain to the path's authority required.

    Raises:
        UsageError: a file cannot be read, holds no certificate, or the fingerprint is none.
    """

    def __init__(
        self, ca: bytes | str | Path, fingerprint: str = "", *, path_ca: bytes | str | Path | None = None
    ) -> None:
        self._pem = ca if isinstance(ca, bytes) else _read(Path(ca))
        self._fingerprint = _fingerprint_bytes(fingerprint)
        self.has_path = path_ca is not None
        path = self._pem if path_ca is None else path_ca
        self.tls = _context(path if isinstance(path, bytes) else _read(Path(path)))

    def verify(self, bank: str, payload: bytes, static_public: bytes) -> None:
        """Check that the sealed channel's static key belongs to the bank.

        Raises:
            ServerNotTrusted: it does not, or that is not proven; nothing may be said on this channel.
        """
        from fortress.protocol.identity import verify_identity  # x509 is needed only once there is a connection

        verify_identity(
            payload,
            bank_id=bank,
            static_public=static_public,
            ca_certificates=self._certificates,
            now=datetime.now(UTC),
            pinned_fingerprint=self._fingerprint,
        )

    @cached_property
    def _certificates(self) -> list[Certificate]:
        from cryptography.x509 import load_pem_x509_certificates

        return load_pem_x509_certificates(self._pem)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise UsageError(f"the CA file {str(path)!r} cannot be read: {exc.strerror}", {"file": str(path)}) from exc


def _context(pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as exc:
        raise UsageError("the CA file holds no certificate in PEM") from exc
    return context


def _fingerprint_bytes(text: str) -> bytes | None:
    plain = text.replace(":", "").strip()
    if not plain:
        return None
    if not re.fullmatch(rf"[0-9A-Fa-f]{{{2 * FINGERPRINT_SIZE_BYTES}}}", plain):
        raise UsageError("a fingerprint is the SHA-256 of a certificate: 64 hexadecimal digits")
    return bytes.fromhex(plain)
