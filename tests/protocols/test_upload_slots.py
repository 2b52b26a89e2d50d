"""Upload slots on a clock that is an argument: fair turns, one optimistic slot, places in the queue."""

from __future__ import annotations

import pytest

from p2pshare_protocols.upload_slots import TURN, UploadSlots

PEERS = [f"peer{n}" for n in range(10)]


def test_nobody_waits_while_there_are_slots_and_keeps_its_own_for_as_long_as_nobody_waits() -> None:
    slots = UploadSlots(2)
    assert [slots.want(peer, 0) for peer in PEERS[:3]] == [True] * 3  # two, and the optimistic one
    assert all(slots.want(peer, 100 * TURN) for peer in PEERS[:3])
    assert slots.want(PEERS[3], 100 * TURN)
    assert slots.waiting == 1


def test_who_waits_is_told_its_place_and_moves_up() -> None:
    slots = UploadSlots(1)
    for peer in PEERS[:5]:
        slots.want(peer, 0)
    assert [slots.place(peer) for peer in PEERS[:5]] == [0, 0, 1, 2, 3]
    slots.leave(PEERS[3], 1)
    assert slots.place(PEERS[4]) == 2
    slots.leave(PEERS[0], 1)
    assert slots.waiting == 1
    assert slots.want(PEERS[2], 1)


def test_over_a_while_all_get_the_same() -> None:
    slots = UploadSlots(3)
    turns = dict.fromkeys(PEERS, 0)
    for second in range(3000):
        for peer in PEERS:
            if slots.want(peer, second):
                turns[peer] += 1
                slots.sent(peer, 1_000_000)
    fair = 3000 * 4 / len(PEERS)
    assert all(count == pytest.approx(fair, rel=0.1) for count in turns.values())


def test_a_newcomer_gets_the_optimistic_slot_within_turns_though_others_always_took_less() -> None:
    slots = UploadSlots(1)
    slots.sent("hungry", 10**9)
    small = iter(range(10**6))
    holding = [f"small{next(small)}" for _ in range(2)]
    for peer in holding:
        slots.want(peer, 0)
    slots.want("hungry", 0)
    for second in range(1, 200):
        slots.want(f"small{next(small)}", second)  # another that was never sent anything
        if slots.want("hungry", second):
            break
    else:
        pytest.fail("it never got a slot")


def test_there_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="0 upload slots"):
        UploadSlots(0)
