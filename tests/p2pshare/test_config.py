"""The configuration that a daemon runs with: defaults, file, --set."""

import pytest

from p2pshare.config import find_places, load
from p2pshare.errors import ConfigError
from p2pshare_protocols import config_schema


def test_without_a_file_the_defaults_hold(tmp_path):
    config = load(tmp_path / "config.toml")
    assert dict(config.values) == config_schema.defaults()
    assert set(config.sources.values()) == {"default"}


def test_a_set_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[limits]\nupload = "1MB"\ndownload = "2MB"\n')
    config = load(path, ["limits.upload=3MB"])
    assert config.number("limits.upload") == 3_000_000
    assert config.number("limits.download") == 2_000_000
    described = config.describe()
    assert [described[f"limits.{key}"]["source"] for key in ("upload", "download", "connections")] == [
        "set",
        "file",
        "default",
    ]
    assert described["network.rendezvous"]["value"] == ["lan", "ipfs"]


def test_values_come_by_their_type(tmp_path):
    config = load(tmp_path / "none.toml")
    assert config.flag("daemon.autostart") is True
    assert config.text("log.level") == "info"
    assert config.texts("network.bootstrap") == ()
    for read, key in ((config.flag, "log.level"), (config.number, "daemon.autostart"), (config.text, "dht.networks")):
        with pytest.raises(TypeError):
            read(key)
    with pytest.raises(TypeError):
        config.texts("log.level")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[network]\nlisten = 5\n", "network.listen = 5 is not allowed"),
        (b"[network]\nlistne = []\n", "network.listne"),
        (b"[network\n", "is not TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"x = " + b"[" * 5000, "is not TOML"),
        (b"#" * ((1 << 20) + 1), "longer than"),
    ],
)
def test_a_bad_file_is_an_error_that_names_it(tmp_path, content, says):
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert says in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.about.exit_code == 2


def test_a_bad_set_says_that_it_was_a_set(tmp_path):
    with pytest.raises(ConfigError, match=r"--set: log\.level"):
        load(tmp_path / "config.toml", ["log.level=loud"])


def test_the_places_of_the_environment(tmp_path):
    assert find_places({"P2PSHARE_HOME": str(tmp_path)}).socket == f"{tmp_path}/control.sock"
    assert find_places({}).config_file.endswith("/p2pshare/config.toml")
