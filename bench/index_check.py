"""The model of the index against the daemon's own code: the same items, the same questions, how far apart they are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench import index_rows as rows
from bench.index_model import Model, age, high_bits, keepers, node_keys, publisher_key
from bench.index_names import Ints, Named
from p2pshare_protocols.item_record import ItemRecord
from p2pshare_protocols.postings_room import Origin
from tests.simulation.virtual_index import Index, Row


def published(names: Sequence[Named], publishers: Ints, nodes: int, room: int) -> tuple[Index, list[Row]]:
    """All items placed by the daemon's own code, shards too; records are not signed."""
    known = {publisher_key(number): age(number) for number in set(publishers.tolist())}
    index = Index(node_keys(nodes, 1), room=room, since=known.__getitem__)
    placed = []
    for named, publisher in zip(names, publishers.tolist(), strict=True):
        record = ItemRecord(named.cid, named.name, 1, "other", 1, title=named.title)
        row = Row(record, Origin(publisher_key(publisher), "", ""), frozenset(named.terms()))
        placed.append(row)
        index.publish(row)
    index.sweep()
    return index, placed


def compare(names: Sequence[Named], publishers: Ints, nodes: int, room: int, questions: int) -> dict[str, Any]:
    """Differences as shares: storage of all nodes and of the busiest, rows told, servers asked."""
    model = Model(names, publishers, room=room)
    index, placed = published(names, publishers, nodes, room)
    stored = model.stored(keepers(model.keys[1], high_bits(index.nodes)), nodes)
    really = index.stored()
    pure = np.array([really[node] for node in index.nodes])
    by_row = {id(row): number for number, row in enumerate(placed)}
    told = theirs = same = asked = 0
    for words in rows.queries(model, questions, random.Random(2)):
        found = model.ask(words, rows.LIMIT)
        items = np.array([by_row[id(row)] for row in index.ask(words, rows.LIMIT)], np.int32)
        told, theirs, same = told + len(found.told), theirs + len(items), same + len(np.intersect1d(found.told, items))
        asked += rows.ENOUGH * len(found.asked)
    return {
        "words_over_their_room": len(model.full),
        "overflows": len(model.overflows),
        "storage_of_all_differs": round(float(abs(stored.sum() - pure.sum()) / pure.sum()), 4),
        "storage_of_the_busiest_differs": round(float(abs(stored.max() - pure.max()) / pure.max()), 4),
        "rows_told_differ": round(abs(told - theirs) / theirs, 4),
        "rows_told_by_both": round(same / max(told, theirs), 4),
        "servers_asked_differ": round(abs(asked - index.asked.total()) / asked, 4),
    }
