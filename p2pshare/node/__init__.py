"""The node: builds the parts in their order, owns the nursery, and answers the control methods.

It may use every part below it. It must not know the control socket's framing, nor the process around it.
"""

from p2pshare.node.opening import open_node
from p2pshare.node.running import RunningNode

__all__ = ["RunningNode", "open_node"]
