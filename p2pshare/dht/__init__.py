"""Who holds a CID and where a peer is: our Kademlia engine, on the streams of `net`, over the pure parts in protocols.

It may use net, store and the protocols. It must not know libp2p, items, jobs or what a provider's blocks are used for.
`open_dht` opens it; `api.DHT` is what the rest of the daemon sees.
"""

from p2pshare.dht.api import DHT, Provider, Receipt
from p2pshare.dht.engine import open_dht

__all__ = ["DHT", "Provider", "Receipt", "open_dht"]
