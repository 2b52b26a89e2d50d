"""multistream-select: the golden bytes of protocols/multistream.md, the dialogue, and what strangers may send."""

from __future__ import annotations

import pytest

from p2pshare_protocols import multistream
from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError
from p2pshare_protocols.multistream import Initiator, Responder, encode

GREETING = bytes.fromhex("132f6d756c746973747265616d2f312e302e300a")
NOISE = bytes.fromhex("072f6e6f6973650a")
NA = bytes.fromhex("036e610a")


def talk(initiator: Initiator, responder: Responder, step: int) -> None:
    """Carries bytes between the two, `step` at a time, until both have nothing to say."""
    to_responder, to_initiator = initiator.start(), b""
    while to_responder or to_initiator:
        while to_responder and not responder.done:
            piece, to_responder = to_responder[:step], to_responder[step:]
            to_initiator += responder.receive(piece)
        while to_initiator and not initiator.done:
            piece, to_initiator = to_initiator[:step], to_initiator[step:]
            to_responder += initiator.receive(piece)
        if initiator.done:
            return


def test_golden_bytes() -> None:
    assert encode("/multistream/1.0.0") == GREETING
    assert encode("/noise") == NOISE
    assert encode("na") == NA
    assert Initiator(["/noise"]).start() == GREETING + NOISE


@pytest.mark.parametrize("step", [1, 7, 4096])
def test_they_agree_on_the_first_that_both_speak(step: int) -> None:
    initiator, responder = Initiator(["/a", "/b", "/c"]), Responder({"/b", "/c"}.__contains__)
    talk(initiator, responder, step)
    assert initiator.chosen == responder.chosen == "/b"


def test_all_refused() -> None:
    initiator, responder = Initiator(["/a", "/b"]), Responder(lambda name: False)
    talk(initiator, responder, 4096)
    assert initiator.done
    assert initiator.chosen is None


def test_bytes_behind_the_agreement_are_kept_for_the_protocol() -> None:
    responder = Responder({"/noise"}.__contains__)
    assert responder.receive(GREETING + NOISE + b"\x00\xffhello") == GREETING + NOISE
    assert responder.take_rest() == b"\x00\xffhello"
    initiator = Initiator(["/noise"])
    initiator.receive(GREETING + NOISE + b"behind")
    assert initiator.take_rest() == b"behind"


def test_who_reads_only_what_is_wanted_never_reads_past_the_agreement() -> None:
    for name in ("/noise", "/" + "x" * 200):
        sent = GREETING + encode("/other") + encode(name) + b"behind"
        responder = Responder({name}.__contains__)
        at = 0
        while not responder.done:
            count = responder.wanted
            responder.receive(sent[at : at + count])
            at += count
        assert sent[at:] == b"behind"
        assert responder.take_rest() == b""


def test_a_long_name_takes_two_length_bytes() -> None:
    name = "/" + "x" * 1022
    responder = Responder({name}.__contains__)
    responder.receive(GREETING + encode(name))
    assert responder.chosen == name


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x03\xff\xfe\n",  # the four bytes that end a stock libp2p 0.8.1 host
        b"\x00",
        b"\x01\n",
        b"\x80\x80",
        b"\x83\x00",  # not the shortest form
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x81\x08",  # 1025
        b"\x04abcd",
        b"\x04a\x1bb\n",
        b"\x05/x/y\n",
    ],
)
def test_a_hostile_greeting_is_a_remote_error(hostile: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Responder(lambda name: True).receive(hostile)
    with pytest.raises(RemoteProtocolError):
        Initiator(["/a"]).receive(hostile)


def test_proposals_are_bounded() -> None:
    responder = Responder(lambda name: False)
    responder.receive(GREETING)
    with pytest.raises(RemoteProtocolError):
        responder.receive(encode("/a") * multistream.MAX_PROPOSALS)


def test_an_answer_that_was_not_proposed_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        Initiator(["/a"]).receive(GREETING + encode("/b"))


def test_using_it_wrongly_is_our_own_error() -> None:
    with pytest.raises(LocalProtocolError):
        Initiator([])
    done = Initiator(["/noise"])
    done.receive(GREETING + NOISE)
    with pytest.raises(LocalProtocolError):
        done.receive(b"x")
    for bad in ("", "a\nb", "x" * 1024):
        with pytest.raises(ValueError):
            encode(bad)


def test_every_cut_of_random_bytes_ends_in_one_kind_of_error() -> None:
    seed = 7
    for _ in range(2000):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        data = seed.to_bytes(8, "big") * 3
        responder = Responder(lambda name: True)
        try:
            for at in range(0, len(data), 5):
                if responder.done:
                    break
                responder.receive(data[at : at + 5])
        except RemoteProtocolError:
            pass
