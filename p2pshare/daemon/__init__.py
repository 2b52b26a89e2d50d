"""The process around the node: one per home, its signals, its log, its start and its end.

It may use everything below it. It must not know what the node does; `p2pshare.node` is imported late, so that the
control socket answers within the first tenths of a second.
"""
