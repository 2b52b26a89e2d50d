"""The one error of the CLI: what the daemon said, or what kept us from asking it."""

from __future__ import annotations

from p2pshare_protocols.errors import KINDS


class CommandError(Exception):
    """Ends a command with the exit code of its kind."""

    def __init__(self, kind: str, message: str, hint: str = "", retryable: bool | None = None) -> None:
        super().__init__(message)
        self.kind = kind if kind in KINDS else "internal"
        self.message = message
        self.hint = hint
        self.retryable = KINDS[self.kind].retryable if retryable is None else retryable

    @property
    def exit_code(self) -> int:
        return KINDS[self.kind].exit_code

    def as_event(self) -> dict[str, object]:
        """The `error` line of `--json`."""
        return {
            "event": "error",
            "kind": self.kind,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
        }
