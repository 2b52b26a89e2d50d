"""Files on this machine's disk: walking them, hashing them, reading them verified, writing a stranger's safely.

It may use the store, errors, the protocols and worker threads. It must not know the network, nor who asks and why.
"""

from p2pshare.content.reader import BlockReader

__all__ = ["BlockReader"]
