"""Links that people paste. The golden ones stand in protocols/link.md."""

from __future__ import annotations

import re

import pytest

from p2pshare_protocols.cid import CID
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.link import Link, format_link, parse_link

TEXT = "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"
HELLO = CID.parse(TEXT)
OLD = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
ADDRESS = "/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2"

GOLDEN = [
    (f"p2pshare:{TEXT}", Link(HELLO)),
    (f"p2pshare:{TEXT}/2026-raft.mp4", Link(HELLO, "2026-raft.mp4")),
    (f"p2pshare:{TEXT}/two%20words%2B%26.txt", Link(HELLO, "two words+&.txt")),
    (f"p2pshare:{TEXT}/日本語.txt", Link(HELLO, "日本語.txt")),
    (f"p2pshare:{TEXT}/talks/2026/a.mp4", Link(HELLO, "talks", ("2026", "a.mp4"))),
    (f"p2pshare:{TEXT}/x+a:{ADDRESS}+k:aebagba", Link(HELLO, "x", (), (ADDRESS,), b"\x01\x02\x03\x04")),
]


@pytest.mark.parametrize(("text", "link"), GOLDEN)
def test_golden_links(text: str, link: Link) -> None:
    assert parse_link(text) == link
    made = format_link(link.cid, link.name, path=link.path, addresses=link.addresses, key=link.key)
    assert made == text
    assert format_link(link) == text


@pytest.mark.parametrize(
    ("text", "link"),
    [
        (TEXT, Link(HELLO)),
        (f"  {TEXT}/\n", Link(HELLO)),
        (f"{TEXT}/a b/100%.txt", Link(HELLO, path=("a b", "100%.txt"))),
        (f"ipfs://{TEXT}", Link(HELLO)),
        (f"ipfs://{TEXT}/a%20b/c", Link(HELLO, path=("a b", "c"))),
        (f"/ipfs/{TEXT}/a", Link(HELLO, path=("a",))),
        (f"P2PSHARE:{TEXT}", Link(HELLO)),
        (f"p2pshare:{TEXT}/x?a={ADDRESS}&z=later", Link(HELLO, "x", (), (ADDRESS,))),
        (f"p2pshare:{TEXT}+z:later", Link(HELLO)),
        (
            "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn",
            Link(CID.parse("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")),
        ),
    ],
)
def test_what_else_is_taken(text: str, link: Link) -> None:
    assert parse_link(text) == link


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p2pshare:",
        "p2pshare:hello",
        "/ipns/example.org",
        "ipns://example.org",
        f"{TEXT}/../x",
        f"p2pshare:{TEXT}/n/%2e%2e/x",
        f"p2pshare:{TEXT}/n/a%2Fb",
        f"p2pshare:{TEXT}+a:nothing",
        f"p2pshare:{TEXT}+nofield",
        f"p2pshare:{TEXT}+k:aebagba+k:aebagba",
        f"p2pshare:{TEXT}+k:",
        f"p2pshare:{TEXT}" + f"+a:{ADDRESS}" * 9,
        f"{TEXT}/" + "a/" * 65,
        "p2pshare:" + "b" * 9000,
        "https://example.org/",
        f"p2pshare:{TEXT}/a.txt\np2pshare:{TEXT}/a.txt",
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_link(text)


def test_every_character_is_safe_in_a_shell() -> None:
    nasty = "".join(map(chr, range(1, 256))) + "\u2028\u00a0💥\udcff"
    link = format_link(HELLO, nasty, addresses=[ADDRESS], key=b"k" * 32)
    ascii_part = "".join(c for c in link if c < "\x80")
    assert re.fullmatch(r"[A-Za-z0-9._:/+%-]+", ascii_part)
    assert not any(c.isspace() for c in link)
    assert parse_link(link).name == nasty
