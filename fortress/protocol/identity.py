"""Whose static key this is: a bank's certificate signs the key of its sealed channel, and clients check both.

The payload of the handshake's second message is a msgpack array: the certificates as DER, the bank's own first, each
issued by the next, and last the signature of `static_key_statement` by the key of the bank's own certificate.

The chain is walked by hand and not by `cryptography.x509.verification`, because that follows the rules of the web (no
Ed25519 keys, a DNS name wanted); what is asked of each certificate is in `_check_certificate` and `_check_issuer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtensionOID

from fortress.errors import LocalProtocolError, ServerNotTrusted

STATEMENT_LABEL: Final = b"fortress noise static key v1"
BANK_URI_PREFIX: Final = "urn:fortress:bank:"
PAYLOAD_SIZE_BYTES_MAX: Final = 16 * 1024
CHAIN_LENGTH_MAX: Final = 4
PROVEN_MAX: Final = 16
"""How many identities are remembered as proven."""
DOCUMENT_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
"""The usage that a bank's certificate must carry (RFC 9336)."""

_UNDERSTOOD: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
# What parsing a hostile certificate raises, now or when a part of it is first looked at; msgspec's are ValueErrors too.
_UNUSABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode

PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey


def bank_uri(bank_id: str) -> str:
    """Name a bank as its certificate does, in the subject alternative name."""
    return BANK_URI_PREFIX + bank_id


def static_key_statement(bank_id: str, static_public: bytes) -> bytes:
    """Give the bytes that a bank signs about the static key of its sealed channel."""
    return b"\0".join((STATEMENT_LABEL, bank_id.encode(), static_public))


def sign_identity(private_key: PrivateKey, chain_der: list[bytes], bank_id: str, static_public: bytes) -> bytes:
    """Make the handshake payload that `verify_identity` accepts; once per certificate, not once per connection.

    Args:
        private_key: P-256 or Ed25519, of the first certificate.
        chain_der: the bank's certificate first, then its issuers; the CA's own may be left out.
        bank_id: as in the certificate's name.
        static_public: the 32 public bytes of the static key.

    Raises:
        LocalProtocolError: the chain is empty, too long or too large.
    """
    if not 0 < len(chain_der) <= CHAIN_LENGTH_MAX:
        raise LocalProtocolError(f"a chain has 1 to {CHAIN_LENGTH_MAX} certificates, not {len(chain_der)}")
    statement = static_key_statement(bank_id, static_public)
    if isinstance(private_key, Ed25519PrivateKey):
        signature = private_key.sign(statement)
    else:
        signature = private_key.sign(statement, ECDSA(SHA256()))
    payload = _encode([*chain_der, signature])
    if len(payload) > PAYLOAD_SIZE_BYTES_MAX:
        raise LocalProtocolError(f"the chain makes {len(payload)} bytes, over {PAYLOAD_SIZE_BYTES_MAX}")
    return payload


def verify_identity(
    payload: bytes,
    *,
    bank_id: str,
    static_public: bytes,
    ca_certificates: Sequence[x509.Certificate],
    now: datetime,
    pinned_fingerprint: bytes | None = None,
) -> x509.Certificate:
    """Check that the static key is that of the bank asked for, and give the bank's certificate.

    Args:
        payload: from the handshake.
        bank_id: the bank asked for.
        static_public: the static key that the handshake showed.
        ca_certificates: the roots the client trusts.
        now: with a time zone.
        pinned_fingerprint: SHA-256 of a certificate (DER) that must be on the way from the bank's up to the CA's.

    Raises:
        ServerNotTrusted: any of it does not hold; the sealed channel must not be used.
    """
    path, valid_from, valid_to = _proven_path(payload, bank_id, static_public, tuple(ca_certificates))
    if not valid_from <= now <= valid_to:
        raise ServerNotTrusted(
            "a certificate is expired or not valid yet",
            {"valid_from": valid_from.isoformat(), "valid_to": valid_to.isoformat()},
        )
    if pinned_fingerprint is not None:
        _check_pin(path, pinned_fingerprint)
    return path[0]


