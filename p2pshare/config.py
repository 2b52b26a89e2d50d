"""What this daemon runs with: defaults, then config.toml, then --set. Everything is checked before anything starts."""

from __future__ import annotations

import os
import tomllib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs

from p2pshare.errors import ConfigError, from_os_error
from p2pshare_protocols import config_schema
from p2pshare_protocols.config_schema import ConfigProblem, Value
from p2pshare_protocols.places import APP, HOME_VARIABLE, Directories, Places, places_from

MAX_FILE = 1 << 20  # bytes of config.toml

Source = Literal["default", "file", "set"]


@dataclass(frozen=True)
class Config:
    """The value of every key. A key that does not exist, or is of another type, is a defect (KeyError, TypeError)."""

    values: Mapping[str, Value]
    sources: Mapping[str, Source]

    def flag(self, key: str) -> bool:
        value = self.values[key]
        if not isinstance(value, bool):
            raise TypeError(f"{key} is no flag")
        return value

    def number(self, key: str) -> int:
        """Also sizes and rates, in bytes; 0 is no limit there."""
        value = self.values[key]
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{key} is no number")
        return value

    def text(self, key: str) -> str:
        value = self.values[key]
        if not isinstance(value, str):
            raise TypeError(f"{key} is no text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values[key]
        if not isinstance(value, tuple):
            raise TypeError(f"{key} is no list")
        return value

    def describe(self) -> dict[str, Any]:
        """As `config.list` answers: {key: {"value", "default", "source", "doc"}}."""
        return {
            name: {
                "value": _plain(self.values[name]),
                "default": _plain(key.default),
                "source": self.sources[name],
                "doc": key.doc,
            }
            for name, key in config_schema.KEYS.items()
        }


def _plain(value: Value) -> object:
    return list(value) if isinstance(value, tuple) else value


def load(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """The configuration of a home: the file may be missing; `overrides` are KEY=VALUE texts.

    Raises ConfigError naming the file or the --set, the key, the value and what is allowed.
    """
    values = config_schema.defaults()
    sources: dict[str, Source] = dict.fromkeys(values, "default")
    from_file = _read_file(Path(path))
    values |= from_file
    sources |= dict.fromkeys(from_file, "file")
    for text in overrides:
        try:
            name, value = config_schema.parse_set(text)
        except ConfigProblem as problem:
            raise ConfigError(f"--set: {problem.message}", hint=problem.hint) from problem
        values[name] = value
        sources[name] = "set"
    return Config(values, sources)


def _read_file(path: Path) -> dict[str, Value]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise from_os_error(error, f"read {path}") from error
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path} is longer than {MAX_FILE} bytes")
    try:
        return config_schema.parse(tomllib.loads(data.decode()))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {str(error)[:200]}") from error
    except ConfigProblem as problem:
        raise ConfigError(f"{path}: {problem.message}", hint=problem.hint) from problem


def find_places(environ: Mapping[str, str] | None = None) -> Places:
    """The places of this process's user (P2PSHARE_HOME, or the platform's)."""
    environ = os.environ if environ is None else environ
    if environ.get(HOME_VARIABLE):
        return places_from(environ, os.getcwd(), Directories("", "", "", ""))
    dirs = platformdirs.PlatformDirs(APP, appauthor=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without XDG_RUNTIME_DIR it says so each time; its fallback is private too
        runtime = dirs.user_runtime_dir
    platform = Directories(
        config=dirs.user_config_dir, data=dirs.user_data_dir, state=dirs.user_state_dir, runtime=runtime
    )
    return places_from(environ, os.getcwd(), platform)
