"""Where the files of a home lie."""

from p2pshare_protocols.places import (
    Directories,
    places_from,
    places_under,
    short_socket_path,
    socket_path_fits,
)

XDG = Directories("/c", "/d", "/s", "/r")


def test_a_home_holds_everything():
    places = places_from({"P2PSHARE_HOME": "/tmp/n1/"}, "/", XDG)
    assert places == places_under("/tmp/n1")
    assert places.config_file == "/tmp/n1/config.toml"
    assert places.socket == "/tmp/n1/control.sock"
    assert places.identity == "/tmp/n1/identity.key"
    assert places.log == "/tmp/n1/daemon.log"
    assert places.directories == ("/tmp/n1",)


def test_a_relative_home_starts_at_the_working_directory():
    assert places_from({"P2PSHARE_HOME": "n2"}, "/elsewhere", XDG).home == "/elsewhere/n2"


def test_without_a_home_the_platform_decides():
    places = places_from({"P2PSHARE_HOME": ""}, "/", XDG)
    assert places.home is None
    assert (places.config_file, places.identity, places.log, places.socket) == (
        "/c/config.toml",
        "/d/identity.key",
        "/s/daemon.log",
        "/r/control.sock",
    )
    assert places.directories == ("/c", "/d", "/s", "/r")


def test_the_limit_of_a_socket_path():
    assert socket_path_fits(b"x" * 107)
    assert not socket_path_fits(b"x" * 108)
    assert short_socket_path("/very/deep/control.sock", 7) == "/proc/self/fd/7/control.sock"
