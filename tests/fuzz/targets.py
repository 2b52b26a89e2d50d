"""Every parser that a stranger's bytes reach: how it is fed, and well-formed bytes to start from.

A target may raise only what it names; the bytes it is given have any length and content.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from p2pshare.net import identify, mdns
from p2pshare_protocols import (
    cid,
    control,
    dagpb,
    exchange_messages,
    hamt,
    index_messages,
    index_postings,
    item_record,
    kad_messages,
    link,
    multiaddr,
    multistream,
    noise,
    noise_payload,
    peerid,
    query,
    tls_identity,
    unixfs,
    yamux_frames,
)
from p2pshare_protocols.dagwalk import DagWalk
from p2pshare_protocols.errors import ProtocolError, RemoteProtocolError
from p2pshare_protocols.index_answer import AnswerReader
from p2pshare_protocols.yamux import Yamux
from tests.support_golden import golden

PEER = peerid.peer_id_from_ed25519(bytes(range(32)))
BLOCK = cid.CID.of(cid.RAW, b"content")
_PROTOCOLS = Path(__file__).parents[2] / "protocols"


@dataclass(frozen=True)
class Target:
    """`parse` feeds bytes to a parser. `errors` is all that may come out of it."""

    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    errors: tuple[type[Exception], ...] = (RemoteProtocolError,)

    def survives(self, data: bytes) -> None:
        """Raises whatever is not allowed to come out."""
        with contextlib.suppress(*self.errors):
            self.parse(data)


def _golden(document: str) -> tuple[bytes, ...]:
    """The golden bytes of a specification."""
    text = (_PROTOCOLS / document).read_text()
    runs = re.findall(r"\b(?:[0-9a-f]{2} ?){8,}", text)
    return tuple(bytes.fromhex(run) for run in runs if len(run.replace(" ", "")) % 2 == 0)


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


def _in_two(feed: Callable[[bytes], object], data: bytes) -> None:
    """The same bytes cut somewhere: what arrives in parts must be read as well."""
    middle = data[0] % (len(data) + 1) if data else 0
    feed(data[:middle])
    feed(data[middle:])


def _cid(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        cid.CID.from_binary(data)
    found, _ = cid.CID.read(data)
    found.matches(b"content")
    assert cid.CID.parse(str(found)) == found


def _dagpb(data: bytes) -> None:
    links, inner = dagpb.decode(data)
    if any(one.name is None for one in links):
        return
    assert dagpb.decode(dagpb.encode(links, inner))[1] == inner


def _unixfs(data: bytes) -> None:
    unixfs.decode_node(cid.CID.of(cid.DAG_PB, data), data)


def _hamt(data: bytes) -> None:
    node = unixfs.decode_node(cid.CID.of(cid.DAG_PB, data), data)
    for slot in hamt.slots(node) if node.kind == "shard" else ():
        hamt.check_slot(slot.name, (hamt.slot_of(slot.name, 0, node.fanout),), node.fanout)


def _walk(data: bytes) -> None:
    root = cid.CID.of(cid.DAG_PB, data)
    walk = DagWalk(root, max_entries=1000, max_nodes=1000, max_depth=8)
    walk.feed(root, data)
    if not walk.wanted(1):
        walk.plan()


def _multistream(data: bytes) -> None:
    responder = multistream.Responder(lambda name: name == "/a/1")
    with contextlib.suppress(RemoteProtocolError):
        _in_two(lambda part: responder.done or responder.receive(part), data)
    initiator = multistream.Initiator(["/a/1", "/b/1"])
    initiator.start()
    _in_two(lambda part: initiator.done or initiator.receive(part), data)


def _side(*, initiator: bool) -> noise.Handshake:
    key = Ed25519PrivateKey.from_private_bytes(bytes([1 + initiator]) * 32)
    identity = peerid.encode_public_key(peerid.ED25519, key.public_key().public_bytes_raw())
    local = noise.Local(identity, key.sign, bytes([3]) * 32, bytes([4 + initiator]) * 32, ("/yamux/1.0.0",))
    return noise.Handshake("/noise", initiator=initiator, local=local)


def _noise(data: bytes) -> None:
    for initiator in (True, False):
        side = _side(initiator=initiator)
        side.data_to_send()
        try:
            _in_two(lambda part: side.secured or side.receive(part), data)  # noqa: B023 - called at once
            side.receive_eof()
        except RemoteProtocolError:
            continue


def _noise_messages() -> tuple[bytes, ...]:
    left, right = _side(initiator=True), _side(initiator=False)
    first = left.data_to_send()
    right.receive(first)
    second = right.data_to_send()
    left.receive(second)
    return first, second, first + left.data_to_send()


def _noise_payload(data: bytes) -> None:
    payload = noise_payload.decode_payload(data)
    noise_payload.verify_identity(payload, bytes(32))


def _payload_seed() -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
    identity = peerid.encode_public_key(peerid.ED25519, key.public_key().public_bytes_raw())
    signature = key.sign(noise_payload.SIGNED_PREFIX + bytes(32))
    return noise_payload.encode_payload(noise_payload.Payload(identity, signature, ("/yamux/1.0.0",)))


def _yamux(data: bytes) -> None:
    machine = Yamux(initiator=False, max_inbound=8)
    ours = machine.open()

    def feed(part: bytes) -> None:
        for event in machine.receive(memoryview(part)):
            stream = getattr(event, "stream", ours)
            if machine.is_open(stream) and machine.consumed(stream, 1):
                machine.grow(stream, machine.window_size(stream))
        machine.control_to_send()

    _in_two(feed, data)


_FRAMES = (
    yamux_frames.frame(yamux_frames.WINDOW_UPDATE, yamux_frames.SYN, 1, 0)
    + yamux_frames.frame(yamux_frames.DATA, 0, 1, 5)
    + b"hello"
    + yamux_frames.frame(yamux_frames.DATA, yamux_frames.FIN, 1, 0),
    yamux_frames.frame(yamux_frames.PING, yamux_frames.SYN, 0, 7)
    + yamux_frames.frame(yamux_frames.WINDOW_UPDATE, yamux_frames.ACK, 2, 4096)
    + yamux_frames.frame(yamux_frames.WINDOW_UPDATE, yamux_frames.RST, 2, 0)
    + yamux_frames.frame(yamux_frames.GO_AWAY, 0, 0, 0),
)


def _exchange(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        exchange_messages.header_length(data[:4])
    message = exchange_messages.decode(data)
    exchange_messages.encode(message)


def _exchange_seeds() -> tuple[bytes, ...]:
    cids = (BLOCK.v1.binary,)
    messages = (
        exchange_messages.Have(1, cids[0]),
        exchange_messages.Nodes(2, cids),
        exchange_messages.Blocks(3, cids),
        exchange_messages.Cancel(3),
    )
    return tuple(exchange_messages.encode(message)[4:] for message in messages)


def _index(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        index_messages.decode_request(data)
    with contextlib.suppress(RemoteProtocolError):
        index_messages.decode_answer(data, PEER)
    _in_two(AnswerReader(query.parse("hello"), 10, PEER).receive_data, data)


def _postings(data: bytes) -> None:
    message = index_postings.unpack(data)
    with contextlib.suppress(RemoteProtocolError):
        index_postings.read_request(message)
    index_postings.read_answer(message)


def _certificate(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        tls_identity.decode_signed_key(data)
    tls_identity.verify_certificate(data, 1_800_000_000.0)


def _certificate_seeds() -> tuple[bytes, ...]:
    key = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
    identity = peerid.encode_public_key(peerid.ED25519, key.public_key().public_bytes_raw())
    certificate = tls_identity.make_certificate(ec.derive_private_key(7, ec.SECP256R1()), identity, key.sign, 1)
    return (certificate.public_bytes(Encoding.DER), tls_identity.encode_signed_key(identity, bytes(64)))


def _kad(data: bytes) -> None:
    kad_messages.encode(kad_messages.decode(data))


def _kad_seeds() -> tuple[bytes, ...]:
    peer = kad_messages.Peer(PEER, ("/ip4/192.0.2.1/tcp/4001",), kad_messages.Connection.CONNECTED)
    record = kad_messages.Record(b"key", b"value", "2026-01-01T00:00:00Z")
    messages = [kad_messages.Message(kind, b"key", record, (peer,), (peer,)) for kind in kad_messages.Kind]
    return tuple(map(kad_messages.encode, messages))


def _control(data: bytes) -> None:
    for framing in (control.Framing.JSON, control.Framing.MSGPACK):
        reader = control.MessageReader(framing, max_message=4096)

        def feed(part: bytes, reader: control.MessageReader = reader) -> None:
            reader.feed(part)
            for message in reader.messages():
                for parse in (control.parse_request, control.parse_reply):
                    with contextlib.suppress(RemoteProtocolError):
                        parse(message)

        with contextlib.suppress(RemoteProtocolError):
            _in_two(feed, data[:8192])


_CALL = control.request(1, "share.start", {"paths": ["/a"], "copy": True, "n": 1})

_POSTINGS = golden("index.md", "postings")

TARGETS: dict[str, Target] = {
    "cid": Target(_cid, (BLOCK.binary, cid.CID.of(cid.DAG_PB, b"x").binary)),
    "cid_text": Target(_text(cid.CID.parse), (str(BLOCK).encode(), b"QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG")),
    "dagpb": Target(_dagpb, (dagpb.encode([dagpb.Link(BLOCK, b"name", 7)], b"\x08\x01"),)),
    "unixfs": Target(_unixfs, (dagpb.encode([], b"\x08\x02\x12\x05hello\x18\x05"), dagpb.encode([], b"\x08\x01"))),
    "hamt": Target(
        _hamt, tuple(data for _, data in hamt.build([dagpb.Link(BLOCK, b"n%d" % n, 7) for n in range(20)])[1])
    ),
    "dagwalk": Target(_walk, (dagpb.encode([dagpb.Link(BLOCK, b"name", 7)], b"\x08\x01"),)),
    "multistream": Target(_multistream, (multistream.encode("/multistream/1.0.0") + multistream.encode("/a/1"),)),
    "noise": Target(_noise, _noise_messages()),
    "noise_payload": Target(_noise_payload, (_payload_seed(),)),
    "yamux": Target(_yamux, _FRAMES),
    "exchange_messages": Target(_exchange, _exchange_seeds()),
    "index_messages": Target(_index, tuple(g[4:] for g in _golden("index.md")) + _golden("index.md")),
    "item_record": Target(item_record.decode, tuple(_POSTINGS[name] for name in ("item", "inside", "tombstone"))),
    "index_postings": Target(
        _postings, tuple(_POSTINGS[name][4:] for name in ("store", "heartbeat", "find", "records", "end"))
    ),
    "tls_identity": Target(_certificate, _certificate_seeds()),
    "kad_messages": Target(_kad, _kad_seeds()),
    "control": Target(
        _control, tuple(control.encode(f, _CALL) for f in (control.Framing.JSON, control.Framing.MSGPACK))
    ),
    "link": Target(_text(link.parse_link), (f"p2pshare:{BLOCK}/a%20b?x=1".encode(), f"ipfs://{BLOCK}/p".encode())),
    "query": Target(_text(query.parse), (b'a "b c" OR d -e type:video size>1MB ext:mp4',), (ProtocolError,)),
    "multiaddr": Target(multiaddr.to_text, (multiaddr.to_binary(f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}"),)),
    "multiaddr_text": Target(_text(multiaddr.to_binary), (f"/dns4/example.com/tcp/1/p2p/{PEER}".encode(),)),
    "identify": Target(
        identify.decode,
        (
            identify.encode(
                public_key=b"k", agent="a", listen=["/ip4/192.0.2.1/tcp/1"], protocols=["/a"], observed=None
            )[1:],
        ),
    ),
    "mdns": Target(mdns.decode_text, (mdns.encode_text([f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}"]),), ()),
    "peerid": Target(peerid.peer_id_from_bytes, (peerid.peer_id_to_bytes(PEER),)),
}
