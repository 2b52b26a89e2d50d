"""How publishers stand with this node: its own, those it is told to trust, those of whom something was fetched."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from p2pshare.store import Store
from p2pshare_protocols.peerid import peer_id_from_ed25519
from p2pshare_protocols.result_rank import Stand

_META: Final = "search.known-publishers"
_KNOWN: Final = 500  # publishers remembered, those of whom something was fetched last
_SHOWN: Final = 2000  # results whose publishers are remembered, in case they are fetched


class People:
    """`mine`: peer IDs of this node and of its publisher's key; `trusted`: of the configuration's `index.trusted`.

    Who is known is kept in the store. Only a fetch of ours makes known: nobody gets there by publishing.
    """

    def __init__(self, store: Store, *, mine: Iterable[str] = (), trusted: Iterable[str] = ()) -> None:
        self._store = store
        self._mine = frozenset(mine)
        self._trusted = frozenset(trusted)
        self._known = OrderedDict.fromkeys(json.loads(store.get_meta(_META) or "[]"))
        self._shown: OrderedDict[str, str] = OrderedDict()

    def stand(self, publisher: str) -> Stand:
        """`publisher` is a peer ID, "" when nobody signed: nobody vouches for that."""
        if publisher in self._mine:
            return "mine"
        if publisher in self._trusted:
            return "trusted"
        return "known" if publisher in self._known else ""

    def vouched(self, key: bytes) -> bool:
        """Whether the publisher with this Ed25519 key (32 bytes) is ours, trusted or known."""
        return self.stand(peer_id_from_ed25519(key)) != ""

    def shown(self, cid: str, publisher: str) -> None:
        """A result that is fetched by the CID `cid` was shown, with this publisher."""
        if publisher:
            self._shown[cid] = publisher
            self._shown.move_to_end(cid)
            if len(self._shown) > _SHOWN:
                self._shown.popitem(last=False)

    def fetched(self, cid: str) -> None:
        """Something is fetched: who published it, as a search said, is known from now on. Raises LocalError."""
        publisher = self._shown.get(cid, "")
        if publisher in self._known or not publisher:
            return
        self._known[publisher] = None
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        self._store.set_meta(_META, json.dumps(list(self._known)))
