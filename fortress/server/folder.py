"""A node's folder: settings, certificates, keys and the lock that keeps a second server out.

`create` writes the settings file last, so a folder with keys and no settings is one whose making was interrupted;
nothing was ever stored in it.

    fortress.toml      settings
    certs/             the authority, the node's and the bank's certificate, each with its key
    keys/node.key      the key-encryption key (or it comes from elsewhere; see `fortress.ledger.keyring`)
    keyring            the node's secrets, sealed under that key
    lock               held by the process that serves the folder, and names it
"""

from __future__ import annotations

import fcntl
import os
import secrets
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from fortress import config
from fortress.config import Settings, TlsSettings
from fortress.errors import CertificateUnusable, FolderExists, FolderInUse, FolderMissing
from fortress.ledger.keyring import Keyring, create_kek, read_kek
from fortress.protocol.channel import static_public_key
from fortress.protocol.identity import sign_identity

KEYRING_NAME: Final = "keyring"
LOCK_NAME: Final = "lock"
BANK_NAME: Final = "bank"
"""Name of the bank's certificate and key, beside the node's."""
FOLDER_MODE: Final = 0o700


class Folder:
    """A folder that this process serves; made by `open_folder`, and locked until `close`.

    Attributes:
        settings: as read; a reload replaces them.
        keyring: the node's secrets.
        tls: server side of TLS, 1.3 only.
        identity_payload: what proves the sealed channel's static key to clients.
    """

    def __init__(self, settings: Settings, flags: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self.settings = settings
        self._flags = dict(flags)
        self._environment = dict(environment)
        self._lock = _lock(settings)
        with ExitStack() as on_fault:
            on_fault.callback(self.close)
            keys = settings.keys
            key_file = settings.path(keys.key_file)
            kek = read_kek(key_file=key_file, key_command=keys.key_command, environment=environment)
            self.keyring = Keyring.open(data_folder(settings) / KEYRING_NAME, kek)
            self.tls = _tls_context()
            self.identity_payload = b""
            self.load_certificates()
            on_fault.pop_all()

    def load_certificates(self) -> None:
        """Read the certificates again; new handshakes use them, connections that stand are not touched.

        Raises:
            CertificateUnusable: one is missing, unreadable, or not that of its key; the old ones stay in use.
        """
        identity_payload = _identity(self.settings, static_public_key(self.keyring.noise_private))
        _load_chain(_tls_context(), self.settings)  # a context that failed half-way must not be the one in use
        _load_chain(self.tls, self.settings)
        self.identity_payload = identity_payload

    def reload_settings(self) -> tuple[str, ...]:
        """Read the settings again and take over those that may change; give the keys whose change waits for a restart.

        Raises:
            SettingUnknown, SettingInvalid: the file is not right; nothing was changed.
        """
        fresh = config.load(self.settings.folder, self._flags, self._environment)
        self.settings, waiting = config.reloaded(self.settings, fresh)
        return waiting

    def close(self) -> None:
        """Let another process serve the folder; may be repeated."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def create(
    folder: Path,
    *,
    bank: str,
    node: str,
    make_certificates: Callable[[Path], object],
    settings: Mapping[str, str | int],
    make_keyring: Callable[[Path, bytes], object] | None = Keyring.create,
) -> Settings:
    """Make the folder of a new node: certificates, keys, settings. Whoever calls opens an empty ledger in it next.

    Args:
        folder: must not exist or be empty.
        bank: the bank's id.
        node: the node's name.
        make_certificates: puts ``node`` and ``bank`` certificates with their keys, and ``ca``, into the folder given.
        settings: further ones by dotted key, written into the file.
        make_keyring: writes the node's secrets to the path given, sealed under the key given; None: it needs none.

    Raises:
        FolderExists: it, or its data folder, holds something already; nothing was changed.
        SettingUnknown, SettingInvalid: a setting is not one; nothing was changed.
    """
    values = {**settings, "node.bank": bank, "node.name": node}
    text = config.settings_file(values)

    def place(key: str) -> Path:
        return folder / str(values.get(key, config.line_of(key).default))

    data = place("node.data_folder")
    require_empty(folder)
    if (data / KEYRING_NAME).exists():
        raise FolderExists(f"{str(data)!r} already holds a bank's data", {"folder": str(data)})
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    if make_keyring is not None:
        data.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        keys = place("keys.key_file")
        keys.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        make_keyring(data / KEYRING_NAME, create_kek(keys))
    make_certificates(place("tls.certificate").parent)
    replace_file(folder / config.FILE_NAME, text)
    return config.load(folder, {}, {})


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Keep servers out of a folder while something in it is exchanged.

    Raises:
        FolderInUse: a process serves it.
        FolderMissing: its data folder is not there.
    """
    descriptor = _lock(settings)
    try:
        yield
    finally:
        os.close(descriptor)


def served_by(settings: Settings) -> str:
    """Give the id of the process that serves a folder; empty if none does."""
    try:
        with locked(settings):
            return ""
    except FolderInUse as error:
        return str(error.facts["pid"] or "unknown")
    except FolderMissing:
        return ""


def open_folder(folder: Path, flags: Mapping[str, str], environment: Mapping[str, str]) -> Folder:
    """Read a folder and lock it for this process.

    Args:
        folder: made by `create`.
        flags: settings from the command line, by dotted key.
        environment: the process's variables.

    Raises:
        FolderMissing: there is none, or its making was interrupted.
        FolderInUse: another process serves it.
        KeyUnusable: a key file is missing, too open or the wrong one.
        CertificateUnusable: a certificate cannot be used.
        SettingUnknown, SettingInvalid: as `fortress.config.load`.
    """
    if not (folder / config.FILE_NAME).exists() and _is_unfinished(folder):
        raise FolderMissing(
            f"the making of {str(folder)!r} was interrupted; nothing was stored in it: delete it and make it anew",
            {"folder": str(folder)},
        )
    return Folder(config.load(folder, flags, environment), flags, environment)


def replace_file(path: Path, text: str) -> None:
    """Write a text file whole: after a crash it is the old one or the new one; durable when this returns."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(beside, "x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def data_folder(settings: Settings) -> Path:
    """Give where keyring, journal and tables lie."""
    return settings.path(settings.node.data_folder)


def _is_unfinished(folder: Path) -> bool:
    return (folder / KEYRING_NAME).exists() or (folder / "keys").exists()


def require_empty(folder: Path) -> None:
    """Check that a node's folder can be made here.

    Raises:
        FolderExists: it holds something.
    """
    facts: dict[str, int | str | bool | None] = {"folder": str(folder)}
    if (folder / config.FILE_NAME).exists():
        raise FolderExists(f"{str(folder)!r} already holds a bank", facts)
    if folder.exists() and _is_unfinished(folder):
        raise FolderExists(
            f"the making of {str(folder)!r} was interrupted; nothing was stored in it: delete it and try again", facts
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderExists(f"{str(folder)!r} is not an empty folder", facts)


def _lock(settings: Settings) -> int:
    path = data_folder(settings) / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise FolderMissing(f"{str(path)!r} cannot be opened: {exc.strerror}", {"file": str(path)}) from exc
    try:
        # the lock goes with the process, however it ends; a file left over means nothing
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except BlockingIOError as exc:
        pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise FolderInUse(f"process {pid or 'unknown'} serves {str(settings.folder)!r}", {"pid": pid}) from exc
    return descriptor


def _tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # tickets would cost each new connection two more records, and clients keep their connections
    context.num_tickets = 0
    return context


def _load_chain(context: ssl.SSLContext, settings: Settings) -> None:
    tls: TlsSettings = settings.tls
    certificate, key = settings.path(tls.certificate), settings.path(tls.key)
    _require_private(key)
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except ssl.SSLError as exc:
        message = f"{str(certificate)!r} and {str(key)!r} are not a certificate and its key"
        raise CertificateUnusable(message, {"file": str(certificate)}) from exc
    except OSError as exc:
        raise CertificateUnusable(f"{str(certificate)!r} cannot be read: {exc.strerror}") from exc


def _refuse_password() -> str:
    return ""  # OpenSSL would ask the terminal


def _identity(settings: Settings, static_public: bytes) -> bytes:
    path = settings.path(settings.tls.certificate).with_name(f"{BANK_NAME}.crt")
    key_path = path.with_suffix(".key")
    _require_private(key_path)
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        key = load_pem_private_key(key_path.read_bytes(), None)
    except OSError as exc:
        raise CertificateUnusable(f"{str(path)!r} cannot be read: {exc.strerror}", {"file": str(path)}) from exc
    except (ValueError, TypeError) as exc:
        raise CertificateUnusable(f"{str(path)!r} or its key is not in PEM", {"file": str(path)}) from exc
    if not isinstance(key, EllipticCurvePrivateKey | Ed25519PrivateKey) or key.public_key() != certificate.public_key():
        raise CertificateUnusable(f"{str(key_path)!r} is not the key of its certificate", {"file": str(key_path)})
    return sign_identity(key, [certificate.public_bytes(Encoding.DER)], settings.node.bank, static_public)


def _require_private(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise CertificateUnusable(f"{str(path)!r} cannot be read: {exc.strerror}", {"file": str(path)}) from exc
    if mode & 0o077:
        raise CertificateUnusable(f"{str(path)!r} can be read by others; set its mode to 0600", {"file": str(path)})
