"""status, peers, events, call: what the node is, whom it knows, and any method by name."""

from __future__ import annotations

import json
from typing import Any

import click

from p2pshare_cli.context import Context, command_options
from p2pshare_cli.errors import CommandError
from p2pshare_cli.groups import Listing
from p2pshare_cli.output import duration, short_id, size, speed_text
from p2pshare_cli.reach import reach


@click.command()
@command_options
def status(context: Context) -> None:
    """One screen: reachable, peers, shares, jobs, rates, disk, DHT."""
    with context.node(start=True) as node:
        about = node.call("status")
    context.output.event(about)
    for label, value in _status_lines(about):
        context.output.say(f"{label:<8} {value}")
    for problem in about.get("problems") or []:
        context.output.say(f"problem  {problem}")


def _status_lines(about: dict[str, Any]) -> list[tuple[str, str]]:
    rates, disk, dht = about.get("rates") or {}, about.get("disk") or {}, about.get("dht") or {}
    jobs = about.get("jobs") or {}
    running = ", ".join(f"{count} {state}" for state, count in jobs.items() if count) or "none"
    lines = [
        ("node", f"{about.get('peer_id') or 'starting'}  (p2pshare {about.get('version')})"),
        ("reach", reach(about)),
        ("peers", _peers(about)),
        ("shares", str(about.get("shares", 0))),
        ("jobs", running),
        ("rates", f"in {speed_text(rates.get('in') or 0)}, out {speed_text(rates.get('out') or 0)}"),
        ("disk", f"{size(disk.get('free'))} free, catalogue {size(disk.get('catalogue'))}"),
        ("dht", _dht(dht)),
        ("up", duration(float(about.get("uptime") or 0))),
    ]
    lines.extend(("address", str(address)) for address in about.get("addresses") or [])
    return lines


def _peers(about: dict[str, Any]) -> str:
    network = about.get("network") or {}
    limit = (network.get("limits") or {}).get("connections")
    shown = str(about.get("peers", 0))
    if limit:
        shown += f"  ({network.get('connections', 0)} of at most {limit} connections)"
    refused = sum((network.get("refused") or {}).values())
    return f"{shown}, {refused} refused" if refused else shown


def _dht(dht: dict[str, Any]) -> str:
    shown = f"{dht.get('nodes', 0)} nodes known, {dht.get('mode') or 'not up yet'}"
    if dht.get("why"):
        shown += f" ({dht['why']})"
    if dht.get("records"):
        shown += f", {dht['records']} provider records kept"
    if dht.get("to_announce"):
        shown += f", {dht.get('announced', 0)} of {dht['to_announce']} shares announced"
    if (announce := dht.get("announce") or {}).get("due"):
        shown += f", {announce['due']} wait, the oldest for {announce['oldest']:.0f} s"
    return shown


@click.group(cls=Listing)
def peers() -> None:
    """Who is connected: list, connect, disconnect, info."""


@peers.command("list")
@command_options
def list_peers(context: Context) -> None:
    """The connected peers."""
    with context.node() as node:
        listed = node.call("peers.list")["peers"]
    for peer in listed:
        context.output.event(peer)
    if not listed:
        context.output.say("No peers. Connect one with: p2pshare peers connect MULTIADDR")
        return
    columns = [("peer", "<"), ("dir", "<"), ("rtt", ">"), ("in", ">"), ("out", ">"), ("agent", "<"), ("address", "<")]
    context.output.table(columns, (_peer_row(peer) for peer in listed))


def _peer_row(peer: dict[str, Any]) -> list[str]:
    rtt = peer.get("rtt")
    return [
        short_id(peer["peer_id"]),
        peer.get("direction", ""),
        f"{rtt * 1000:.0f} ms" if rtt is not None else "-",
        size(peer.get("bytes_in")),
        size(peer.get("bytes_out")),
        str(peer.get("agent") or ""),
        str(peer.get("address") or ""),
    ]


@peers.command("connect")
@click.argument("address", metavar="MULTIADDR")
@command_options
def connect_peer(context: Context, address: str) -> None:
    """Connect to a peer by its address, as `p2pshare id` prints it there."""
    with context.node(start=True) as node:
        about = node.call("peers.connect", address=address)
    context.output.event(about)
    context.output.say(f"Connected to {about['peer_id']}.")


@peers.command("disconnect")
@click.argument("peer", metavar="PEER_ID")
@command_options
def disconnect_peer(context: Context, peer: str) -> None:
    """Close the connections to a peer."""
    with context.node() as node:
        about = node.call("peers.disconnect", peer=peer)
    context.output.event({"event": "done", **about})
    context.output.say(f"Disconnected from {peer}.")


@peers.command("info")
@click.argument("peer", metavar="PEER_ID")
@command_options
def peer_info(context: Context, peer: str) -> None:
    """All that is known about a peer."""
    with context.node() as node:
        about = node.call("peers.info", peer=peer)
    context.output.event(about)
    rtt = about.get("rtt")
    lines = [
        ("peer", about["peer_id"]),
        ("address", f"{about.get('address')}  ({'they' if about.get('direction') == 'in' else 'we'} dialled)"),
        ("for", duration(float(about.get("since") or 0))),
        ("agent", about.get("agent") or "not known yet"),
        ("rtt", "not known yet" if rtt is None else f"{rtt * 1000:.0f} ms"),
        ("bytes", f"in {size(about.get('bytes_in'))}, out {size(about.get('bytes_out'))}"),
        ("layers", f"{about.get('security')}, {about.get('muxer')}"),
        *(("speaks", protocol) for protocol in about.get("protocols") or []),
        *(("listens", address) for address in about.get("addresses") or []),
    ]
    for label, value in lines:
        context.output.say(f"{label:<8} {value}")


@click.command()
@click.argument("topics", nargs=-1, metavar="[TOPIC…]")
@click.option("--since", type=int, help="First the events after this number.")
@command_options
def events(context: Context, topics: tuple[str, ...], since: int | None) -> None:
    """Follow events, one JSON object a line, until Ctrl-C."""
    context.output.as_json = True
    with context.node() as node:
        for event in node.stream("events", topics=list(topics), since=since):
            context.output.event(event)


@click.command()
@click.argument("method")
@click.argument("params", nargs=-1, metavar="[JSON|k=v…]")
@command_options
def call(context: Context, method: str, params: tuple[str, ...]) -> None:
    """Any control method; `p2pshare call rpc.discover` lists them."""
    given = _params(params)
    context.output.as_json = True
    with context.node(start=True) as node:
        for answer in node.stream(method, **given):
            context.output.event(answer)


def _params(words: tuple[str, ...]) -> dict[str, Any]:
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        try:
            whole = json.loads(words[0])
        except ValueError as error:
            raise CommandError("usage", f"the parameters are not JSON: {error}") from None
        return dict(whole)
    given: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise CommandError("usage", f"{word!r} is neither JSON nor KEY=VALUE", "p2pshare call jobs.show job=7")
        try:
            given[key] = json.loads(value)
        except ValueError:
            given[key] = value
    return given
