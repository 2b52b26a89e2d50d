"""The asking side of a stream as a dialogue: what is asked, what may be answered."""

import pytest

from p2pshare_protocols import exchange_messages as x
from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError
from p2pshare_protocols.exchange_client import Client

A, B, C = (b"\x01\x55\x12\x20" + bytes([n]) * 32 for n in range(3))


def sent(data: bytes) -> x.Message:
    return x.decode(data[4:])


def test_blocks_of_a_request_come_in_order_over_several_frames() -> None:
    client = Client()
    id, data = client.blocks([A, B, C])
    assert sent(data) == x.Blocks(id, (A, B, C))
    first = client.receive(x.BlocksData(id, (5, -1), end=False))
    assert (first.first, first.ended, first.wanted) == (0, False, True)
    last = client.receive(x.BlocksData(id, (7,), end=True))
    assert (last.first, last.ended) == (2, True)
    assert client.outstanding == 0


def test_answers_to_different_requests_come_in_any_order() -> None:
    client = Client()
    first, _ = client.have(A)
    second, _ = client.blocks([B])
    third, _ = client.nodes([C])
    assert len({first, second, third}) == 3
    assert client.receive(x.NodesData(third, (C,), (3,), end=True)).ended
    assert client.receive(x.BlocksData(second, (1,), end=True)).ended
    assert client.receive(x.Held(first, x.Holding.ALL)).ended


def test_a_refusal_ends_any_request() -> None:
    client = Client()
    id, _ = client.blocks([A, B])
    assert client.receive(x.Refused(id, "busy")).ended
    assert client.outstanding == 0


def test_a_cancelled_request_may_end_early_and_is_not_wanted() -> None:
    client = Client()
    id, _ = client.blocks([A, B])
    assert sent(client.cancel(id)) == x.Cancel(id)
    assert client.cancel(id) == b""
    received = client.receive(x.BlocksData(id, (), end=True))
    assert (received.ended, received.wanted) == (True, False)
    assert client.cancel(id) == b""


@pytest.mark.parametrize(
    "answer",
    [
        x.BlocksData(99, (1,), end=True),
        x.BlocksData(1, (1, 1, 1), end=True),
        x.BlocksData(1, (1,), end=True),
        x.Held(1, x.Holding.ALL),
        x.NodesData(1, (A,), (1,), end=True),
        x.Blocks(1, (A,)),
        x.Bad(A),
        x.Cancel(1),
    ],
    ids=repr,
)
def test_an_answer_that_nobody_asked_for_is_refused(answer: x.Message) -> None:
    client = Client()
    assert client.blocks([A, B])[0] == 1
    with pytest.raises(RemoteProtocolError):
        client.receive(answer)


def test_our_own_requests_are_bounded() -> None:
    client = Client()
    with pytest.raises(LocalProtocolError):
        client.blocks([])
    with pytest.raises(LocalProtocolError):
        client.nodes([A] * (x.MAX_CIDS + 1))
    for _ in range(x.MAX_REQUESTS):
        client.have(A)
    with pytest.raises(LocalProtocolError):
        client.have(A)
