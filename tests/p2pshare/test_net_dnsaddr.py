"""/dnsaddr: what the DNS says becomes addresses of peers, within bounds, whatever it says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rrset
import trio

from p2pshare.net import dnsaddr, first_peers
from tests.support_net import key_pair, network, until

ONE, TWO = key_pair(1).peer_id, key_pair(2).peer_id


class Zone:
    """TXT records in a dict; counts what is asked."""

    def __init__(self, records: dict[str, Sequence[str | bytes]]) -> None:
        self._records = records
        self.asked: list[str] = []

    async def __call__(self, name: str) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        self.asked.append(name)
        return [text.encode() if isinstance(text, str) else text for text in self._records.get(name, ())]


async def test_a_name_that_leads_to_names_gives_their_addresses() -> None:
    zone = Zone(
        {
            "_dnsaddr.example.org": [f"dnsaddr=/dnsaddr/a.example.org/p2p/{ONE}", "v=spf1 -all"],
            "_dnsaddr.a.example.org": [
                f"dnsaddr=/ip4/192.0.2.1/tcp/4001/p2p/{ONE}",
                f"dnsaddr=/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{ONE}",
                f"dnsaddr=/ip4/192.0.2.9/tcp/4001/p2p/{TWO}",
            ],
        }
    )
    assert await dnsaddr.resolve(["/dnsaddr/Example.org."], zone) == {ONE: ["/ip4/192.0.2.1/tcp/4001"]}
    assert zone.asked == ["_dnsaddr.example.org", "_dnsaddr.a.example.org"]


async def test_an_address_that_names_a_peer_gives_no_other() -> None:
    zone = Zone(
        {"_dnsaddr.x.org": [f"dnsaddr=/ip4/192.0.2.1/tcp/1/p2p/{TWO}", f"dnsaddr=/ip4/192.0.2.2/tcp/1/p2p/{ONE}"]}
    )
    found = await dnsaddr.resolve([f"/dnsaddr/x.org/p2p/{ONE}", f"/ip4/192.0.2.3/tcp/1/p2p/{ONE}"], zone)
    assert found == {ONE: ["/ip4/192.0.2.2/tcp/1", "/ip4/192.0.2.3/tcp/1"]}


async def test_names_that_lead_to_themselves_or_for_ever_are_bounded() -> None:
    def more(number: int) -> list[str]:
        return [f"dnsaddr=/dnsaddr/{number}-{n}.org" for n in range(100)]

    zone = Zone({"_dnsaddr.loop.org": ["dnsaddr=/dnsaddr/loop.org"]})
    assert await dnsaddr.resolve(["/dnsaddr/loop.org"], zone) == {}
    assert len(zone.asked) == 1
    wide = Zone({"_dnsaddr.0.org": more(0), **{f"_dnsaddr.0-{n}.org": more(n) for n in range(100)}})
    assert await dnsaddr.resolve(["/dnsaddr/0.org"], wide) == {}
    assert len(wide.asked) == dnsaddr.MAX_LOOKUPS
    deep = Zone({f"_dnsaddr.d{n}.org": [f"dnsaddr=/dnsaddr/d{n + 1}.org"] for n in range(100)})
    assert await dnsaddr.resolve(["/dnsaddr/d0.org"], deep) == {}
    assert len(deep.asked) == dnsaddr.MAX_DEPTH
    many = Zone({"_dnsaddr.m.org": [f"dnsaddr=/ip4/192.0.2.1/tcp/{n}/p2p/{ONE}" for n in range(1, 65)] * 2})
    twice = await dnsaddr.resolve(["/dnsaddr/m.org", *(f"/ip4/192.0.2.2/tcp/{n}/p2p/{TWO}" for n in range(1, 9))], many)
    assert sum(map(len, twice.values())) == dnsaddr.MAX_ADDRESSES


async def test_records_that_are_none_give_nothing() -> None:
    bad = [
        b"",
        b"dnsaddr=",
        b"dnsaddr=\xff",
        b"dnsaddr=/ip4/1.2.3.4/tcp/1",
        b"dnsaddr=/ip4/0.0.0.0/tcp/1/p2p/" + ONE.encode(),
    ]
    assert await dnsaddr.resolve(["/dnsaddr/bad.org", "nonsense"], Zone({"_dnsaddr.bad.org": bad})) == {}


@asynccontextmanager
async def dns_server(records: dict[str, str]) -> AsyncIterator[dns.asyncresolver.Resolver]:
    """A name server on loopback that has these TXT records, and a resolver that asks it."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))

        async def answer() -> None:
            while True:
                data, peer = await sock.recvfrom(4096)
                question = dns.message.from_wire(data)
                response = dns.message.make_response(question)
                name = question.question[0].name
                text = records.get(name.to_text(omit_final_dot=True))
                if text is not None:
                    response.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", f'"{text}"'))
                await sock.sendto(response.to_wire(), peer)

        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = sock.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            yield resolver
            nursery.cancel_scope.cancel()


async def test_a_bootstrap_peer_is_found_through_a_name_server() -> None:
    async with network(2) as two:
        record = f"dnsaddr={two.addresses()[0]}"
        async with (
            dns_server({"_dnsaddr.example.org": record}) as resolver,
            network(1) as one,
            trio.open_nursery() as nursery,
        ):

            async def look_up(name: str) -> list[bytes]:
                return await dnsaddr.ask(resolver, name)

            assert await look_up("_dnsaddr.nowhere.org") == []
            nursery.start_soon(first_peers.keep_bootstrap, one, TWO, ["/dnsaddr/example.org"], look_up)
            await until(one, lambda: one.is_connected(TWO))
            nursery.cancel_scope.cancel()


async def test_without_a_name_server_nothing_is_found_and_nothing_fails() -> None:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = 1
    assert await dnsaddr.ask(resolver, "_dnsaddr.example.org") == []
