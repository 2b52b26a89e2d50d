"""Who this node is: one Ed25519 key, whose public half is the peer ID.

The file `identity.key` is PKCS#8 in PEM (RFC 8410), which OpenSSL reads too. It is made once, whole or not at all, and
refused when it could have been read or written by anybody else: a lost or shared key is another node's name.
"""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from p2pshare.errors import ConfigError, PermissionDenied, from_os_error
from p2pshare_protocols.peerid import peer_id_from_ed25519

MAX_FILE = 4096  # bytes; an Ed25519 key in PEM is 119


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    private: Ed25519PrivateKey
    public: bytes  # 32 bytes, RFC 8032
    peer_id: str

    @property
    def seed(self) -> bytes:
        """The private key's 32 bytes."""
        return self.private.private_bytes_raw()

    def __repr__(self) -> str:  # never the key
        return f"Identity({self.peer_id})"


def identity_of(private: Ed25519PrivateKey) -> Identity:
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return Identity(private, public, peer_id_from_ed25519(public))


def load_or_create(path: str | Path) -> Identity:
    """The identity at `path`; a new one is made when there is no file. Two processes that race get the same one.

    Raises PermissionDenied (another owner, readable by others), ConfigError (no Ed25519 key in it), other LocalErrors.
    """
    path = Path(path)
    try:
        if not os.path.lexists(path):
            _create(path)
        return _load(path)
    except OSError as error:
        raise from_os_error(error, f"open the identity {path}") from error


def _load(path: Path) -> Identity:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check_owner(path, os.fstat(descriptor))
        data = os.read(descriptor, MAX_FILE + 1)
    finally:
        os.close(descriptor)
    try:
        private = load_pem_private_key(data, password=None) if len(data) <= MAX_FILE else None
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError(
            f"{path} does not hold an Ed25519 private key",
            hint="Put the right file back, or move this one away to begin with a new identity.",
        )
    return identity_of(private)


def _check_owner(path: Path, about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise PermissionDenied(f"{path} is not a regular file")
    if about.st_uid != os.geteuid():
        raise PermissionDenied(f"{path} belongs to another user (uid {about.st_uid})")
    if stat.S_IMODE(about.st_mode) & 0o077:
        raise PermissionDenied(
            f"{path} can be read by other users (mode {stat.S_IMODE(about.st_mode):04o})",
            hint=f"If nobody has copied it: chmod 600 '{path}'",
        )


def _create(path: Path) -> None:
    """Write the whole file beside it, then link it into place: a crash leaves a key or none, and the first one wins."""
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(fresh, path)
        except FileExistsError:
            return
    finally:
        os.unlink(fresh)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
