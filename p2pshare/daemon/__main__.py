"""`python -m p2pshare.daemon`: be the daemon of a home. The CLI starts it so, detached or in the foreground."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from p2pshare.config import find_places
from p2pshare.daemon.process import run
from p2pshare_protocols.places import places_under


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="p2pshare daemon", description="The daemon of one home.")
    parser.add_argument("--home", metavar="DIR", help="the home; otherwise P2PSHARE_HOME, or the platform's places")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--foreground", action="store_true", help="log to the terminal, say when ready")
    options = parser.parse_args(arguments)
    places = places_under(os.path.abspath(options.home)) if options.home else find_places()
    return run(places, options.overrides, foreground=options.foreground)


if __name__ == "__main__":
    sys.exit(main())
