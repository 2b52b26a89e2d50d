"""Every configuration key: its type, default, meaning and what it allows. The CLI and the daemon both read this.

Pure: values come in as TOML gave them (nested tables), and go out as one flat dict {"network.listen": (...)}.
`docs/configuration.md` is made from `KEYS`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from p2pshare_protocols import limit_schedule, multiaddr
from p2pshare_protocols.errors import ProtocolError, RemoteProtocolError
from p2pshare_protocols.peerid import ed25519_from_peer_id

Value = bool | int | str | tuple[str, ...]

MAX_LIST = 256  # entries of one list value
MAX_TEXT = 1024  # characters of one entry


class ConfigProblem(ProtocolError):
    """One sentence that names the key, the value and what is allowed; `hint` is a remedy or empty."""

    def __init__(self, message: str, *, key: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.key = key
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `read` turns TOML's value into ours, or raises ValueError; `allowed` says in words what it takes."""

    name: str
    default: Value
    doc: str
    allowed: str
    read: Callable[[object], Value]


_UNITS: dict[str, int] = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGTP", 1):
    _UNITS |= {f"{_letter}B": 1000**_power, f"{_letter}IB": 1024**_power, _letter: 1000**_power}
_SIZE = re.compile(r" *([0-9]{1,15})(?:\.([0-9]{1,6}))? *([A-Za-z]*) *")


