"""What we rely on in libp2p 0.8.1. Nothing else in p2pshare imports it. tests/p2pshare/test_net_edge.py has a test for
each line, which fails when a new libp2p changes it:

- `Identify`: the protobuf of identify, its field names and numbers; a text that is not UTF-8 is given as bytes
- `DecodeError`: what it raises on bytes that are no protobuf
"""

from __future__ import annotations

from google.protobuf.message import DecodeError
from libp2p.identity.identify.pb.identify_pb2 import Identify

__all__ = ["DecodeError", "Identify"]
