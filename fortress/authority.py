"""A small certificate authority in a folder: makes, renews and shows the certificates of a bank's nodes.

The folder holds pairs ``NAME.crt`` and ``NAME.key``; the authority's own is called ``ca``. Keys are P-256, unencrypted
PKCS 8 of mode 0600. Three kinds of certificates (RFC 5280) that cannot stand in for each other:

- the authority: may sign certificates of nodes and banks, no further authorities;
- a node's, for TLS: server and client authentication, names and addresses of the machine and the bank it serves;
- a bank's: its key signs the static key of the sealed channel (RFC 9336 document signing), and TLS refuses it, so
  whoever ends TLS with a node's key cannot speak as the bank inside.

Files are replaced whole: both written beside and synced, then both renamed. A crash between the two renames leaves a
key that does not fit; renewing again mends it.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from fortress.errors import CertificateUnusable, FolderExists, UsageError

AUTHORITY_NAME = "ca"
AUTHORITY_VALID_DAYS = 3652
LEAF_VALID_DAYS = 365
BACKDATED_S = 300
"""How far the start lies back, for machines whose clocks are a little behind."""

BANK_URI_PREFIX = "urn:fortress:bank:"
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
KEY_MODE = 0o600
CERTIFICATE_MODE = 0o644
DOCUMENT_SIGNING = ObjectIdentifier("1.3.6.1.5.5.7.3.36")

Key = ec.EllipticCurvePrivateKey


class Kind(Enum):
    """What a certificate is for."""

    authority = "authority"
    node = "node"
    bank = "bank"


USAGES: dict[Kind, list[ObjectIdentifier]] = {
    Kind.node: [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    Kind.bank: [DOCUMENT_SIGNING],
}


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says, for people and programs.

    Attributes:
        name: of the files, without suffix.
        kind: what it is for.
        subject: who it is for, as one line.
        issuer: who signed it, as one line.
        bank: id of the bank it speaks for; empty for an authority.
        hosts: DNS names, then IP addresses.
        serial: in hexadecimal.
        valid_from: start, UTC.
        valid_to: end, UTC.
        fingerprint: SHA-256 of the DER bytes in hexadecimal, as clients pin it.
        key_fits: whether the key beside it is its key; False also when that is missing or unreadable.
    """

    name: str
    kind: Kind
    subject: str
    issuer: str
    bank: str
    hosts: tuple[str, ...]
    serial: str
    valid_from: datetime
    valid_to: datetime
    fingerprint: str
    key_fits: bool


# --- what the command line calls ------------------------------------------------------------------------------------


def make_authority(folder: Path, title: str, *, now: datetime | None = None) -> CertificateFacts:
    """Make a new authority in a folder, which is made if needed.

    Args:
        title: the name people will see, such as the bank's id.
        now: present time with time zone; the clock's if not given.

    Raises:
        FolderExists: there is an authority already; it is never overwritten.
    """
    if _certificate_path(folder, AUTHORITY_NAME).exists() or _key_path(folder, AUTHORITY_NAME).exists():
        raise FolderExists(f"{str(folder)!r} already holds an authority", {"folder": str(folder)})
    key = ec.generate_private_key(ec.SECP256R1())
    # a random part tells two authorities of one title apart
    subject = _subject(f"{title} authority {secrets.token_hex(4)}")
    return _write_authority(folder, subject, key, now)


def issue(
    folder: Path,
    kind: Kind,
    *,
    bank: str,
    name: str = "",
    hosts: Sequence[str] = LOCAL_HOSTS,
    authority_folder: Path | None = None,
    now: datetime | None = None,
) -> CertificateFacts:
    """Make a key and a certificate for a node or a bank, signed by the folder's authority.

    Args:
        folder: where the two files go.
        kind: node or bank.
        bank: id of the bank that it speaks for.
        name: of the two files, without suffix; the kind if not given.
        hosts: DNS names and IP addresses of a node; a bank's certificate has none.
        authority_folder: holds the authority that signs; the same folder if not given.
        now: present time with time zone; the clock's if not given.

    Raises:
        CertificateUnusable: the authority is missing, unreadable, expired or its key does not fit.
        UsageError: a host is no name or address, a name is taken, or the kind is the authority's.
    """
    name = name or kind.value
    if kind is Kind.authority or name == AUTHORITY_NAME:
        raise UsageError("an authority issues only certificates of nodes and banks")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UsageError(f"{name!r} is not a name of a file")
    if _certificate_path(folder, name).exists() or _key_path(folder, name).exists():
        raise UsageError(f"there is a certificate {name!r} already; renew it instead", {"name": name})
    named = hosts if kind is Kind.node else ()
    return _issue(folder, kind, bank=bank, name=name, hosts=named, signer=authority_folder or folder, now=now)


