"""Configuration: what a file or a --set may say, and what is said when it may not."""

import tomllib

import pytest

from p2pshare_protocols import config_schema
from p2pshare_protocols.config_schema import ConfigProblem, parse, parse_set, parse_size

PEER = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"


def test_defaults_are_values_their_own_keys_allow():
    for key in config_schema.KEYS.values():
        assert key.read(key.default) == key.default
        assert key.doc.endswith(".")
        assert key.allowed


def test_a_file_becomes_flat_values():
    text = f"""
    [network]
    listen = ["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/tcp/4001"]
    bootstrap = ["/ip4/192.0.2.1/tcp/4001/p2p/{PEER}"]
    rendezvous = []
    [limits]
    upload = "80MB"
    connections = 100
    """
    assert parse(tomllib.loads(text)) == {
        "network.listen": ("/ip4/0.0.0.0/tcp/4001",),
        "network.bootstrap": (f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}",),
        "network.rendezvous": (),
        "limits.upload": 80_000_000,
        "limits.connections": 100,
    }


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        ("80MB", 80_000_000),
        ("1GiB", 2**30),
        ("1.5 GB", 1_500_000_000),
        ("12", 12),
        ("3k", 3000),
        ("0.000001MB", 1),
        ("2 tib", 2**41),
    ],
)
def test_sizes(value, size):
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value",
    [-1, True, 1.5, "", "MB", "1XB", "-1MB", "1e3", "9" * 20, "9000000PiB", "١MB", ["1"], None],
)
def test_what_is_no_size(value):
    with pytest.raises(ValueError):
        parse_size(value)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ('network.bootstrap=["/ip4/127.0.0.1/tcp/1/p2p/' + PEER + '"]', "network.bootstrap", None),
        ('limits.upload="80MB"', "limits.upload", 80_000_000),
        ("limits.upload=80MB", "limits.upload", 80_000_000),
        ("limits.upload = 7", "limits.upload", 7),
        ("log.level=debug", "log.level", "debug"),
        ("daemon.autostart=false", "daemon.autostart", False),
        ("network.rendezvous=[]", "network.rendezvous", ()),
    ],
)
def test_set_on_the_command_line(text, name, value):
    got = parse_set(text)
    assert got[0] == name
    if value is not None:
        assert got[1] == value
        assert type(got[1]) is type(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("log.level", "KEY=VALUE"),
        ("log.level=loud", 'log.level = "loud" is not allowed'),
        ("log.level=[", "not a value as TOML"),
        ("log.level='info'\nx=1", "more than one value"),
        ("daemon.autostart=1", "daemon.autostart = 1 is not allowed"),
        ("limits.connections=7", "limits.connections = 7 is not allowed"),
        ("limits.connections=true", "limits.connections = true is not allowed"),
        ('network.listen="/ip4/0.0.0.0/tcp/1"', "network.listen"),
        ('network.listen=["/ip4/0.0.0.0/udp/1"]', "no IP address with a TCP port"),
        ('network.listen=["nonsense"]', "not a multiaddr"),
        ('network.bootstrap=["/ip4/127.0.0.1/tcp/1"]', "/p2p/PEER_ID"),
        ('network.rendezvous=["lan","moon"]', "'moon' in it"),
        ('dht.networks=["kad"]', "'kad' in it"),
        ("dht.networks=" + "[" * 5000, "not a value as TOML"),
    ],
)
def test_a_bad_set_names_the_key_and_the_value(text, says):
    with pytest.raises(ConfigProblem) as caught:
        parse_set(text)
    assert says in caught.value.message
    assert caught.value.hint or "\n" in text


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"network": {"listn": []}}, "Did you mean network.listen?"),
        ({"quota": 1}, "Did you mean storage.quota?"),
        ({"limits": {"upload": {"deep": 1}}}, ""),
        ({"zzz": {"qqq": 1}}, "Known keys: network.listen"),
        ({"network": []}, "Did you mean network.listen?"),
    ],
)
def test_unknown_keys_are_errors_with_the_nearest_name(values, hint):
    with pytest.raises(ConfigProblem) as caught:
        parse(values)
    assert hint in caught.value.hint


def test_values_are_shown_as_toml_writes_them():
    for value in ('a"b\\c\n', ("x", "y"), True, 5):
        back = tomllib.loads(f"value = {config_schema.show(value)}")["value"]
        assert (tuple(back) if isinstance(back, list) else back) == value