def parse_size(value: object) -> int:
    """Bytes from an int or a text such as "80MB" (10^6), "1GiB" (2^30), "1.5 GB". Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < 2**63:
            return value
        raise ValueError("negative or too large")
    match = _SIZE.fullmatch(value) if isinstance(value, str) and len(value) < 64 else None
    if match is None or match[3].upper() not in _UNITS:
        raise ValueError("not a size")
    unit = _UNITS[match[3].upper()]
    fraction = match[2] or ""
    size: int = int(match[1]) * unit + int(fraction or "0") * unit // int(10 ** len(fraction))
    if size >= 2**63:
        raise ValueError("too large")
    return size


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("not true or false")


def _number(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError("out of range")
        return value

    return read


def _choice(*choices: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError("not one of the choices")
        return value

    return read


def _texts(check: Callable[[str], None]) -> Callable[[object], tuple[str, ...]]:
    def read(value: object) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)) or len(value) > MAX_LIST:
            raise ValueError("not a list")
        for entry in value:
            if not isinstance(entry, str) or not 0 < len(entry) <= MAX_TEXT:
                raise ValueError(f"{entry!r:.80} in it is not a text")
            check(entry)
        return tuple(dict.fromkeys(value))

    return read


def _one_of(*choices: str) -> Callable[[str], None]:
    def check(entry: str) -> None:
        if entry not in choices:
            raise ValueError(f"{entry!r:.80} in it is none of them")

    return check


def _is_address(entry: str) -> None:
    try:
        multiaddr.to_binary(entry)
    except RemoteProtocolError as error:
        raise ValueError(f"{entry!r:.200} in it is not a multiaddr: {error}") from error


def _is_listen_address(entry: str) -> None:
    _is_address(entry)
    if multiaddr.ip_of(entry) is None or multiaddr.tcp_port_of(entry) is None:
        raise ValueError(f"{entry!r:.200} in it has no IP address with a TCP port")


def _is_peer_address(entry: str) -> None:
    _is_address(entry)
    if multiaddr.split_peer(entry)[1] is None:
        raise ValueError(f"{entry!r:.200} in it does not end in /p2p/PEER_ID")


def _is_publisher(entry: str) -> None:
    try:
        trusted = ed25519_from_peer_id(entry)
    except RemoteProtocolError:
        trusted = None
    if trusted is None:
        raise ValueError(f"{entry!r:.80} in it is not the peer ID of a publisher")


def _is_rule(entry: str) -> None:
    limit_schedule.parse(entry, parse_size)


def _is_protocol(entry: str) -> None:
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+){1,8}", entry):
        raise ValueError(f"{entry!r:.80} in it is not a protocol name")


_IPFS_BOOTSTRAP = (  # the names that Kubo and js-libp2p begin with
    "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
)
_SIZES = 'a number of bytes, or a text such as "80MB" or "1GiB"; 0 is no limit'

KEYS: dict[str, Key] = {
    key.name: key
    for key in (
        Key(
            "network.listen",
            ("/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"),
            "The addresses to listen on. Port 0 takes any free port. An empty list listens nowhere.",
            'a list of multiaddrs with an IP address and a TCP port, such as "/ip4/0.0.0.0/tcp/4001"',
            _texts(_is_listen_address),
        ),
        Key(
            "network.bootstrap",
            (),
            "Peers to dial at the start, besides those that are known and found.",
            'a list of multiaddrs that end in "/p2p/PEER_ID"; `p2pshare id` prints such a line',
            _texts(_is_peer_address),
        ),
        Key(
            "network.rendezvous",
            ("lan", "ipfs"),
            'Where to meet other nodes: "lan" is by mDNS, "ipfs" the public IPFS DHT.',
            'a list of "lan" and "ipfs"; [] is neither',
            _texts(_one_of("lan", "ipfs")),
        ),
        Key(
            "network.ipfs_bootstrap",
            tuple(f"/dnsaddr/bootstrap.libp2p.io/p2p/{peer}" for peer in _IPFS_BOOTSTRAP),
            'Peers of the public IPFS DHT, asked when "ipfs" is in network.rendezvous; [] asks those met before only.',
            'a list of multiaddrs that end in "/p2p/PEER_ID", such as "/dnsaddr/NAME/p2p/PEER_ID"',
            _texts(_is_peer_address),
        ),
        Key(
            "network.remembered",
            True,
            "Dial peers of earlier runs at the start.",
            "true or false",
            _flag,
        ),
        Key(
            "network.allow_private_addresses",
            False,
            "Believe strangers about private and loopback addresses (several nodes on one machine, a closed network).",
            "true or false",
            _flag,
        ),
        Key(
            "dht.networks",
            ("/p2pshare/kad/1.0.0",),
            "The DHTs to take part in, by protocol name.",
            'a list of protocol names: "/p2pshare/kad/1.0.0" is ours, "/ipfs/kad/1.0.0" the public IPFS DHT',
            _texts(_is_protocol),
        ),
        Key(
            "dht.mode",
            "auto",
            "Whether this node keeps records for others: auto does so while others can reach it.",
            '"auto", "client" or "server"',
            _choice("auto", "client", "server"),
        ),
        Key(
            "dht.announce_rate",
            200,
            "Messages a second that announcing what is shared may cost.",
            "a whole number from 1 to 10000",
            _number(1, 10_000),
        ),
        Key(
            "index.publish",
            True,
            "Place the words of what is shared in the network, so that everybody finds it; a share can be --no-index.",
            "true or false",
            _flag,
        ),
        Key(
            "index.serve",
            True,
            "Answer searches of others, and keep postings for them while this node is a server of the DHT.",
            "true or false",
            _flag,
        ),
        Key(
            "index.metadata",
            ("audio",),
            "What is asked for its title when a share has none: a file is read by a process that may do nothing else.",
            'a list of "audio" and "document" (PDF; needs p2pshare[documents]); [] is neither',
            _texts(_one_of("audio", "document")),
        ),
        Key(
            "index.files_inside",
            10_000,
            "How many files inside one shared directory are placed under their own names.",
            "a whole number from 0 to 1000000",
            _number(0, 1_000_000),
        ),
        Key(
            "index.trusted",
            (),
            "Publishers that are vouched for: what they publish ranks higher, and is never crowded out.",
            "a list of peer IDs, as `publisher` says in a search with --json",
            _texts(_is_publisher),
        ),
        Key(
            "storage.quota",
            0,
            "The most bytes of kept copies and cached blocks together; files in place and fetched ones do not count.",
            _SIZES,
            parse_size,
        ),
        Key("limits.upload", 0, "Bytes a second sent to all peers together.", _SIZES, parse_size),
        Key("limits.download", 0, "Bytes a second received from all peers together.", _SIZES, parse_size),
        Key(
            "limits.schedule",
            (),
            "Other limits at certain local times; of several rules that hold the first counts.",
            'a list of rules such as "22:00-07:00 upload=0" or "mon-fri 09:00-17:00 download=2MB"; 0 is no limit',
            _texts(_is_rule),
        ),
        Key(
            "limits.upload_slots",
            32,
            "How many peers are sent blocks at one time; the others wait in a queue, one of them in an extra slot.",
            "a whole number from 1 to 256",
            _number(1, 256),
        ),
        Key(
            "limits.connections",
            512,
            "The most connections with peers at a time.",
            "a whole number from 8 to 65536",
            _number(8, 65536),
        ),
        Key(
            "limits.connections_per_peer",
            8,
            "The most connections with one peer; a newer one takes the place of the longest idle one.",
            "a whole number from 1 to 64",
            _number(1, 64),
        ),
        Key(
            "limits.half_open",
            128,
            "The most connections of strangers that have not proven yet who they are.",
            "a whole number from 8 to 4096",
            _number(8, 4096),
        ),
        Key(
            "daemon.autostart",
            True,
            "Whether share, search, fetch and status start the daemon when it is not running.",
            "true or false",
            _flag,
        ),
        Key(
            "log.level",
            "info",
            "How much the log says.",
            '"debug", "info", "warning" or "error"',
            _choice("debug", "info", "warning", "error"),
        ),
    )
}


def defaults() -> dict[str, Value]:
    return {name: key.default for name, key in KEYS.items()}


def key_named(name: str) -> Key:
    """The key, or ConfigProblem with the nearest name."""
    key = KEYS.get(name)
    if key is not None:
        return key
    # A section's name, or a key without its section, is closer to what was meant than letters can tell.
    near = [known for known in KEYS if known.endswith(f".{name}") or known.startswith(f"{name}.")]
    near = near or difflib.get_close_matches(name[:100], KEYS, n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]}?" if near else f"Known keys: {', '.join(KEYS)}."
    raise ConfigProblem(f"there is no configuration key {name!r:.100}", key=name, hint=hint)


def check(name: str, value: object) -> Value:
    """Our value of one key from TOML's. Raises ConfigProblem."""
    key = key_named(name)
    try:
        return key.read(value)
    except ValueError as error:
        # For a scalar the sentence already says it all; for a list it must name the entry.
        why = f" ({error})" if isinstance(value, (list, tuple)) else ""
        raise ConfigProblem(
            f"{name} = {show(value):.200} is not allowed{why}", key=name, hint=f"It takes {key.allowed}."
        ) from error


