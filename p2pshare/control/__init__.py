"""The local socket: requests of this user's programs in, results and events out.

It may use `node` through `api.Node` only, and the pure framing of p2pshare_protocols.control.
It must not know libp2p, SQL, or how a verb does its work. Every method stands in `methods`, once.
"""