def renew(
    folder: Path,
    name: str,
    *,
    more_hosts: Sequence[str] = (),
    authority_folder: Path | None = None,
    now: datetime | None = None,
) -> CertificateFacts:
    """Replace a certificate by one for the same names that is valid from now.

    Nodes and banks get a new key. The authority keeps its own, so all that it signed stays trusted.

    Args:
        more_hosts: further names and addresses that the new one shall hold.
        authority_folder: holds the authority that signs; the same folder if not given.
        now: present time with time zone; the clock's if not given.

    Raises:
        CertificateUnusable: the certificate or the authority cannot be used.
    """
    old = load_certificate(_certificate_path(folder, name))
    kind = _kind(old)
    if kind is Kind.authority:
        return _write_authority(folder, old.subject, _load_key(folder, name, old), now)
    hosts = tuple(dict.fromkeys((*_hosts(old), *more_hosts)))
    return _issue(folder, kind, bank=_bank(old), name=name, hosts=hosts, signer=authority_folder or folder, now=now)


def adopt(folder: Path, source: Path, name: str, *, with_key: bool) -> CertificateFacts:
    """Copy a certificate from one folder into another, with its key where the other may speak for it too.

    Raises:
        CertificateUnusable: it, or its key, is missing or unreadable, or cannot be written.
    """
    certificate = load_certificate(_certificate_path(source, name))
    _write_pair(folder, name, certificate, _load_key(source, name, certificate) if with_key else None)
    return _facts(folder, name, certificate)


def show(folder: Path) -> tuple[CertificateFacts, ...]:
    """Tell about every certificate of a folder, the authority first.

    Raises:
        CertificateUnusable: one of them cannot be read.
    """
    names = sorted((path.stem for path in folder.glob("*.crt")), key=lambda name: (name != AUTHORITY_NAME, name))
    return tuple(_facts(folder, name, load_certificate(_certificate_path(folder, name))) for name in names)


