"""Content identifiers: the names of blocks. Version 0 and 1, as github.com/multiformats/cid defines them.

The hot path makes a CIDv1 with SHA-256: the hash, one concatenation, one object.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from p2pshare_protocols import multibase, varint
from p2pshare_protocols.errors import RemoteProtocolError

RAW: Final = 0x55
DAG_PB: Final = 0x70
LIBP2P_KEY: Final = 0x72
IDENTITY: Final = 0x00
SHA2_256: Final = 0x12
BLAKE3: Final = 0x1E
MAX_BLOCK: Final = 2 << 20  # bytes: what bitswap and every known IPFS implementation allow
MAX_DIGEST: Final = 128  # bytes: an identity CID carries its block; more than this is not an identifier
MAX_BINARY: Final = 9 + 9 + 9 + 9 + MAX_DIGEST

_HASH_CODES: Final = {"sha256": SHA2_256, "blake3": BLAKE3, "identity": IDENTITY}
_DIGEST_SIZES: Final = {SHA2_256: 32, BLAKE3: 32}
_V0_PREFIX: Final = b"\x12\x20"

Buffer = bytes | bytearray | memoryview


class UnsupportedHash(RemoteProtocolError):
    """The CID is well formed, but this node cannot compute its hash function."""


class CID:
    """An immutable identifier: version, codec and multihash. Equal when all three are.

    `binary` is what stands in links and on the wire: varints and the multihash, or the bare multihash for version 0.
    """

    __slots__ = ("_skip", "_text", "binary", "codec", "version")

    version: int
    codec: int
    binary: bytes

    def __init__(self, version: int, codec: int, multihash: bytes) -> None:
        """Trusts its arguments; bytes and texts from outside go through `from_binary`, `read` or `parse`."""
        prefix = b"" if version == 0 else b"\x01" + varint.encode(codec)
        self.version = version
        self.codec = codec
        self.binary = prefix + multihash
        self._skip = len(prefix)
        self._text: str | None = None

    @classmethod
    def _v1(cls, codec: int, binary: bytes) -> CID:
        """The short way for version 1 and a codec below 128; `binary` is whole."""
        cid = cls.__new__(cls)
        cid.version = 1
        cid.codec = codec
        cid.binary = binary
        cid._skip = 2
        cid._text = None
        return cid

    @property
    def multihash(self) -> bytes:
        return self.binary[self._skip :]

    @property
    def hash_code(self) -> int:
        return varint.decode(self.binary, self._skip)[0]

    @property
    def digest(self) -> bytes:
        _, at = varint.decode(self.binary, self._skip)
        _, at = varint.decode(self.binary, at)
        return self.binary[at:]

    @property
    def inline(self) -> bytes | None:
        """The block itself, when the CID is an identity CID that carries it."""
        return self.digest if self.binary[self._skip] == IDENTITY else None

    @property
    def v1(self) -> CID:
        """The same block's name in version 1: what the catalogue, the exchange and the DHT are keyed by."""
        return self if self.version == 1 else CID(1, DAG_PB, self.multihash)

    def __str__(self) -> str:
        if self._text is None:
            if self.version == 0:
                self._text = multibase.base58_encode(self.multihash)
            else:
                self._text = "b" + multibase.base32_encode(self.binary)
        return self._text

    def __repr__(self) -> str:
        return f"CID({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CID) and self.binary == other.binary

    def __hash__(self) -> int:
        return hash(self.binary)

    def __lt__(self, other: CID) -> bool:
        return self.binary < other.binary

    @classmethod
    def of(cls, codec: int, data: Buffer, hash: str = "sha256") -> CID:
        """The CIDv1 of a block. `hash` is "sha256", "blake3" or "identity" (at most 128 bytes).

        Raises UnsupportedHash for blake3 where the package is missing, ValueError for an unknown name.
        """
        if hash == "sha256" and codec < 128:
            return cls._v1(codec, bytes((1, codec, 18, 32)) + hashlib.sha256(data).digest())
        code = _HASH_CODES.get(hash)
        if code is None:
            raise ValueError(f"unknown hash function {hash!r}")
        if code == IDENTITY and len(data) > MAX_DIGEST:
            raise ValueError("too long for an identity CID")
        digest = _digest(code, data)
        return cls(1, codec, varint.encode(code) + varint.encode(len(digest)) + digest)

    def matches(self, data: Buffer) -> bool:
        """Whether `data` is the block that this CID names. Raises UnsupportedHash when it cannot be told."""
        return hmac.compare_digest(_digest(self.hash_code, data), self.digest)

    @classmethod
    def parse(cls, text: str) -> CID:
        """A CID as people write it: "Qm…" (version 0) or multibase. Raises RemoteProtocolError."""
        if len(text) > multibase.MAX_TEXT:
            raise RemoteProtocolError(f"a CID is longer than {multibase.MAX_TEXT} characters")
        if len(text) == 46 and text.startswith("Qm"):
            return cls.from_binary(multibase.base58_decode(text))
        if len(text) < 8 or not text.isascii():
            raise RemoteProtocolError("this is not a CID")
        cid = cls.from_binary(multibase.decode(text))
        if cid.version == 0:
            raise RemoteProtocolError("a CID of version 0 is written without a multibase prefix")
        return cid

    @classmethod
    def from_binary(cls, binary: Buffer) -> CID:
        """A CID that fills the whole buffer. Raises RemoteProtocolError."""
        if len(binary) == 36 and binary[0] == 1 and binary[1] < 128 and binary[2:4] == _V0_PREFIX:
            return cls._v1(binary[1], bytes(binary))  # nearly all that there are
        if len(binary) > MAX_BINARY:
            raise RemoteProtocolError("a CID is too long")
        cid, end = cls.read(binary, 0)
        if end != len(binary):
            raise RemoteProtocolError("a CID has bytes behind its end")
        return cid

    @classmethod
    def read(cls, buf: Buffer, offset: int = 0) -> tuple[CID, int]:
        """A CID at `offset` of a longer buffer, and the offset behind it. Raises RemoteProtocolError."""
        head = bytes(buf[offset : offset + 36])
        if len(head) == 36 and head[0] == 1 and head[1] < 128 and head[2:4] == _V0_PREFIX:
            return cls._v1(head[1], head), offset + 36
        if head[:2] == _V0_PREFIX:
            if len(head) < 34:
                raise RemoteProtocolError("a CID is cut off")
            return cls(0, DAG_PB, head[:34]), offset + 34
        version, at = varint.decode(buf, offset)
        if version != 1:
            raise RemoteProtocolError("a CID has a version that does not exist")
        codec, start = varint.decode(buf, at)
        code, at = varint.decode(buf, start)
        length, at = varint.decode(buf, at)
        if length > MAX_DIGEST or length != _DIGEST_SIZES.get(code, length):
            raise RemoteProtocolError("a CID has a digest of a wrong length")
        end = at + length
        if end > len(buf):
            raise RemoteProtocolError("a CID is cut off")
        return cls(1, codec, bytes(buf[start:end])), end


def _digest(code: int, data: Buffer) -> bytes:
    if code == SHA2_256:
        return hashlib.sha256(data).digest()
    if code == IDENTITY:
        return bytes(data)
    if code == BLAKE3:
        try:
            from blake3 import blake3  # an optional extra
        except ImportError:
            raise UnsupportedHash("this node has no BLAKE3; install the extra p2pshare[blake3]") from None
        return bytes(blake3(data).digest())
    raise UnsupportedHash(f"the hash function 0x{code:x} of a CID is not known here")
