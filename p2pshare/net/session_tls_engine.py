"""TLS without a network: bytes in, bytes out. The handshake of a libp2p peer, then records.

It stands on pyOpenSSL. The ssl module of Python cannot ask a client for a certificate without demanding that an
authority signed it, and cannot load a key that is not in a file; pyOpenSSL does both with documented calls, over
memory, and is maintained by the same people and over the same OpenSSL as `cryptography`, which we need anyway.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto

from p2pshare.net.session_base import HasIdentity
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.peerid import ED25519, encode_public_key, peer_id_from_public_key
from p2pshare_protocols.tls_identity import (
    ALPN,
    choose_protocol,
    make_certificate,
    offer_protocols,
    verify_certificate,
)

MAX_RECORD: Final = 1 << 14
"""Bytes of plaintext in one record (RFC 8446, 5.1)."""
STEP: Final = 1 << 18
"""Bytes that pass through OpenSSL at once: its buffers grow to that, and never shrink while the connection lives."""
MAX_HANDSHAKE: Final = 1 << 17  # bytes from the peer before it has proven who it is
_DEMAND = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
_READ = STEP + (STEP // MAX_RECORD + 1) * 22  # a record adds 22 bytes: header 5, type 1, tag 16


class Cut(Exception):
    """The peer ended TLS with an alert. It may say that; a proper end it is not."""


class TlsContext:
    """Our certificate, fresh for this process, and how we speak TLS. One for all connections of an identity."""

    def __init__(self, identity: HasIdentity) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        public = encode_public_key(ED25519, identity.public)
        serial = int.from_bytes(os.urandom(8), "big") | 1
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_max_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.use_certificate(make_certificate(key, public, identity.private.sign, serial))
        context.use_privatekey(key)
        context.set_verify(_DEMAND, _verify)
        context.set_alpn_select_callback(_select)
        self._context = context

    def engine(self, *, initiator: bool, expected_peer: str | None, muxers: Sequence[str]) -> TlsEngine:
        """`expected_peer`: the peer ID that was dialled; `muxers`: ours, the preferred one first."""
        return TlsEngine(self._context, initiator=initiator, expected_peer=expected_peer, muxers=muxers)


class TlsEngine:
    """One end of one connection. After `handshake` returned True, identity_key, peer_id and muxer are set."""

    def __init__(
        self, context: SSL.Context, *, initiator: bool, expected_peer: str | None, muxers: Sequence[str]
    ) -> None:
        self.identity_key = b""
        self.peer_id = ""
        self.muxer: str | None = None
        self.muxers = tuple(muxers)
        self._initiator = initiator
        self._expected = expected_peer
        self._handshake_bytes = 0
        self._refusal: RemoteProtocolError | None = None
        self._out: list[bytes] = []
        self._connection = SSL.Connection(context, None)
        self._connection.set_app_data(self)
        if initiator:
            self._connection.set_alpn_protos(offer_protocols(muxers))
            self._connection.set_connect_state()
        else:
            self._connection.set_accept_state()

    # The handshake.

    def handshake(self, data: Buffer = b"") -> bool:
        """Take bytes from the peer; True when it is done. `data_to_send` after each call, also when it raises.

        Raises RemoteProtocolError, Cut.
        """
        self._handshake_bytes += len(data)
        if self._handshake_bytes > MAX_HANDSHAKE:
            raise RemoteProtocolError("a TLS handshake is too long")
        if len(data):
            self.feed(data)
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise self._refusal or _reason(error) from None
        self._check_end()
        return True

    def check(self, certificate: crypto.X509) -> bool:
        """Called by OpenSSL for the peer's certificate: is the peer who it says, and who it has to be?"""
        if self.identity_key:  # OpenSSL asks once for each thing that it finds
            return True
        try:
            encoded = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
            key = verify_certificate(encoded, time.time())
            peer = peer_id_from_public_key(key)
            if self._expected is not None and peer != self._expected:
                raise RemoteProtocolError(f"the peer is {peer}, not {self._expected}")
        except RemoteProtocolError as error:
            self._refusal = error
            return False
        self.identity_key, self.peer_id = key, peer
        return True

    def _check_end(self) -> None:
        chain = self._connection.get_peer_cert_chain() or []
        if not self.identity_key or len(chain) > (1 if self._initiator else 0):  # a server's chain omits the client's
            raise RemoteProtocolError("the peer showed no certificate, or a chain of them")
        chosen = self._connection.get_alpn_proto_negotiated().decode("ascii", "replace")
        if chosen not in ("", ALPN, *self.muxers):
            raise RemoteProtocolError("the peer chose a protocol that was not offered")
        self.muxer = chosen if chosen in self.muxers else None

    # Records.

    def data_to_send(self) -> list[bytes]:
        """What is to be sent to the peer."""
        self._take_out()
        out, self._out = self._out, []
        return out

    def seal(self, data: bytes) -> None:
        """Encrypt; see `data_to_send`."""
        view = memoryview(data)
        for at in range(0, len(data), STEP):
            self._connection.sendall(view[at : at + STEP])
            self._take_out()

    def _take_out(self) -> None:
        with suppress(SSL.WantReadError):
            while True:
                self._out.append(self._connection.bio_read(_READ))

    def close(self) -> None:
        """Say close_notify; nothing can be sealed any more."""
        with suppress(SSL.Error):
            self._connection.shutdown()

    def feed(self, data: Buffer) -> None:
        self._connection.bio_write(data)

    def open_into(self, view: memoryview) -> int | None:
        """Decrypt at most one record; 0 when the peer said close_notify, None when no whole record is here.

        Raises RemoteProtocolError, Cut.
        """
        try:
            return self._connection.recv_into(view, MAX_RECORD)
        except SSL.WantReadError:
            return None
        except SSL.ZeroReturnError:
            return 0
        except SSL.Error as error:
            raise _reason(error) from None


Buffer = bytes | bytearray | memoryview


def _reason(error: SSL.Error) -> RemoteProtocolError | Cut:
    reasons = [str(entry[-1]) for entry in error.args[0]] if error.args and isinstance(error.args[0], list) else []
    text = "; ".join(reasons) or "the connection ended"
    alert = next((reason for reason in reasons if "alert" in reason), None)
    return Cut(f"the peer ended TLS: {alert}") if alert else RemoteProtocolError(f"TLS failed: {text}")


def _verify(connection: SSL.Connection, certificate: crypto.X509, _error: int, depth: int, _ok: int) -> bool:
    engine: TlsEngine = connection.get_app_data()
    return depth == 0 and engine.check(certificate)


def _select(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    engine: TlsEngine = connection.get_app_data()
    chosen = choose_protocol(offered, engine.muxers)
    if chosen is None:
        raise RemoteProtocolError("the peer offers neither libp2p nor a muxer")
    return chosen
