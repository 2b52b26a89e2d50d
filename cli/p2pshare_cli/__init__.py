"""What a person types: click commands that speak to the daemon over the control socket, and only there.

It may use p2pshare_protocols, click and msgpack. It must never import trio, libp2p or the daemon: a command
answers in tens of milliseconds because of that.
"""
