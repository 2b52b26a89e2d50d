"""The place in the public IPFS DHT where nodes find each other. Specified in protocols/rendezvous.md."""

from __future__ import annotations

from typing import Final

from p2pshare_protocols.cid import CID, RAW

SENTENCE: Final = b"p2pshare nodes meet here\n"
"""The raw block whose CID is the place. It never changes: who changes it meets nobody."""
PLACE: Final = CID.of(RAW, SENTENCE)
