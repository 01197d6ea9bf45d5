"""A bank's identity: the right bank passes, and each wrong certificate is refused for its own reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fortress.errors import LocalProtocolError, ServerNotTrusted
from fortress.protocol import identity

NOW = datetime(2030, 1, 1, tzinfo=UTC)
STATIC = bytes(range(32))

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
Pair = tuple[x509.Certificate, Key]


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def make(
    name: str,
    *,
    issuer: Pair | None = None,
    key: Key | None = None,
    ca: bool = False,
    path_length: int | None = None,
    bank: str | None = None,
    starts: timedelta = timedelta(days=-1),
    may_sign: bool | None = True,
    odd_extension: bool = False,
    usage: x509.ObjectIdentifier = identity.DOCUMENT_SIGNING,
) -> Pair:
    """Make a certificate, by itself or by an issuer."""
    key = key or new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuing_key = issuer[1] if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + starts)
        .not_valid_after(NOW + starts + timedelta(days=10))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    )
    if may_sign is not None:
        signs = ca and may_sign
        key_usage = x509.KeyUsage(True, False, False, False, False, signs, signs, False, False)
        builder = builder.add_extension(key_usage, critical=True)
    if bank is not None:
        names = [x509.DNSName("localhost"), x509.UniformResourceIdentifier(f"urn:fortress:bank:{bank}")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if odd_extension:
        odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
        builder = builder.add_extension(odd, critical=True)
    algorithm = None if isinstance(issuing_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(issuing_key, algorithm), key


ROOT = make("root", ca=True)
BANK = make("bank", issuer=ROOT, bank="a")


def payload_of(chain: list[Pair], *, bank: str = "a", static_public: bytes = STATIC) -> bytes:
    return identity.sign_identity(chain[0][1], [c.public_bytes(Encoding.DER) for c, _ in chain], bank, static_public)


def check(
    payload: bytes,
    *,
    bank: str = "a",
    static_public: bytes = STATIC,
    roots: list[Pair] | None = None,
    now: datetime = NOW,
    pin: bytes | None = None,
) -> x509.Certificate:
    return identity.verify_identity(
        payload,
        bank_id=bank,
        static_public=static_public,
        ca_certificates=[root for root, _ in ([ROOT] if roots is None else roots)],
        now=now,
        pinned_fingerprint=pin,
    )


def test_the_bytes_signed_name_purpose_bank_and_key() -> None:
    """Label, zero, bank id, zero, key."""
    assert identity.static_key_statement("a", b"KEY") == b"fortress noise static key v1\x00a\x00KEY"


def test_the_payload_is_the_chain_and_the_signature() -> None:
    """One flat msgpack array of byte strings, the signature last."""
    fields = msgspec.msgpack.decode(payload_of([BANK, ROOT]))
    assert fields[:2] == [BANK[0].public_bytes(Encoding.DER), ROOT[0].public_bytes(Encoding.DER)]
    assert len(fields) == 3


def test_the_right_bank_is_trusted() -> None:
    """A certificate of the CA, with or without the CA's own behind it."""
    assert check(payload_of([BANK])) == BANK[0]
    assert check(payload_of([BANK, ROOT])) == BANK[0]


def test_ed25519_certificates_work_too() -> None:
    """CA and bank may both use Ed25519."""
    root = make("root", ca=True, key=ed25519.Ed25519PrivateKey.generate())
    bank = make("bank", issuer=root, bank="a", key=ed25519.Ed25519PrivateKey.generate())
    assert check(payload_of([bank]), roots=[root]) == bank[0]


def test_an_intermediate_ca_may_stand_between() -> None:
    """Each certificate is issued by the next, the last by a root the client has."""
    middle = make("middle", issuer=ROOT, ca=True, path_length=0)
    bank = make("bank", issuer=middle, bank="a")
    assert check(payload_of([bank, middle])) == bank[0]
    with pytest.raises(ServerNotTrusted, match="does not come from the CA"):
        check(payload_of([bank]))


def test_a_renewed_ca_of_the_same_name_is_found_by_its_key() -> None:
    """Two roots of one name: the one that signed counts."""
    assert check(payload_of([BANK]), roots=[make("root", ca=True), make("other", ca=True), ROOT]) == BANK[0]


