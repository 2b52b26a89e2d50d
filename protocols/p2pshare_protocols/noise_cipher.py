"""The ciphers of the two Noise suites, and the record layer that runs on them.

A record on the wire is a 2-byte big-endian length and that many bytes of ciphertext, the last 16 of them the tag
(libp2p noise specification, "Wire format"). Everything here works in place on buffers that the caller owns.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError

NOISE = "/noise"
NOISE_AESGCM = "/p2pshare/noise-aesgcm/1.0.0"
SUITES = {NOISE: b"Noise_XX_25519_ChaChaPoly_SHA256", NOISE_AESGCM: b"Noise_XX_25519_AESGCM_SHA256"}

TAG = 16
LENGTH = 2
MAX_RECORD = 65535
"""The longest ciphertext a 2-byte length can announce."""
MAX_PLAINTEXT = MAX_RECORD - TAG
REKEY_EVERY = 1 << 20
"""Records under one AES-GCM key in one direction: 64 GiB, far under the 2^35.5 blocks (0.8 TB) at which the
confidentiality bound of GCM passes 2^-57. The ChaCha suite belongs to libp2p, which never rekeys."""
_LAST_NONCE = 2**64 - 1  # reserved by Noise for Rekey()

_AES_NONCE = struct.Struct(">4xQ")
_CHACHA_NONCE = struct.Struct("<4xQ")
_LENGTH = struct.Struct(">H")


class Cipher:
    """One direction's key and its counter."""

    def __init__(self, suite: str, key: bytes) -> None:
        self._aes = suite == NOISE_AESGCM
        self._pack = (_AES_NONCE if self._aes else _CHACHA_NONCE).pack
        self._rekeys = self._aes
        self._set(key)
        self.counter = 0

    def _set(self, key: bytes) -> None:
        self._aead: AESGCM | ChaCha20Poly1305 = AESGCM(key) if self._aes else ChaCha20Poly1305(key)

    def _nonce(self) -> bytes:
        counter = self.counter
        if counter >= _LAST_NONCE:
            raise LocalProtocolError("a Noise key is used up")
        if self._rekeys and counter and counter % REKEY_EVERY == 0:
            self._set(self._aead.encrypt(self._pack(_LAST_NONCE), bytes(32), None)[:32])
        self.counter = counter + 1
        return self._pack(counter)

    def encrypt(self, plaintext: bytes, associated: bytes) -> bytes:
        """Ciphertext and tag, for the handshake's few short messages."""
        nonce = self._nonce()  # first: it may change the key
        return self._aead.encrypt(nonce, plaintext, associated)

    def decrypt(self, ciphertext: bytes, associated: bytes) -> bytes:
        nonce = self._nonce()
        try:
            return self._aead.decrypt(nonce, ciphertext, associated)
        except InvalidTag:
            raise RemoteProtocolError("a Noise handshake message does not authenticate") from None

    def encrypt_into(self, plaintext: memoryview, out: memoryview) -> None:
        """Fill `out` (16 bytes longer than `plaintext`). They may begin at the same byte, not overlap otherwise."""
        nonce = self._nonce()
        self._aead.encrypt_into(nonce, plaintext, None, out)

    def decrypt_into(self, ciphertext: memoryview, out: memoryview) -> None:
        """Fill `out` (16 bytes shorter than `ciphertext`), which may begin at the same byte."""
        nonce = self._nonce()
        try:
            self._aead.decrypt_into(nonce, ciphertext, None, out)
        except InvalidTag:
            raise RemoteProtocolError("a Noise record does not authenticate") from None


def sealed_size(plaintext: int) -> int:
    """Bytes on the wire of `plaintext` bytes cut into the fewest records."""
    return plaintext + (LENGTH + TAG) * -(-plaintext // MAX_PLAINTEXT)


def seal_into(cipher: Cipher, buffers: Sequence[memoryview], out: memoryview) -> int:
    """Encrypt the concatenation of `buffers` into full records in `out`; returns the bytes written.

    `out` must hold `sealed_size` of the sum and must not overlap the buffers. A record that lies inside one
    buffer is encrypted straight from it; one that spans several is gathered in `out` first.
    """
    remaining = sum(map(len, buffers))
    at = index = offset = 0
    while remaining:
        size = min(remaining, MAX_PLAINTEXT)
        body = out[at + LENGTH : at + LENGTH + size + TAG]
        current = buffers[index]
        if len(current) - offset >= size:
            cipher.encrypt_into(current[offset : offset + size], body)
            offset += size
        else:
            filled = 0
            while filled < size:
                current = buffers[index]
                part = min(len(current) - offset, size - filled)
                body[filled : filled + part] = current[offset : offset + part]
                filled += part
                offset += part
                if offset == len(current):
                    index, offset = index + 1, 0
            cipher.encrypt_into(body[:size], body)
        _LENGTH.pack_into(out, at, size + TAG)
        at += LENGTH + size + TAG
        remaining -= size
    return at


class Taker(Protocol):
    """Who gets the plaintext of records, in order: each either by `room` and then `placed`, or by `take`."""

    def room(self, size: int) -> memoryview | None:
        """Where to put the next `size` bytes; None when they are to be handed over by `take`. Its content is
        undefined when the record then does not authenticate."""

    def placed(self, size: int) -> None: ...

    def take(self, plaintext: memoryview) -> None: ...


class _Views(list[memoryview]):
    """A Taker that only collects."""

    def room(self, size: int) -> None:
        return None

    def placed(self, size: int) -> None:
        raise NotImplementedError

    take = list.append


def open_records(cipher: Cipher, data: memoryview) -> tuple[list[memoryview], int]:
    """As `open_records_to`: the plaintexts, in place, and the bytes used."""
    views = _Views()
    used = open_records_to(cipher, data, views)
    return list(views), used


def open_records_to(cipher: Cipher, data: memoryview, taker: Taker) -> int:
    """Decrypt every complete record at the start of `data`, in place where `taker` has no room for it.

    Returns the bytes used; what is left is the beginning of a record. Empty records are left out. Raises
    RemoteProtocolError for a record that is too short or does not authenticate, and what `taker` raises.
    """
    at = 0
    end = len(data)
    while end - at >= LENGTH:
        size = data[at] << 8 | data[at + 1]
        if size < TAG:
            raise RemoteProtocolError(f"a Noise record of {size} bytes is shorter than its tag")
        begin, stop = at + LENGTH, at + LENGTH + size
        if stop > end:
            break
        room = taker.room(size - TAG) if size > TAG else None
        if room is not None:
            cipher.decrypt_into(data[begin:stop], room)
            taker.placed(size - TAG)
        else:
            plain = data[begin : stop - TAG]
            cipher.decrypt_into(data[begin:stop], plain)
            if size > TAG:
                taker.take(plain)
        at = stop
    return at
