"""Where a home's files lie. Pure: the environment and the platform's directories are arguments.

With P2PSHARE_HOME=DIR everything is under DIR, so that a second node is a second directory; otherwise the XDG places
(platformdirs) are used. The CLI and the daemon must agree on every path here, because they meet at `socket`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

APP = "p2pshare"
HOME_VARIABLE = "P2PSHARE_HOME"

# sockaddr_un.sun_path holds 108 bytes with the closing NUL on Linux (unix(7)); 104 on macOS.
SOCKET_PATH_LIMIT = 107


@dataclass(frozen=True, slots=True)
class Directories:
    """The platform's four directories for p2pshare, absolute, as platformdirs gives them."""

    config: str
    data: str
    state: str
    runtime: str


@dataclass(frozen=True, slots=True)
class Places:
    """Every path of one home, absolute. Files may not exist yet; the daemon makes `directories` with mode 0700."""

    home: str | None  # the value of P2PSHARE_HOME, made absolute; None with the XDG places
    config_directory: str
    data: str
    state: str
    runtime: str

    @property
    def config_file(self) -> str:
        return f"{self.config_directory}/config.toml"

    @property
    def identity(self) -> str:
        return f"{self.data}/identity.key"

    @property
    def publisher_key(self) -> str:
        """Signs what is published. Copied to another machine, both publish under one name."""
        return f"{self.data}/publisher.key"

    @property
    def catalogue(self) -> str:
        """A directory; what lies in it is the store's business."""
        return f"{self.data}/catalogue"

    @property
    def lock(self) -> str:
        """Held (flock) by the one daemon of this home; its process ID is written inside."""
        return f"{self.data}/daemon.lock"

    @property
    def log(self) -> str:
        return f"{self.state}/daemon.log"

    @property
    def socket(self) -> str:
        return f"{self.runtime}/control.sock"

    @property
    def directories(self) -> tuple[str, ...]:
        """The directories that must exist and be private, each once, in the order in which they are made."""
        return tuple(dict.fromkeys((self.config_directory, self.data, self.state, self.runtime)))


def places_under(home: str) -> Places:
    """All of it under one absolute directory."""
    home = home.rstrip("/") or "/"
    return Places(home=home, config_directory=home, data=home, state=home, runtime=home)


def places_from(environ: Mapping[str, str], cwd: str, platform: Directories) -> Places:
    """The places of this user: P2PSHARE_HOME when it is set and not empty (a relative one starts at `cwd`)."""
    home = environ.get(HOME_VARIABLE, "")
    if home:
        return places_under(home if home.startswith("/") else f"{cwd.rstrip('/')}/{home}")
    return Places(
        home=None,
        config_directory=platform.config,
        data=platform.data,
        state=platform.state,
        runtime=platform.runtime,
    )


def socket_path_fits(path: bytes) -> bool:
    """Whether the operating system takes `path` as the address of a Unix socket."""
    return len(path) <= SOCKET_PATH_LIMIT


def short_socket_path(path: str, directory_fd: int) -> str:
    """A path of a few bytes to the same socket, through an open descriptor of its directory (Linux's /proc).

    A home may lie so deep that the socket's own path is over SOCKET_PATH_LIMIT. Both sides then open the directory
    (O_PATH | O_DIRECTORY), and bind or connect to this path while the descriptor is open.
    """
    return f"/proc/self/fd/{directory_fd}/{path.rpartition('/')[2]}"
