"""Keyword search among peers: /p2pshare/index/1.0.0, from the own catalogue, connected peers, and postings in the DHT.

It may use dht, net, store, the frames of exchange and p2pshare_protocols. It must not know the verbs, jobs or the
control socket.
"""

from p2pshare.index.client import IndexClient
from p2pshare.index.dht_tier import DhtTier
from p2pshare.index.hot import HotAnswers
from p2pshare.index.keeping import Keeper
from p2pshare.index.placing import Placer
from p2pshare.index.proving import Prover
from p2pshare.index.regions import Regions
from p2pshare.index.rows import rows_of
from p2pshare.index.server import IndexServer
from p2pshare.index.tiers import CatalogueTier, PeerTier, Tier

__all__ = [
    "CatalogueTier",
    "DhtTier",
    "HotAnswers",
    "IndexClient",
    "IndexServer",
    "Keeper",
    "PeerTier",
    "Placer",
    "Prover",
    "Regions",
    "Tier",
    "rows_of",
]