def test_another_ca_is_not_trusted() -> None:
    """A CA of the same name with another key made nothing here."""
    impostor = make("root", ca=True)
    bank = make("bank", issuer=impostor, bank="a")
    for chain in ([bank], [bank, impostor]):
        with pytest.raises(ServerNotTrusted, match="does not come from the CA"):
            check(payload_of(chain))
    with pytest.raises(ServerNotTrusted, match="does not come from the CA"):
        check(payload_of([BANK]), roots=[])


def test_another_bank_of_the_same_ca_is_not_this_bank() -> None:
    """The name decides: neither its own honest payload nor one that claims this bank's id passes."""
    other = make("bank", issuer=ROOT, bank="b")
    for bank in ("a", "b"):
        with pytest.raises(ServerNotTrusted, match="not for the bank 'a'"):
            check(payload_of([other], bank=bank))


def test_a_nodes_tls_certificate_cannot_stand_for_its_bank() -> None:
    """Whoever ends TLS holds a certificate that names the bank, and still cannot sign a sealed channel's key."""
    node = make("node", issuer=ROOT, bank="a", usage=ExtendedKeyUsageOID.SERVER_AUTH)
    with pytest.raises(ServerNotTrusted, match="may sign for the bank"):
        check(payload_of([node]))


def test_a_certificate_without_names_is_of_no_bank() -> None:
    """A certificate for something else of the same CA does not serve."""
    with pytest.raises(ServerNotTrusted, match="cannot be used"):
        check(payload_of([make("anything", issuer=ROOT)]))


def test_a_signature_is_for_one_key_and_one_bank() -> None:
    """The payload of one static key is refused with another; so is a signature about another bank."""
    with pytest.raises(ServerNotTrusted, match="signature"):
        check(payload_of([BANK]), static_public=bytes(32))
    with pytest.raises(ServerNotTrusted, match="signature"):
        check(payload_of([BANK], bank="b"))


def test_someone_elses_certificate_without_its_key_is_refused() -> None:
    """Showing the bank's certificate is not having its key, of either kind."""
    thief = identity.sign_identity(new_key(), [BANK[0].public_bytes(Encoding.DER)], "a", STATIC)
    with pytest.raises(ServerNotTrusted, match="signature"):
        check(thief)
    bank = make("bank", issuer=ROOT, bank="a", key=ed25519.Ed25519PrivateKey.generate())
    thief = identity.sign_identity(
        ed25519.Ed25519PrivateKey.generate(), [bank[0].public_bytes(Encoding.DER)], "a", STATIC
    )
    with pytest.raises(ServerNotTrusted, match="signature"):
        check(thief)


@pytest.mark.parametrize("days", [-2, 10])
def test_time_counts_for_every_certificate(days: int) -> None:
    """Not yet valid or expired: refused, with the dates."""
    with pytest.raises(ServerNotTrusted, match="expired or not valid yet") as caught:
        check(payload_of([BANK]), now=NOW + timedelta(days=days))
    assert set(caught.value.facts) == {"valid_from", "valid_to"}


def test_an_expired_root_carries_nothing() -> None:
    """The root's own dates count as well."""
    root = make("old", ca=True, starts=timedelta(days=-20))
    with pytest.raises(ServerNotTrusted, match="expired"):
        check(payload_of([make("bank", issuer=root, bank="a")]), roots=[root])


def test_what_was_proven_once_is_checked_again_where_it_may_change() -> None:
    """The same bytes: time, pin, bank, key and roots count each time."""
    payload = payload_of([BANK])
    check(payload)
    check(payload)
    changes: list[dict[str, Any]] = [
        {"now": NOW + timedelta(days=10)},
        {"pin": bytes(32)},
        {"bank": "b"},
        {"static_public": bytes(32)},
        {"roots": []},
    ]
    for change in changes:
        with pytest.raises(ServerNotTrusted):
            check(payload, **change)


def test_a_bank_may_not_issue_certificates() -> None:
    """A customer of the CA who signs a certificate for another bank convinces nobody."""
    forged = make("bank", issuer=BANK, bank="a")
    with pytest.raises(ServerNotTrusted, match="may not issue any"):
        check(payload_of([forged, BANK]))


def test_a_ca_key_must_be_for_signing_certificates() -> None:
    """A CA certificate whose key usage lacks that, or says nothing, is refused."""
    for may_sign, why in ((False, "may not sign certificates"), (None, "cannot be used")):
        root = make("root", ca=True, may_sign=may_sign)
        with pytest.raises(ServerNotTrusted, match=why):
            check(payload_of([make("bank", issuer=root, bank="a")]), roots=[root])


