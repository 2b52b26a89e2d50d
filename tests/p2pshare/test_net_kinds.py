"""What is known of a peer's session: how long it is believed, and that it outlives the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2pshare.errors import DiskFull
from p2pshare.net.kinds import BELIEVED_SECONDS, MAX_KNOWN, Kind, KnownPeers
from p2pshare.store import open_store
from p2pshare.store.peers import Peers
from p2pshare_protocols.noise_cipher import NOISE, NOISE_AESGCM
from tests.support_net import identified, network
from tests.support_relay import ECHO, PLAIN, exchange, relayed, silence, waits_until_answer, with_aes


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_kind_is_believed_for_a_week_from_when_it_was_first_seen() -> None:
    clock = Clock()
    known = KnownPeers(clock)
    known.learn("a", NOISE, ours=False)
    clock.now += BELIEVED_SECONDS - 1
    known.learn("a", NOISE, ours=True)
    assert known.of("a") == Kind(NOISE, True, 1000.0)
    clock.now += 1
    assert known.of("a") is None
    known.learn("a", NOISE, ours=False)
    assert known.of("a") == Kind(NOISE, False, clock.now)
    clock.now -= 1
    assert known.of("a") is None  # the clock was set back: nothing is known of when it was


def test_the_least_lately_heard_of_go_first_and_who_is_forgotten_is_told() -> None:
    told: list[str] = []
    known = KnownPeers(Clock(), told.append)
    known.restore((str(number), NOISE, True, 900.0) for number in range(MAX_KNOWN))
    known.learn("0", NOISE, ours=True)
    known.learn("new", NOISE, ours=True)
    assert known.of("1") is None
    assert known.of("0") is not None
    known.forget("0")
    known.forget("0")
    assert (known.of("0"), told) == (None, ["0"])


@contextmanager
def peers_of(home: Path) -> Iterator[Peers]:
    with open_store(home) as store:
        yield store.peers


@pytest.fixture
async def met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of node 1, which met node 2 and ended; from now on nothing but requests is on the wire."""
    with_aes(monkeypatch, True)
    with peers_of(tmp_path) as remembered:
        async with network(1, remembered=remembered) as one, network(2) as two:
            await one.connect(two.addresses()[0])
            await identified(one, two.peer_id)
        [(peer, session, ours, _)] = remembered.spoken()
        assert (peer, session, ours) == (two.peer_id, NOISE_AESGCM, True)
    silence(monkeypatch)
    return tmp_path


async def test_the_first_dial_after_a_restart_takes_three_round_trips(met: Path) -> None:
    with peers_of(met) as remembered:
        async with relayed(remembered=remembered) as (one, two, relay):
            await exchange(relay, one, two.peer_id, ECHO)
            assert waits_until_answer(relay) == 2  # after TCP's own: session with Noise, request
            assert relay.connections == 1


async def test_who_became_another_kind_is_reached_by_the_same_dial_and_forgotten(
    met: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_aes(monkeypatch, True, False)
    with peers_of(met) as remembered:
        async with relayed(remembered=remembered) as (one, two, relay):
            await exchange(relay, one, two.peer_id, PLAIN)
            assert relay.connections == 2
            assert remembered.spoken() == []


async def test_a_disk_that_is_full_does_not_keep_a_dial_from_its_second_attempt(
    met: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Peers, peer_id: str, session: str, ours: bool, learned: float) -> None:
        raise DiskFull("no space")

    with_aes(monkeypatch, True, False)
    with peers_of(met) as remembered:
        monkeypatch.setattr(Peers, "spoke", full)
        async with relayed(remembered=remembered) as (one, two, relay):
            await exchange(relay, one, two.peer_id, PLAIN)
            assert relay.connections == 2
