"""The one description of a control method: it checks requests, answers rpc.discover and makes docs/control-api.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

MAX_TEXT = 8192  # characters of a text: a path of PATH_MAX (4096) bytes, each surrogate-escaped at worst
MAX_TEXTS = 1024

Type = Literal["text", "path", "integer", "number", "boolean", "texts", "paths"]
Runs = Literal["host", "node"]


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Final = _Required()


class InvalidParams(Exception):
    """One sentence naming the parameter and what it takes. -32602 on the wire."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter by name. A default of None means that it may be left out; None is never valid when it is required.

    `path` and `paths` are absolute: the daemon's working directory is not the client's.
    """

    name: str
    type: Type
    doc: str
    default: object = REQUIRED
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    def read(self, value: object) -> object:
        """The value, or InvalidParams."""
        if value is None and self.default is not REQUIRED:
            return _fresh(self.default)
        if self.type in {"texts", "paths"}:
            return self._read_texts(value)
        if self.type in {"text", "path"}:
            return self._read_text(value)
        if self.type == "boolean":
            if isinstance(value, bool):
                return value
            raise self._refuse()
        return self._read_number(value)

    def _read_texts(self, value: object) -> list[str]:
        if not isinstance(value, list) or len(value) > MAX_TEXTS:
            raise self._refuse()
        if not value and self.default is REQUIRED:
            raise self._refuse()
        return [self._read_text(entry) for entry in value]

    def _read_text(self, value: object) -> str:
        if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value:
            raise self._refuse()
        if self.choices and value not in self.choices:
            raise self._refuse()
        if self.type in {"path", "paths"} and not value.startswith("/"):
            raise self._refuse()
        return value

    def _read_number(self, value: object) -> int | float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._refuse()
        if self.type == "integer" and not isinstance(value, int):
            raise self._refuse()
        low = -(2**63) if self.low is None else self.low
        high = 2**63 - 1 if self.high is None else self.high
        if not low <= value <= high:  # also keeps NaN out
            raise self._refuse()
        return value if self.type == "integer" else float(value)

    def _refuse(self) -> InvalidParams:
        return InvalidParams(f"{self.name} must be {self.takes}")

    @property
    def takes(self) -> str:
        """What it takes, in words."""
        word = {
            "text": f"a text of at most {MAX_TEXT} characters",
            "path": "an absolute path",
            "integer": "a whole number",
            "number": "a number",
            "boolean": "true or false",
            "texts": f"a list of at most {MAX_TEXTS} texts",
            "paths": f"a list of at most {MAX_TEXTS} absolute paths",
        }[self.type]
        if self.choices:
            chosen = ", ".join(self.choices)
            return f"a list of: {chosen}" if self.type == "texts" else f"one of: {chosen}"
        if self.low is not None and self.high is not None:
            return f"{word} from {self.low:g} to {self.high:g}"
        return f"{word} of at least {self.low:g}" if self.low is not None else word

    def schema(self) -> dict[str, Any]:
        """As JSON Schema (2020-12)."""
        text: dict[str, Any] = {"type": "string", "maxLength": MAX_TEXT}
        if self.choices:
            text["enum"] = list(self.choices)
        if self.type in {"path", "paths"}:
            text["pattern"] = "^/"
        schema: dict[str, Any]
        if self.type in {"texts", "paths"}:
            schema = {"type": "array", "items": text, "maxItems": MAX_TEXTS}
        elif self.type in {"text", "path"}:
            schema = text
        else:
            schema = {"type": self.type}
            schema |= {} if self.low is None else {"minimum": self.low}
            schema |= {} if self.high is None else {"maximum": self.high}
        schema["description"] = self.doc
        return schema if self.default in (REQUIRED, None) else schema | {"default": _fresh(self.default)}


def _fresh(default: object) -> object:
    return list(default) if isinstance(default, tuple) else default


@dataclass(frozen=True, slots=True)
class Method:
    """One method. `runs` tells who answers: the host answers at once, the node when it is ready.

    `changes`: HTTP's GET is refused. `result` and `event` say in words (and keys) what comes back.
    """

    name: str
    doc: str
    result: str
    example: Mapping[str, object]
    params: tuple[Param, ...] = ()
    errors: tuple[str, ...] = ()
    event: str | None = None
    runs: Runs = "node"
    changes: bool = False
    by_name: Mapping[str, Param] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {param.name: param for param in self.params})

    @property
    def is_stream(self) -> bool:
        return self.event is not None

    @property
    def attribute(self) -> str:
        """Its name on api.Node."""
        return self.name.replace(".", "_")

    def read(self, params: Mapping[str, object]) -> dict[str, Any]:
        """Every parameter with its value or default. Raises InvalidParams for an unknown, missing or wrong one."""
        unknown = params.keys() - self.by_name.keys()
        if unknown:
            known = ", ".join(self.by_name) or "none"
            raise InvalidParams(f"{self.name} has no parameter {min(unknown)!r:.100}; it takes {known}")
        values: dict[str, Any] = {}
        for param in self.params:
            if param.name not in params and param.default is REQUIRED:
                raise InvalidParams(f"{self.name} needs {param.name}: {param.takes}")
            values[param.name] = param.read(params.get(param.name))
        return values

    def describe(self) -> dict[str, Any]:
        """One entry of rpc.discover."""
        return {
            "name": self.name,
            "doc": self.doc,
            "params": {
                "type": "object",
                "properties": {param.name: param.schema() for param in self.params},
                "required": [param.name for param in self.params if param.default is REQUIRED],
                "additionalProperties": False,
            },
            "result": self.result,
            "stream": self.is_stream,
            **({"event": self.event} if self.event is not None else {}),
            "errors": list(self.errors),
            "changes": self.changes,
            "example": dict(self.example),
        }
