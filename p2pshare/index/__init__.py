"""Keyword search among peers: /p2pshare/index/1.0.0, served from the own catalogue and asked of others.

It may use dht, net, store and p2pshare_protocols. It must not know the verbs, jobs or the control socket.
"""

from p2pshare.index.client import IndexClient
from p2pshare.index.rows import rows_of
from p2pshare.index.server import IndexServer
from p2pshare.index.tiers import CatalogueTier, PeerTier, Tier

__all__ = ["CatalogueTier", "IndexClient", "IndexServer", "PeerTier", "Tier", "rows_of"]