def test_a_chain_longer_than_its_ca_allows_is_refused() -> None:
    """A root for bank certificates only has no intermediate ones."""
    root = make("root", ca=True, path_length=0)
    middle = make("middle", issuer=root, ca=True)
    bank = make("bank", issuer=middle, bank="a")
    with pytest.raises(ServerNotTrusted, match="longer than its CA allows"):
        check(payload_of([bank, middle]), roots=[root])


def test_a_chain_in_the_wrong_order_is_refused() -> None:
    """Each certificate must have issued the one before it, by its key and not just its name."""
    middle, stranger = make("middle", issuer=ROOT, ca=True), make("middle", issuer=ROOT, ca=True)
    bank = make("bank", issuer=middle, bank="a")
    with pytest.raises(ServerNotTrusted, match="signature"):
        check(payload_of([bank, stranger]))
    with pytest.raises(ServerNotTrusted, match="cannot be used"):
        check(payload_of([bank, make("other", issuer=ROOT, ca=True)]))


def test_what_is_critical_and_not_understood_means_no() -> None:
    """RFC 5280 4.2: an unknown critical extension is a refusal."""
    with pytest.raises(ServerNotTrusted, match="1.3.6.1.4.1.99999.1"):
        check(payload_of([make("bank", issuer=ROOT, bank="a", odd_extension=True)]))


def test_the_ca_itself_is_no_bank() -> None:
    """A root that names a bank and is shown as the bank's certificate is refused."""
    root = make("root", ca=True, bank="a")
    with pytest.raises(ServerNotTrusted, match="CA's certificate as its own"):
        check(payload_of([root]), roots=[root])


def test_other_kinds_of_keys_are_refused() -> None:
    """P-256 and Ed25519 are what banks have."""
    bank = make("bank", issuer=ROOT, bank="a", key=ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(ServerNotTrusted, match="neither P-256 nor Ed25519"):
        check(payload_of([bank]))


def test_a_pin_holds_anywhere_on_the_way_up() -> None:
    """The fingerprint may be the bank's certificate's or the CA's; any other is refused."""
    for certificate in (BANK[0], ROOT[0]):
        assert check(payload_of([BANK]), pin=certificate.fingerprint(hashes.SHA256())) == BANK[0]
    with pytest.raises(ServerNotTrusted, match="pinned"):
        check(payload_of([BANK]), pin=bytes(32))


def test_the_signers_mistakes_are_named() -> None:
    """No certificate, too many, or too large ones are noticed when signing."""
    der = BANK[0].public_bytes(Encoding.DER)
    with pytest.raises(LocalProtocolError, match="1 to 4"):
        identity.sign_identity(BANK[1], [], "a", STATIC)
    with pytest.raises(LocalProtocolError, match="1 to 4"):
        identity.sign_identity(BANK[1], [der] * 5, "a", STATIC)
    with pytest.raises(LocalProtocolError, match="over 16384"):
        identity.sign_identity(BANK[1], [bytes(20_000)], "a", STATIC)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "malformed"),
        (b"\x90", "malformed"),
        (b"\x91\xa1a", "malformed"),
        (b"\xdd\xff\xff\xff\xff", "malformed"),
        (b"\xc1", "malformed"),
        (msgspec.msgpack.encode([b"signature"]), "0 certificates"),
        (msgspec.msgpack.encode([b""] * 6), "5 certificates"),
        (msgspec.msgpack.encode([b"no certificate", b"signature"]), "malformed"),
        (bytes(20_000), "too large"),
    ],
)
def test_a_malformed_payload_is_refused(payload: bytes, why: str) -> None:
    """Whatever arrives instead of an identity, the answer is that the server is not trusted."""
    with pytest.raises(ServerNotTrusted, match=why):
        check(payload)


def test_every_byte_of_a_payload_counts() -> None:
    """Change one byte anywhere: refused, or, in ECDSA's own slack, still this bank's certificate."""
    bank = make("bank", issuer=ROOT, bank="a", key=ed25519.Ed25519PrivateKey.generate())
    payload = payload_of([bank])
    for at in range(0, len(payload), 3):
        with pytest.raises(ServerNotTrusted):
            check(payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=100), max_size=6).map(msgspec.msgpack.encode) | st.binary(max_size=100))
def test_arbitrary_payloads_are_refused(payload: bytes) -> None:
    """Nothing but ServerNotTrusted ever comes out."""
    with pytest.raises(ServerNotTrusted):
        check(payload)
