"""A library that is preloaded into a daemon and lets its disk fail: EIO for files below a path, while a switch is set.

The switch is a file whose text is "CALLS PREFIX": CALLS is one or more letters of r (pread and its kin), w (pwrite and
its kin), s (fsync, fdatasync); PREFIX is where the failing files lie.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

WHY_NOT = "needs gcc"
SWITCH = "P2PSHARE_TEST_SHIM"

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int fails(int fd, char call) {
    const char *name = getenv("P2PSHARE_TEST_SHIM");
    char text[5000], link[64], path[4096];
    if (!name) return 0;
    int file = syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t count = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    if (count <= 0) return 0;
    text[count] = 0;
    char *prefix = strchr(text, ' ');
    if (!prefix) return 0;
    *prefix++ = 0;
    if (!strchr(text, call)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, prefix, strlen(prefix))) return 0;
    errno = EIO;
    return 1;
}

#define WRAP(type, name, call, parameters, arguments)                                     \
    type name parameters {                                                                \
        static type (*real) parameters;                                                   \
        if (!real) real = (type (*) parameters) dlsym(RTLD_NEXT, #name);                  \
        return fails(fd, call) ? -1 : real arguments;                                     \
    }

WRAP(ssize_t, pread, 'r', (int fd, void *b, size_t n, off_t o), (fd, b, n, o))
WRAP(ssize_t, pread64, 'r', (int fd, void *b, size_t n, off64_t o), (fd, b, n, o))
WRAP(ssize_t, preadv, 'r', (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o))
WRAP(ssize_t, preadv64, 'r', (int fd, const struct iovec *v, int n, off64_t o), (fd, v, n, o))
WRAP(ssize_t, preadv2, 'r', (int fd, const struct iovec *v, int n, off_t o, int f), (fd, v, n, o, f))
WRAP(ssize_t, preadv64v2, 'r', (int fd, const struct iovec *v, int n, off64_t o, int f), (fd, v, n, o, f))
WRAP(ssize_t, pwrite, 'w', (int fd, const void *b, size_t n, off_t o), (fd, b, n, o))
WRAP(ssize_t, pwrite64, 'w', (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o))
WRAP(ssize_t, pwritev, 'w', (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o))
WRAP(ssize_t, pwritev64, 'w', (int fd, const struct iovec *v, int n, off64_t o), (fd, v, n, o))
WRAP(int, fsync, 's', (int fd), (fd))
WRAP(int, fdatasync, 's', (int fd), (fd))
WRAP(int, syncfs, 's', (int fd), (fd))
"""


class FailingDisk:
    """`environ` is for the daemon; `fail` and `mend` say how its disk is."""

    def __init__(self, base: Path) -> None:
        library, source = base / "shim.so", base / "shim.c"
        source.write_text(SOURCE)
        command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
        self._switch = base / "switch"
        self.environ = {"LD_PRELOAD": str(library), SWITCH: str(self._switch)}

    def fail(self, calls: str, prefix: Path) -> None:
        fresh = self._switch.with_suffix(".new")
        fresh.write_text(f"{calls} {prefix}")
        os.replace(fresh, self._switch)

    def mend(self) -> None:
        self._switch.unlink(missing_ok=True)


def may_build() -> bool:
    return shutil.which("gcc") is not None
