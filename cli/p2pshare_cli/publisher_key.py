"""The publisher's key as a file that is carried to another machine. Standard library only; nothing is made here."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
import stat

from p2pshare_cli.errors import CommandError

MAX_FILE = 4096  # bytes
_BEGIN, _END = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
_ED25519 = bytes.fromhex("302e020100300506032b657004220420")  # RFC 8410, section 10.3, up to the 32 bytes of the seed


def copy(source: str, target: str, *, force: bool, missing: str) -> None:
    """A key file, checked, at another place with mode 0600; whole or not at all. `missing`: what to do without it.

    Raises CommandError: not-found, exists (without `force`), permission, usage (no Ed25519 key), failed.
    """
    data = _read(source, missing)
    if not _is_key(data):
        raise CommandError("usage", f"{source} does not hold an Ed25519 private key in PEM")
    fresh = f"{target}.{secrets.token_hex(8)}"
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as sink:
            os.fchmod(descriptor, 0o600)
            sink.write(data)
            sink.flush()
            os.fsync(descriptor)
        if force:
            os.replace(fresh, target)
        else:
            os.link(fresh, target)
    except FileExistsError:
        raise CommandError(
            "exists",
            f"there is a key at {target} already",
            "--force puts this one in its place.",
        ) from None
    except OSError as error:
        raise _failed(error, f"write {target}") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(fresh)


def _read(path: str, missing: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CommandError("usage", f"{path} is not a regular file")
            return file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise CommandError("not-found", f"there is no {path}", missing) from None
    except OSError as error:
        raise _failed(error, f"read {path}") from None


def _is_key(data: bytes) -> bool:
    lines = data.decode("ascii", "replace").split("\n") if len(data) <= MAX_FILE else []
    lines = [line.strip() for line in lines if line.strip()]
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        return False
    try:
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
    except (ValueError, binascii.Error):
        return False
    return der.startswith(_ED25519) and len(der) == len(_ED25519) + 32


def _failed(error: OSError, doing: str) -> CommandError:
    kind = "permission" if isinstance(error, PermissionError) else "failed"
    return CommandError(kind, f"cannot {doing}: {error.strerror}")