@lru_cache(maxsize=PROVEN_MAX)
def _proven_path(
    payload: bytes, bank_id: str, static_public: bytes, ca_certificates: tuple[x509.Certificate, ...]
) -> tuple[list[x509.Certificate], datetime, datetime]:
    """Check all that no clock changes; give the way from the bank's certificate up to a root, and when all of it holds.

    A program that connects again and again to a bank is shown the same bytes again and again: four signatures need not
    be checked each time, which costs as much as half of the sealed handshake.
    """
    chain, signature = _decode_payload(payload)
    try:
        path = _walk(chain, ca_certificates)
        leaf = path[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if bank_uri(bank_id) not in names.get_values_for_type(x509.UniformResourceIdentifier):
            raise ServerNotTrusted(f"the certificate is not for the bank {bank_id!r}")
        if DOCUMENT_SIGNING not in leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value:
            # A node's TLS certificate names the bank too; whoever ends TLS must not pass for the bank itself.
            raise ServerNotTrusted("the certificate is not one that may sign for the bank")
        _check_signature(leaf, signature, static_key_statement(bank_id, static_public))
        valid_from = max(certificate.not_valid_before_utc for certificate in path)
        valid_to = min(certificate.not_valid_after_utc for certificate in path)
    except InvalidSignature as exc:
        raise ServerNotTrusted("a signature of the server's identity is wrong") from exc
    except _UNUSABLE as exc:
        raise ServerNotTrusted("the server's certificates cannot be used") from exc
    return path, valid_from, valid_to


def _decode_payload(payload: bytes) -> tuple[list[x509.Certificate], bytes]:
    if len(payload) > PAYLOAD_SIZE_BYTES_MAX:
        raise ServerNotTrusted("the server's identity is too large")
    try:
        *chain_der, signature = _decode(payload)
        if not 0 < len(chain_der) <= CHAIN_LENGTH_MAX:
            raise ServerNotTrusted(f"the server shows {len(chain_der)} certificates, not 1 to {CHAIN_LENGTH_MAX}")
        return [x509.load_der_x509_certificate(der) for der in chain_der], signature
    except _UNUSABLE as exc:
        raise ServerNotTrusted("the server's identity is malformed") from exc


def _walk(chain: list[x509.Certificate], ca_certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Follow the chain from the bank's certificate up to a trusted root; give the way, root included."""
    path: list[x509.Certificate] = []
    for certificate in chain:
        if path:
            _check_issuer(path[-1], certificate, depth=len(path) - 1)
        elif certificate in ca_certificates:
            raise ServerNotTrusted("the server shows the CA's certificate as its own")
        _check_extensions(certificate)
        path.append(certificate)
        root = _find_root(certificate, ca_certificates)
        if root is not None:
            _check_issuer(certificate, root, depth=len(path) - 1)
            _check_extensions(root)
            return [*path, root]
    raise ServerNotTrusted("the server's certificate does not come from the CA that this client trusts")


def _find_root(certificate: x509.Certificate, ca_certificates: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """Find the root that issued this; by signature too, for a renewed CA keeps its name and changes its key."""
    for root in ca_certificates:
        with suppress(InvalidSignature, ValueError, TypeError):
            certificate.verify_directly_issued_by(root)
            return root
    return None


def _check_extensions(certificate: x509.Certificate) -> None:
    for extension in certificate.extensions:
        # RFC 5280 4.2: what is critical and not understood means no.
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise ServerNotTrusted(f"a certificate insists on an unknown extension, {extension.oid.dotted_string}")


def _check_issuer(certificate: x509.Certificate, issuer: x509.Certificate, *, depth: int) -> None:
    """Whether `issuer` made `certificate` and was allowed to; `depth` counts the issuing certificates below it."""
    constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    if not constraints.ca:
        raise ServerNotTrusted("a certificate was issued by one that may not issue any")
    if constraints.path_length is not None and depth > constraints.path_length:
        raise ServerNotTrusted("the chain of certificates is longer than its CA allows")
    if not issuer.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
        raise ServerNotTrusted("a certificate was issued by a key that may not sign certificates")
    certificate.verify_directly_issued_by(issuer)


def _check_pin(path: list[x509.Certificate], pinned_fingerprint: bytes) -> None:
    if pinned_fingerprint not in [certificate.fingerprint(SHA256()) for certificate in path]:
        raise ServerNotTrusted("no certificate of the server has the pinned fingerprint")


def _check_signature(leaf: x509.Certificate, signature: bytes, statement: bytes) -> None:
    key = leaf.public_key()
    if isinstance(key, Ed25519PublicKey):
        key.verify(signature, statement)
    elif isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        key.verify(signature, statement, ECDSA(SHA256()))
    else:
        raise ServerNotTrusted("the server's certificate has a key that is neither P-256 nor Ed25519")
