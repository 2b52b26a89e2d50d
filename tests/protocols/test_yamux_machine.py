"""Yamux without I/O: its bytes, its table of states, windows to the byte, and every violation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError
from p2pshare_protocols.yamux import (
    MAX_CONTROL,
    MAX_FRAME,
    MAX_GAPS,
    MAX_SEND_WINDOW,
    MAX_WINDOW,
    Yamux,
)
from p2pshare_protocols.yamux_events import (
    TRANSITIONS,
    Acknowledged,
    Event,
    Finished,
    Move,
    Opened,
    Ponged,
    Received,
    State,
    WasReset,
    WentAway,
    WindowOpened,
)
from p2pshare_protocols.yamux_frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    INTERNAL_ERROR,
    NORMAL,
    PING,
    PROTOCOL_ERROR,
    RST,
    SYN,
    WINDOW_UPDATE,
    frame,
)
from p2pshare_protocols.yamux_streams import INITIAL_WINDOW
from tests.support_golden import golden


def feed(machine: Yamux, *data: bytes) -> list[Event]:
    """Events, with views made bytes so that they compare."""
    events = machine.receive(memoryview(b"".join(data)))
    return [Received(e.stream, bytes(e.data)) if isinstance(e, Received) else e for e in events]  # type: ignore[arg-type]


def pair() -> tuple[Yamux, Yamux]:
    return Yamux(initiator=True), Yamux(initiator=False)


def opened() -> Yamux:
    """A responder for which the peer opened stream 1."""
    machine = Yamux(initiator=False)
    feed(machine, frame(WINDOW_UPDATE, SYN, 1, 0))
    machine.control_to_send()
    return machine


def violates(machine: Yamux, *data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        feed(machine, *data)
    assert machine.control_to_send() == frame(GO_AWAY, 0, 0, PROTOCOL_ERROR)
    with pytest.raises(LocalProtocolError):
        feed(machine, b"\0")


def test_the_bytes_are_those_of_the_specification() -> None:
    expected = golden("yamux.md", "yamux")
    left, right = pair()
    stream = left.open()
    sent = left.control_to_send() + left.data_header(stream, 5) + b"hello"
    left.finish(stream)
    left.ping(7)
    left.go_away()
    sent += left.control_to_send()
    assert sent == expected["initiator"]
    assert feed(right, sent) == [Opened(1), Received(1, b"hello"), Finished(1), WentAway(NORMAL)]  # type: ignore[arg-type]
    answer = right.control_to_send() + right.data_header(1, 2) + b"ok"
    right.finish(1)
    answer += right.control_to_send()
    assert answer == expected["answer"]
    events = feed(left, answer)
    assert events == [Acknowledged(1), Ponged(7), Received(1, b"ok"), Finished(1)]  # type: ignore[arg-type]
    assert not left.is_open(1)
    machine = opened()
    feed(machine, frame(DATA, 0, 1, 131072), bytes(131072))
    assert machine.consumed(1, 131072)
    machine.grow(1, 524288)
    assert machine.control_to_send() == expected["grow"]
    with pytest.raises(RemoteProtocolError):
        feed(machine, frame(DATA, 0, 9, 1))
    assert machine.control_to_send() == expected["violation"]


# Every cell of the table, from the wire or by a call.
BY: dict[Move, Callable[[Yamux], object]] = {
    Move.THEY_DATA: lambda machine: feed(machine, frame(DATA, 0, 1, 1), b"x"),
    Move.THEY_FIN: lambda machine: feed(machine, frame(WINDOW_UPDATE, FIN, 1, 0)),
    Move.THEY_RST: lambda machine: feed(machine, frame(WINDOW_UPDATE, RST, 1, 0)),
    Move.WE_DATA: lambda machine: machine.data_header(1, 1),
    Move.WE_FIN: lambda machine: machine.finish(1),
    Move.WE_RST: lambda machine: machine.reset(1),
}
REACH = {State.OPEN: [], State.LOCAL_CLOSED: [Move.WE_FIN], State.REMOTE_CLOSED: [Move.THEY_FIN]}


@pytest.mark.parametrize("move", Move)
@pytest.mark.parametrize("state", REACH)
def test_the_table(state: State, move: Move) -> None:
    machine = opened()
    for step in REACH[state]:
        BY[step](machine)
    after = TRANSITIONS.get((state, move))
    if after is None:
        with pytest.raises((RemoteProtocolError, LocalProtocolError)) as caught:
            BY[move](machine)
        assert (caught.type is RemoteProtocolError) is move.value.startswith("they")
        return
    BY[move](machine)
    assert machine.is_open(1) is (after is not State.CLOSED)
    assert machine.counts.inbound == machine.is_open(1)


def test_frames_may_come_in_any_pieces() -> None:
    wire = frame(WINDOW_UPDATE, SYN, 1, 0) + frame(DATA, FIN, 1, 300) + bytes(300) + frame(PING, ACK, 0, 3)
    whole = Yamux(initiator=False)
    assert feed(whole, wire) == [Opened(1), Received(1, bytes(300)), Finished(1), Ponged(3)]  # type: ignore[arg-type]
    pieces = Yamux(initiator=False)
    events = [event for byte in wire for event in feed(pieces, bytes([byte]))]
    assert [event for event in events if isinstance(event, Received)] == [Received(1, b"\0")] * 300  # type: ignore[arg-type]
    assert events[-2:] == [Finished(1), Ponged(3)]


def test_data_and_reset_may_open_a_stream() -> None:
    machine = Yamux(initiator=False)
    assert feed(machine, frame(DATA, SYN, 1, 2), b"hi") == [Opened(1), Received(1, b"hi")]  # type: ignore[arg-type]
    assert feed(machine, frame(WINDOW_UPDATE, SYN | RST, 3, 0)) == [Opened(3), WasReset(3)]
    assert feed(machine, frame(WINDOW_UPDATE, SYN, 5, 1000))[1:] == [WindowOpened(5)]
    assert machine.send_window(5) == INITIAL_WINDOW + 1000


# Windows.


def test_our_window_is_never_passed() -> None:
    left, _ = pair()
    stream = left.open()
    assert left.send_window(stream) == INITIAL_WINDOW
    left.data_header(stream, INITIAL_WINDOW - 1)
    with pytest.raises(LocalProtocolError):
        left.data_header(stream, 2)
    left.data_header(stream, 1)
    assert left.send_window(stream) == 0
    assert feed(left, frame(WINDOW_UPDATE, 0, stream, 10)) == [WindowOpened(stream)]
    assert left.send_window(stream) == 10
    feed(left, frame(WINDOW_UPDATE, 0, stream, 5 * MAX_FRAME))
    with pytest.raises(LocalProtocolError):
        left.data_header(stream, MAX_FRAME + 1)


def test_a_peer_may_fill_its_window_and_not_a_byte_more() -> None:
    machine = opened()
    feed(machine, frame(DATA, 0, 1, INITIAL_WINDOW), bytes(INITIAL_WINDOW))
    assert machine.consumed(1, INITIAL_WINDOW)
    machine.grow(1, 2 * INITIAL_WINDOW)
    assert machine.control_to_send() == frame(WINDOW_UPDATE, 0, 1, 2 * INITIAL_WINDOW)
    feed(machine, frame(DATA, 0, 1, 2 * INITIAL_WINDOW), bytes(2 * INITIAL_WINDOW))
    violates(machine, frame(DATA, 0, 1, 1))


def test_the_window_is_checked_at_the_header_before_the_bytes() -> None:
    violates(opened(), frame(DATA, 0, 1, INITIAL_WINDOW + 1))
    violates(opened(), frame(DATA, 0, 1, 16 * 1024 * 1024 + 1))
    violates(Yamux(initiator=False), frame(DATA, SYN, 1, INITIAL_WINDOW + 1))


def test_less_than_half_a_window_is_not_granted_again() -> None:
    machine = opened()
    feed(machine, frame(DATA, 0, 1, INITIAL_WINDOW), bytes(INITIAL_WINDOW))
    assert not machine.consumed(1, INITIAL_WINDOW // 2 - 1)
    assert machine.consumed(1, 1)
    with pytest.raises(LocalProtocolError):
        machine.grow(1, MAX_WINDOW + 1)
    with pytest.raises(LocalProtocolError):
        machine.grow(1, INITIAL_WINDOW - 1)


def test_a_send_window_has_32_bits() -> None:
    machine = opened()
    feed(machine, frame(WINDOW_UPDATE, 0, 1, MAX_SEND_WINDOW - INITIAL_WINDOW))
    violates(machine, frame(WINDOW_UPDATE, 0, 1, 1))


def test_late_bytes_of_a_stream_that_we_reset_are_dropped_within_its_window() -> None:
    machine = opened()
    feed(machine, frame(DATA, 0, 1, 100) + bytes(40))
    machine.reset(1)
    assert feed(machine, bytes(60), frame(DATA, FIN, 1, INITIAL_WINDOW - 100), bytes(INITIAL_WINDOW - 100)) == []
    violates(machine, frame(DATA, 0, 1, 1))


def test_late_windows_and_resets_of_closed_streams_mean_nothing() -> None:
    machine = opened()
    machine.reset(1)
    late = [frame(WINDOW_UPDATE, flags, 1, 5) for flags in (0, FIN, RST, ACK)]
    assert feed(machine, *late) == []


# Violations.


@pytest.mark.parametrize("data", [
    b"\1" + frame(PING, SYN, 0, 1)[1:],  # version
    frame(4, 0, 0, 0),
    frame(DATA, 16, 1, 0),
    frame(PING, 0, 0, 1),
    frame(DATA, 0, 3, 0),  # never opened
    frame(WINDOW_UPDATE, 0, 3, 1),
    frame(WINDOW_UPDATE, RST, 3, 0),
    frame(WINDOW_UPDATE, ACK, 2, 0),  # ours to open, and not opened
    frame(WINDOW_UPDATE, 0, 0, 1),
    frame(DATA, SYN, 0, 0),
    frame(WINDOW_UPDATE, SYN, 2, 0),  # ours to open
    frame(WINDOW_UPDATE, SYN, 1, 0),  # twice
    frame(WINDOW_UPDATE, SYN, 2 * MAX_GAPS + 5, 0),
    frame(WINDOW_UPDATE, FIN, 1, 0) + frame(DATA, 0, 1, 1),
])  # fmt: skip
def test_violations(data: bytes) -> None:
    violates(opened(), data)


def test_skipped_ids_may_be_opened_later_but_not_used_before() -> None:
    machine = opened()
    assert feed(machine, frame(WINDOW_UPDATE, SYN, 7, 0), frame(WINDOW_UPDATE, SYN, 3, 0)) == [Opened(7), Opened(3)]
    violates(machine, frame(WINDOW_UPDATE, 0, 5, 1))


def test_streams_over_the_limit_are_refused_and_then_the_peer_is() -> None:
    machine = Yamux(initiator=False, max_inbound=3)
    syn = [frame(WINDOW_UPDATE, SYN, id, 0) for id in range(1, 21, 2)]
    assert len(feed(machine, *syn[:3])) == 3
    machine.control_to_send()
    assert feed(machine, *syn[3:6]) == []
    assert machine.control_to_send() == b"".join(frame(WINDOW_UPDATE, RST, id, 0) for id in (7, 9, 11))
    machine.reset(1)
    assert feed(machine, syn[6]) == [Opened(13)]  # room again: the count of refusals begins anew
    feed(machine, *syn[7:10])
    violates(machine, frame(WINDOW_UPDATE, SYN, 21, 0))


def test_a_peer_that_asks_more_than_it_reads_is_cut_off() -> None:
    machine = Yamux(initiator=False)
    pings = frame(PING, SYN, 0, 1) * (MAX_CONTROL // HEADER + 1)
    feed(machine, pings)
    assert len(machine.control_to_send()) == len(pings)
    violates(machine, pings + frame(PING, SYN, 0, 1))


# Opening and leaving.


def test_only_so_many_streams_wait_for_the_peer() -> None:
    machine = Yamux(initiator=True, max_unacknowledged=2)
    first = machine.open()
    machine.open()
    assert not machine.can_open
    with pytest.raises(LocalProtocolError):
        machine.open()
    assert feed(machine, frame(WINDOW_UPDATE, ACK, first, 0)) == [Acknowledged(first)]
    assert machine.can_open
    machine.open()
    assert feed(machine, frame(WINDOW_UPDATE, RST, 3, 0)) == [WasReset(3)]
    assert machine.can_open


def test_after_the_peer_went_away_nothing_is_opened() -> None:
    machine = Yamux(initiator=True)
    assert feed(machine, frame(GO_AWAY, 0, 0, INTERNAL_ERROR)) == [WentAway(INTERNAL_ERROR)]
    assert not machine.can_open


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.data())
def test_two_machines_never_disagree(data: st.DataObject) -> None:
    """Whatever two correct sides do, in any order and cut anyhow, no byte is lost and nothing is a violation."""
    sides = pair()
    wires = [bytearray(), bytearray()]
    sent: list[dict[int, int]] = [{}, {}]
    got: list[dict[int, int]] = [{}, {}]
    for _ in range(data.draw(st.integers(5, 40))):
        who = data.draw(st.integers(0, 1))
        machine = sides[who]
        known = [id for id in {**sent[who], **got[who]} if machine.is_open(id)]
        action = data.draw(st.sampled_from(["open", "send", "finish", "reset", "deliver", "deliver"]))
        if action == "open":
            sent[who][machine.open()] = 0
        elif action == "deliver":
            cut = data.draw(st.integers(0, len(wires[1 - who])))
            part = bytes(wires[1 - who][:cut])
            del wires[1 - who][:cut]
            for event in feed(machine, part):
                if isinstance(event, Opened):
                    got[who][event.stream] = 0
                elif isinstance(event, Received):
                    got[who][event.stream] = got[who].get(event.stream, 0) + len(event.data)
                    if machine.consumed(event.stream, len(event.data)):
                        machine.grow(event.stream, machine.window_size(event.stream))
        elif known:
            id = data.draw(st.sampled_from(known))
            if action == "reset":
                machine.reset(id)
            elif action == "finish" and machine.send_window(id):
                machine.finish(id)
            elif action == "send" and (window := machine.send_window(id)):
                count = data.draw(st.integers(1, min(window, 200_000)))
                wires[who] += machine.control_to_send() + machine.data_header(id, count) + bytes(count)
                sent[who][id] = sent[who].get(id, 0) + count
        wires[who] += machine.control_to_send()
    for who in (0, 1):
        for id, count in got[who].items():
            assert count <= sent[1 - who].get(id, 0)
    assert not any(machine.failed for machine in sides)


def test_data_may_go_to_its_place_unseen_inside_one_frame_only() -> None:
    machine = opened()
    assert machine.awaits(1) == 0  # a header comes next
    feed(machine, frame(DATA, FIN, 1, 100), b"x" * 10)
    assert (machine.awaits(90), machine.awaits(91)) == (1, 0)
    assert machine.passed(60) == []
    with pytest.raises(LocalProtocolError):
        machine.passed(31)
    assert machine.passed(30) == [Finished(1)]
    assert machine.awaits(1) == 0
    with pytest.raises(LocalProtocolError):
        machine.passed(1)


def test_data_of_a_stream_that_we_reset_has_no_place() -> None:
    machine = opened()
    feed(machine, frame(DATA, 0, 1, 100), b"x" * 10)
    machine.reset(1)
    assert machine.awaits(90) == 0
    assert feed(machine, b"x" * 90) == []
