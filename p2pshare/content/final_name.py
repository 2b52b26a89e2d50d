"""The name under which a fetch ends: finding a free one beside it, and taking it over in one step."""

from __future__ import annotations

import os
import shutil
import stat

from p2pshare.content.layout import part_name
from p2pshare.content.syscalls import rename_new


class FinalName:
    """A name in the directory `parent` (a descriptor, which its owner closes). Raises OSError."""

    def __init__(self, parent: int, path: str) -> None:
        self._parent = parent
        self._path = path
        self.name = os.path.basename(path)

    def exists(self, name: str) -> bool:
        """Whether anything has this name in the directory, a link that leads nowhere too."""
        try:
            os.stat(name, dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def free_part(self) -> str:
        """A name that nothing has: what somebody else left there is never ours to write into."""
        return next(name for number in range(10_000) if not self.exists(name := part_name(self.name, number)))

    def was_taken_from(self, part: str, *, single: bool) -> bool:
        """Whether an earlier run may have renamed `part` to this name. `single`: it is one file."""
        if not self.exists(self.name):
            return False
        if not self.exists(part):
            return True
        there = [os.stat(name, dir_fd=self._parent, follow_symlinks=False) for name in (part, self.name)]
        both = single and os.path.samestat(*there)
        if both:  # cut off between the new name and the end of the old one, see rename_new
            os.unlink(part, dir_fd=self._parent)
        return both

    def take(self, part: str, *, single: bool, overwrite: bool) -> None:
        """Rename `part` to this name; what is there stays there, or goes when `overwrite`.

        Raises FileExistsError, and IsADirectoryError where a file would replace a directory.
        """
        old = self._step_aside(single) if overwrite else None
        try:
            if single:
                rename_new(part, self.name, directory=self._parent)
            else:
                if self.exists(self.name):
                    raise FileExistsError(17, "it is there already", self._path)
                os.rename(part, self.name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        except BaseException:
            if old is not None:
                os.rename(old, self.name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
            raise
        if old is not None:
            self._remove(old)

    def _step_aside(self, single: bool) -> str | None:
        """Move what is to be replaced to a free name; a directory is replaced by a directory only."""
        if not self.exists(self.name):
            return None
        status = os.stat(self.name, dir_fd=self._parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) and single:
            raise IsADirectoryError(21, "it is a directory", self._path)
        old = next(n for i in range(10_000) if not self.exists(n := part_name(self.name + ".replaced", i)))
        os.rename(self.name, old, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        return old

    def _remove(self, name: str) -> None:
        status = os.stat(name, dir_fd=self._parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(name, dir_fd=self._parent)
        else:
            os.unlink(name, dir_fd=self._parent)
