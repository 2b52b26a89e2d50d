"""python -m bench NAME [--runs N] …; without a name, the list of figures."""

from __future__ import annotations

import importlib
import sys

# name -> module; each has `main(arguments) -> int` and says in its docstring what it measures against what.
FIGURES = {
    "session": "bench.session",
    "dial": "bench.dial",
    "paths": "bench.paths",
    "transfer": "bench.transfer",
    "others": "bench.others",
    "limit": "bench.limit",
    "swarm": "bench.swarm",
    "faults": "bench.faults",
    "small-files": "bench.small_files",
    "publish": "bench.publish",
    "many-files": "bench.many_files",
    "directory": "bench.directory",
    "start": "bench.start",
    "dht": "bench.dht",
    "index": "bench.index_sim",
    "index-real": "bench.index_real",
    "catalogue": "bench.catalogue",
    "guard": "bench.guard",
    "dht-store": "bench.dht_store",
    "dht-announce": "bench.dht_announce",
    "dht-real": "bench.dht_real",
    "dht-compare": "bench.dht_compare",
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in FIGURES:
        for name, module in FIGURES.items():
            doc = importlib.import_module(module).__doc__ or ""
            print(f"{name:<14} {doc.strip().splitlines()[0]}")
        return 0 if not arguments else 2
    return int(importlib.import_module(FIGURES[arguments[0]]).main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
