"""Rows of the simulated index: recall, load, churn, spam, Sybils and liars. Each gives what was measured as a map."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from heapq import nsmallest
from typing import Any

import numpy as np

from bench import index_model
from bench.index_model import Model, high_bits, nearest, node_keys
from p2pshare_protocols import query
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.item_record import ItemRecord
from p2pshare_protocols.kad_keys import BITS, key_of
from p2pshare_protocols.kad_region import bound, window
from p2pshare_protocols.postings_ask import CROWDED_ENOUGH, ENOUGH, Draw
from p2pshare_protocols.postings_place import REPLICAS, keepers, surrounded
from p2pshare_protocols.postings_room import PER_PUBLISHER, Origin
from p2pshare_protocols.query_model import Record
from p2pshare_protocols.query_rank import rank
from tests.simulation.virtual_index import List, Row

LIMIT = 1000  # rows that a search can be asked for
PAGE = 50  # rows of a search by default
HOT = 8  # asks of one question in a window, after which its answer is pushed
PUSHED = 64  # nodes to which it is pushed
POSTING = 160  # bytes, see protocols/index.md
VISIT = 4000  # bytes of a heartbeat with its session: handshake 2.5 kB, statement, digest


def queries(model: Model, count: int, rng: random.Random) -> list[list[str]]:
    """Of 1, 2 or 3 words, as they stand in names; a name that is drawn has so many at least."""
    found: list[list[str]] = []
    while len(found) < count:
        named = model.names[rng.randrange(len(model.names))]
        words = [term for term in named.terms() if len(term) > 2][:8]
        words = [term for term in words if term in named.name.lower()]
        wanted = len(found) % 3 + 1
        if len(words) >= wanted:
            found.append(rng.sample(words, wanted))
    return found


def recall(model: Model, asked: Sequence[list[str]]) -> dict[str, Any]:
    """Of all that matches, how much is told, by number of words: where at most as much matches as can be asked for."""
    shares: dict[int, list[float]] = {1: [], 2: [], 3: []}
    larger = 0
    for words in asked:
        found = model.ask(words, LIMIT)
        if len(found.matches) > LIMIT:
            larger += 1
            continue
        shares[len(words)].append(np.isin(found.matches, found.told).mean())
    means = {f"words_{count}": round(float(np.mean(one)), 4) for count, one in shares.items() if one}
    return {**means, "more_than_1000_match": round(larger / len(asked), 4)}


def both_common(model: Model, count: int, rng: random.Random) -> dict[str, Any]:
    """Two words that are both over their room: how many of the best 20 are told, by what servers answer first."""
    full = [model.words[term] for term in model.full.tolist()]
    pairs = [(a, b) for at, a in enumerate(full) for b in full[:at]]
    shares: dict[str, list[float]] = {"as_built": [], "servers_rank": []}
    for a, b in rng.sample(pairs, min(count, len(pairs))):
        all_of = model.ask([a, b], LIMIT).matches.tolist()
        if not all_of:
            continue
        wanted = query.parse(f"{a} {b}")
        scores = {item: _score(model, wanted, item) for item in all_of}
        best = sorted(scores.values(), reverse=True)[:20]
        for how, limit in (("as_built", LIMIT), ("servers_rank", 10**9)):
            told = sorted((scores[item] for item in model.ask([a, b], limit).told.tolist()), reverse=True)[:20]
            shares[how].append(sum((Counter(best) & Counter(told)).values()) / len(best))
    return {"pairs": len(shares["as_built"]), **{how: _mean(one) for how, one in shares.items()}}


def _score(model: Model, wanted: query.Query, item: int) -> float:
    named = model.names[item]
    return rank(wanted, Record(name=named.name, title=named.title)).score


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def archive(model: Model, count: int, rng: random.Random) -> dict[str, Any]:
    """Items of publisher 0, each asked for by the words of its name (3 at most)."""
    mine = np.flatnonzero(model.publishers == 0)
    hits = tried = 0
    for item in rng.choices(mine.tolist(), k=count):
        named = model.names[item]
        words = [term for term in named.terms() if term in named.name.lower()][:3]
        if words:
            tried += 1
            hits += item in model.ask(words, LIMIT).told
    return {"items": len(mine), "found": round(hits / tried, 4)}


def load(model: Model, nodes: int, asked: Sequence[list[str]], searches: int, seed: int) -> dict[str, Any]:
    """The busiest node against the mean: storage, and questions as built, with mends, and with both.

    A hot answer: the question `searches` of which fall into a window is counted at its 8 servers until each of them
    was asked 8 times, and from then on once a search at one of the 64 nearest.
    """
    where, keys = model.keys
    ring = high_bits(node_keys(nodes, seed))
    kept = index_model.keepers(keys, ring)
    stored = model.stored(kept, nodes)
    result: dict[str, Any] = {
        "storage_mean": round(float(stored.mean())),
        "storage_busiest": round(float(stored.max() / stored.mean()), 2),
    }
    often = Counter(map(tuple, asked))
    lists = {
        mode: [(count, model.ask(words, PAGE, head_first=mode).asked) for words, count in often.items()]
        for mode in (0, PAGE)
    }
    modes = {"as_built": (0, False), "head_first": (PAGE, False), "hot": (0, True), "head_first_and_hot": (PAGE, True)}
    for name, (head_first, hot) in modes.items():
        load_of = np.zeros(nodes)
        for times, names in lists[head_first]:
            share = times * searches / len(asked)
            for one in names:
                at = where.get(one, -1)
                if at < 0:  # a publisher that has just as much as it may have under a word has no more elsewhere
                    continue
                servers = kept[at][kept[at] >= 0]
                each = share * (CROWDED_ENOUGH if len(servers) > REPLICAS else ENOUGH) / len(servers)
                if hot and each > HOT:
                    load_of[servers] += HOT
                    wide = nearest(keys[at : at + 1], ring, min(PUSHED, nodes))[0]
                    load_of[wide] += (share - HOT * len(servers) / ENOUGH) / len(wide)
                else:
                    load_of[servers] += each
        result[f"asks_a_search_{name}"] = round(float(load_of.sum() / searches), 2)
        result[f"queries_busiest_{name}"] = round(float(load_of.max() / load_of.mean()), 2)
    return result


def churn(
    life: float, sweep: float, back: float, seed: int, *, terms: int = 150, days: float = 30.0, enough: int = REPLICAS
) -> dict[str, Any]:
    """Servers that are up for `life` hours (median) and away as long; `back` of them come again each time.

    Terms are swept every `sweep` hours; nothing is sent where `enough` of the 8 have it. Gives the recall of one
    posting, and the share of all placements that must be sent anew in a day.
    """
    rng = random.Random(seed)
    mean = life / 0.6931
    sent = visits = hits = tried = 0
    for _ in range(terms):
        places = [_sessions(mean, back, days * 24, rng) for _ in range(40)]
        heard: dict[tuple[int, int], float] = {}  # a server, and when it heard of the publisher last
        at = rng.random() * sweep
        while at < days * 24:
            near = _near(places, at)
            having = [one for one in near if at - heard.get(one, -1e9) <= 14 * 24]
            if at > days * 12:
                visits += len(near)
                sent += len(near) - len(having) if len(having) < enough else 0
            heard.update(dict.fromkeys(near if len(having) < enough else having, at))
            for _ in range(4 if at > days * 12 else 0):
                now = at + rng.random() * sweep
                asked = _near(places, now)
                rng.shuffle(asked)
                tried += 1
                hits += any(now - heard.get(one, -1e9) <= 48 for one in asked[:ENOUGH])
            at += sweep
    anew = sent / visits * 24 / sweep
    return {"recall": round(hits / tried, 4), "sent_anew_a_day": round(anew, 4), "sweep_h": sweep, "come_again": back}


Sessions = list[tuple[int, float, float]]


def _sessions(mean: float, back: float, end: float, rng: random.Random) -> Sessions:
    """(server, from, to) in hours at one place near a key: who goes for good is followed by another, with nothing."""
    found = []
    at, server = -rng.expovariate(1 / mean) if rng.random() < 0.5 else rng.expovariate(1 / mean), 0
    while at < end + 48:
        stay = rng.expovariate(1 / mean)
        found.append((server, at, at + stay))
        server += rng.random() > back
        at += stay + rng.expovariate(1 / mean)
    return found


def _near(places: Sequence[Sessions], at: float) -> list[tuple[int, int]]:
    """The 8 nearest that are up: places are in the order of distance."""
    up: list[tuple[int, int]] = []
    for place, sessions in enumerate(places):
        up += [(place, server) for server, low, high in sessions if low <= at < high][:1]
        if len(up) == REPLICAS:
            break
    return up


def upkeep(churned: dict[str, Any], items: int, terms: float, nodes: int) -> dict[str, Any]:
    """kB/s that one publisher sends to keep `items` with so many terms each where `churned` holds."""
    placed = items * terms * REPLICAS
    bytes_a_day = placed * churned["sent_anew_a_day"] * POSTING + min(nodes, placed) * 24 / churned["sweep_h"] * VISIT
    return {"kB_s": round(bytes_a_day / 86400 / 1000, 2), "placements": round(placed), **churned}


def _row(number: int, name: str, origin: Origin) -> Row:
    cid = CID(1, RAW, bytes([0x12, 32]) + key_of(b"%d" % number).to_bytes(32, "big"))
    record = ItemRecord(cid, name, 1, "other", 1)
    return Row(record, origin, frozenset(record.terms()))


def spam(honest_nets: int, each: int, nets: int, identities: int, postings: int, seed: int) -> dict[str, Any]:
    """Honest subnets with `each` postings of one word, and an attacker's `nets` /24s (a /16 each) with names that are
    the word. The first page is what an asker sees of three servers: ranked, at most 2 rows of one subnet."""
    rng = random.Random(seed)
    rows = []
    for net in range(honest_nets):
        origin = Origin(b"honest %d" % net, f"h{net}", f"H{net // 4}")
        rows += [_row(net * each + n, f"raft paper {net} {n}", origin) for n in range(each)]
    for n in range(postings):
        origin = Origin(b"spam %d" % (n % identities), f"s{n % nets}", f"S{n % nets}")
        rows.append(_row(10**9 + n, "raft", origin))
    rng.shuffle(rows)
    here = List()
    for row in rows:
        here.put(row)
    counts = here.room.counts()
    spammed = sum(count for origin, count in counts.items() if origin.publisher.startswith(b"spam"))
    kept = sum(counts.values()) - spammed
    page = here.find([], PAGE)[:20]
    nets_shown = {row.origin.small for row in page if row.origin.small.startswith("h")}
    best = _ranked(here.find([], PAGE))
    drawn = here.find([], PAGE, drawn=True)
    return {
        "spam_of_room": round(spammed / 20_000, 4),
        "honest_kept": round(kept / (honest_nets * min(each, PER_PUBLISHER)), 4),
        "honest_rows_of_20_in_order_of_answer": sum(row.origin.small.startswith("h") for row in page),
        "honest_subnets_of_20": len(nets_shown),
        "honest_rows_of_20_ranked": sum(row.origin.small.startswith("h") for row in best),
        "ranked_if_subnets_of_a_turn_were_drawn": sum(row.origin.small.startswith("h") for row in _ranked(drawn)),
    }


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """The best 20 by score, at most 2 of a subnet."""
    wanted = query.parse("raft")
    taken: list[Row] = []
    nets: Counter[str] = Counter()
    for row in sorted(rows, key=lambda one: -rank(wanted, one.record.record()).score):
        if nets[row.origin.small] < 2 and len(taken) < 20:
            nets[row.origin.small] += 1
            taken.append(row)
    return taken


def sybils(nodes: int, count: int, trials: int, seed: int, *, spread: bool, shifted: bool = False) -> dict[str, Any]:
    """`count` nodes of an attacker around a term's key, a subnet each, that keep nothing and answer with nothing.

    `shifted`: of a surrounded region the 4 nearest keep, and 7 at each of three other targets that follow from the key.
    """
    rng = random.Random(seed)
    hits = seen = 0
    honest = [rng.getrandbits(BITS) for _ in range(nodes)]
    for _ in range(trials):
        key = rng.getrandbits(BITS)
        reach = (1 << BITS) // nodes * 20 if spread else 1 << 200
        evil = {key ^ rng.randrange(reach) for _ in range(count)}
        everybody = [*honest, *evil]
        placed = _keepers(everybody, key, nodes, b"publisher", shifted)
        theirs = _keepers(everybody, key, nodes, b"asker", shifted)
        seen += surrounded(sorted(node ^ key for node in everybody)[:REPLICAS], nodes)
        rng.shuffle(theirs)
        draw = Draw(theirs, str)
        hits += any(node in placed and node not in evil for node in [*draw.first(), *draw.more()])
    return {"recall": round(hits / trials, 4), "taken_as_surrounded": round(seen / trials, 4), "nodes": nodes}


def _keepers(everybody: Sequence[int], key: int, size: int, salt: bytes, shifted: bool) -> list[int]:
    """What a lookup with this salt gives, and who of it keeps a term."""

    def region(target: int) -> list[int]:
        near = [(node ^ target, node) for node in nsmallest(200, everybody, key=lambda node: node ^ target)]
        return [node for _, node in sorted((node ^ target, node) for _, node in window(near, bound(size), salt=salt))]

    found = region(key)
    if shifted and surrounded([node ^ key for node in found[:REPLICAS]], size):
        step = (64 << BITS) // size  # farther than the region of 20 reaches
        others = [node for turn in (1, 2, 3) for node in region(key ^ (turn * (1 << step.bit_length() - 1)))[:7]]
        return list(dict.fromkeys([*found[:4], *others]))
    return keepers(found, lambda node: node ^ key, float(size))


def liars(count: int, trials: int, seed: int) -> dict[str, Any]:
    """`count` of 8 servers agree to drop a record. What they invent has no signature that holds: tests/network."""
    rng = random.Random(seed)
    three = five = 0
    for _ in range(trials):
        servers = list(range(REPLICAS))
        rng.shuffle(servers)
        draw = Draw(servers, str)
        asked = draw.first()
        three += any(one >= count for one in asked)
        five += any(one >= count for one in [*asked, *draw.more()])
    return {"recovered": round(five / trials, 4), "were_only_3_asked": round(three / trials, 4)}
