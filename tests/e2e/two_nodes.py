"""Two nodes on this machine that share, search and fetch; run it to see them talk.

python -m tests.e2e.two_nodes
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.support_nodes import RealNode, bootstrap, running


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="p2pshare-two-") as directory:
        base = Path(directory)
        first, second = RealNode(base / "first"), RealNode(base / "second")
        talk = base / "raft-talk.txt"
        talk.write_text("Consensus is what is left when nobody objects.\n")
        with running(first, second):
            first.start()
            show(first, "share", str(talk))
            second.start(bootstrap(first.address()))
            show(second, "search", "raft")
            show(second, "fetch", "1", "-o", str(base / "fetched.txt"))
            show(second, "status")
            return 0 if (base / "fetched.txt").read_bytes() == talk.read_bytes() else 1


def show(node: RealNode, *words: str) -> None:
    print(f"{node.home.name}$ p2pshare {' '.join(words)}")
    done = node.run(*words)
    sys.stdout.write(done.stdout.decode() + done.stderr.decode() + "\n")


if __name__ == "__main__":
    sys.exit(main())