def parse(values: Mapping[str, object]) -> dict[str, Value]:
    """The flat values of the keys that `values` (nested tables, as tomllib gives them) sets. Raises ConfigProblem."""
    return {name: check(name, value) for name, value in _flatten(values, "")}


def _flatten(values: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        full = f"{prefix}{name}"
        if isinstance(value, Mapping) and full not in KEYS and prefix == "":
            yield from _flatten(value, f"{full}.")
        else:
            yield full, value


def parse_set(text: str) -> tuple[str, Value]:
    """ "KEY=VALUE" of a command line, VALUE as TOML writes it; a plain word needs no quotes. Raises ConfigProblem."""
    name, equals, written = text.partition("=")
    name = name.strip()
    if not equals:
        raise ConfigProblem(f"{text!r:.100} is not KEY=VALUE", hint="For example: log.level=debug")
    return name, parse_value(name, written)


def parse_value(name: str, written: str) -> Value:
    """The value of key `name` from its TOML text; a plain word such as debug or 80MB needs no quotes."""
    key = key_named(name)
    if re.fullmatch(r"(?!(true|false)$)[A-Za-z0-9.]*[A-Za-z][A-Za-z0-9.]*", written.strip()):
        return check(name, written.strip())
    try:
        table = tomllib.loads(f"value = {written}")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        message = f"{name} = {written!r:.200} is not a value as TOML writes it"
        raise ConfigProblem(message, key=name, hint=f"It takes {key.allowed}.") from error
    if set(table) != {"value"}:
        raise ConfigProblem(f"{name} = {written!r:.200} is more than one value", key=name)
    return check(name, table["value"])


def show(value: object) -> str:
    """A value as TOML would write it, for messages and tables."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(show(entry) for entry in value) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
    return str(value)