def load_certificate(path: Path) -> x509.Certificate:
    """Read a certificate in PEM.

    Raises:
        CertificateUnusable: it is missing, unreadable or no certificate.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as exc:
        raise CertificateUnusable(f"{str(path)!r} cannot be read: {exc.strerror}", {"file": str(path)}) from exc
    except ValueError as exc:
        raise CertificateUnusable(f"{str(path)!r} is not a certificate in PEM", {"file": str(path)}) from exc


# --- making ---------------------------------------------------------------------------------------------------------


def _issue(
    folder: Path, kind: Kind, *, bank: str, name: str, hosts: Sequence[str], signer: Path, now: datetime | None
) -> CertificateFacts:
    authority = load_certificate(_certificate_path(signer, AUTHORITY_NAME))
    authority_key = _load_key(signer, AUTHORITY_NAME, authority)
    start, end = _validity(now, LEAF_VALID_DAYS)
    if authority.not_valid_after_utc <= start + timedelta(seconds=BACKDATED_S):
        raise CertificateUnusable("the authority has expired; renew it first", {"name": AUTHORITY_NAME})
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_subject(f"{bank} {name}"), key, start, min(end, authority.not_valid_after_utc))
        .issuer_name(authority.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(USAGES[kind]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_alternative_names(bank, hosts)), critical=False)
        .add_extension(_authority_key_identifier(authority), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    _write_pair(folder, name, certificate, key)
    return _facts(folder, name, certificate)


def _write_authority(folder: Path, subject: x509.Name, key: Key, now: datetime | None) -> CertificateFacts:
    certificate = (
        _builder(subject, key, *_validity(now, AUTHORITY_VALID_DAYS))
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_pair(folder, AUTHORITY_NAME, certificate, key)
    return _facts(folder, AUTHORITY_NAME, certificate)


def _builder(subject: x509.Name, key: Key, start: datetime, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _validity(now: datetime | None, days: int) -> tuple[datetime, datetime]:
    # certificates count whole seconds
    moment = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    return moment - timedelta(seconds=BACKDATED_S), moment + timedelta(days=days)


def _subject(common_name: str) -> x509.Name:
    # RFC 5280 appendix A: a common name has at most 64 characters; who is meant stands in the alternative names
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Fortress"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]),
        ]
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _alternative_names(bank: str, hosts: Sequence[str]) -> list[x509.GeneralName]:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", bank):
        raise UsageError(f"{bank!r} is not a bank's id: lower case letters, digits and hyphens", {"bank": bank})
    return [*(_host_name(host) for host in hosts), x509.UniformResourceIdentifier(BANK_URI_PREFIX + bank)]


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError as exc:
        label = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
        if len(host) > 253 or not re.fullmatch(rf"(\*\.)?{label}(\.{label})*", host):
            raise UsageError(f"{host!r} is neither a DNS name nor an IP address", {"host": host}) from exc
        return x509.DNSName(host)


# --- reading --------------------------------------------------------------------------------------------------------


def _facts(folder: Path, name: str, certificate: x509.Certificate) -> CertificateFacts:
    try:
        _load_key(folder, name, certificate)
        key_fits = True
    except CertificateUnusable:
        key_fits = False
    return CertificateFacts(
        name=name,
        kind=_kind(certificate),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        bank=_bank(certificate),
        hosts=_hosts(certificate),
        serial=f"{certificate.serial_number:x}",
        valid_from=certificate.not_valid_before_utc,
        valid_to=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        key_fits=key_fits,
    )


def _kind(certificate: x509.Certificate) -> Kind:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return Kind.authority
    return Kind.bank if DOCUMENT_SIGNING in usages else Kind.node


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])


def _bank(certificate: x509.Certificate) -> str:
    uris = _names(certificate).get_values_for_type(x509.UniformResourceIdentifier)
    return next((uri.removeprefix(BANK_URI_PREFIX) for uri in uris if uri.startswith(BANK_URI_PREFIX)), "")


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    names = _names(certificate)
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _load_key(folder: Path, name: str, certificate: x509.Certificate) -> Key:
    path = _key_path(folder, name)
    try:
        if path.stat().st_mode & 0o077:
            raise CertificateUnusable(f"{str(path)!r} can be read by others; set its mode to 0600", {"file": str(path)})
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as exc:
        raise CertificateUnusable(f"{str(path)!r} cannot be read: {exc.strerror}", {"file": str(path)}) from exc
    except (ValueError, TypeError) as exc:
        raise CertificateUnusable(f"{str(path)!r} is not a private key in PEM", {"file": str(path)}) from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CertificateUnusable(f"{str(path)!r} is not the key of its certificate", {"file": str(path)})
    return key


# --- files ----------------------------------------------------------------------------------------------------------


def _certificate_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.crt"


def _key_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.key"


def _write_pair(folder: Path, name: str, certificate: x509.Certificate, key: Key | None) -> None:
    wanted: dict[Path, tuple[bytes, int]] = {}
    if key is not None:
        plain = serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        wanted[_key_path(folder, name)] = (pem, KEY_MODE)
    public = certificate.public_bytes(serialization.Encoding.PEM)
    wanted[_certificate_path(folder, name)] = (public, CERTIFICATE_MODE)
    # the random part keeps two writers apart
    mark = secrets.token_hex(4)
    staged = {path: path.with_name(f".{path.name}.{mark}") for path in wanted}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, (content, mode) in wanted.items():
            _write_file(staged[path], content, mode)
        for path, beside in staged.items():
            beside.replace(path)
        _sync_folder(folder)
    except OSError as exc:
        for beside in staged.values():
            with suppress(OSError):
                beside.unlink()
        raise CertificateUnusable(f"{name!r} cannot be written: {exc.strerror}", {"folder": str(folder)}) from exc


def _write_file(path: Path, content: bytes, mode: int) -> None:
    # the mode is right from the first byte
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_development_certificates(folder: Path, bank: str = "bank") -> tuple[CertificateFacts, ...]:
    """Fill a folder with an authority, a node's and a bank's certificate; those already there are renewed."""
    if not _certificate_path(folder, AUTHORITY_NAME).exists():
        make_authority(folder, bank)
    for kind in (Kind.node, Kind.bank):
        if _certificate_path(folder, kind.value).exists():
            renew(folder, kind.value)
        else:
            issue(folder, kind, bank=bank)
    return show(folder)


if __name__ == "__main__":
    for facts in make_development_certificates(Path(sys.argv[1])):
        print(f"{facts.name}.crt  {facts.kind.value}  valid to {facts.valid_to:%Y-%m-%d}  {facts.fingerprint}")
