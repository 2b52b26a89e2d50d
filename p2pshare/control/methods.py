"""Every control method, once. Names and keys are a contract with the CLI and with scripts: they are only ever added to.

`METHODS` is read by the dispatcher, by rpc.discover and by the reference page; a test holds `api.Node` to it.
"""

from __future__ import annotations

from p2pshare.control.registry import Method, Param

_LINK = Param("link", "text", "A link (p2pshare:CID…, ipfs://…, /ipfs/…) or a bare CID, with a path inside it or not.")
_JOB = Param("job", "integer", "The job's number.", low=1)
_PEER = Param("peer", "text", "A peer ID, such as 12D3KooW….")
_TARGET = Param("target", "text", "A link, a CID, or the absolute path that was shared.")
_SINCE = Param(
    "since", "integer", "Begin after the event of this number; without it, with what happens next.", None, low=0
)
_LINK_EXAMPLE = "p2pshare:bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"

TYPES = ("video", "audio", "image", "document", "archive", "software", "text", "other")
JOB_STATES = ("queued", "running", "paused", "done", "failed", "cancelled")
TOPICS = ("jobs", "shares", "peers", "node", "search")

_JOB_KEYS = "job, kind, state, cid, name, bytes, total, reason, created, updated"

_PROCESS = (
    Method(
        "ping",
        "Whether the daemon is there. Answers before the node is built.",
        "version, pid, state: starting, ready or stopping; peer_id; problem when the node could not start",
        {},
        runs="host",
    ),
    Method(
        "status",
        "One look at everything. Answers before the node is built, with state starting and what is known then.",
        "peer_id, addresses, reachable: direct, relay, no or unknown; peers, shares, jobs: {state: count}, "
        "rates: {in, out} in bytes a second, disk, dht: {nodes, mode}, problems, uptime in seconds, "
        "version, pid, state",
        {},
        runs="host",
    ),
    Method(
        "daemon.stop",
        "Stop the daemon gracefully; running jobs go on at its next start. Answers before it stops.",
        "an empty object",
        {},
        runs="host",
        changes=True,
    ),
    Method(
        "daemon.log",
        "The last lines of the daemon's log.",
        "lines: texts, oldest first; path",
        {"lines": 20},
        (Param("lines", "integer", "How many lines at most.", 100, low=1, high=10000),),
        runs="host",
    ),
    Method(
        "config.list",
        "Every configuration key with the value that this daemon runs with.",
        "{key: {value, default, source: default, file or set, doc}}",
        {},
        runs="host",
    ),
    Method(
        "rpc.discover",
        "Every method with its parameters (as JSON Schema), its result, its errors and an example.",
        "version, methods, errors: {kind: {exit_code, retryable, meaning}}",
        {},
        runs="host",
    ),
    Method(
        "id",
        "Who this node is, and where it can be dialled.",
        "peer_id; addresses: multiaddrs that end in /p2p/PEER_ID; publisher: the name under which it publishes",
        {},
    ),
)

_SHARES = (
    Method(
        "share.start",
        "Start a job that publishes files and directories from where they lie.",
        'job; its "done" event has cid, link, name, size, files, path, findable: {stored, asked}, '
        "postings: {stored, asked}",
        {"paths": ["/home/alice/talks"], "tags": ["raft"]},
        (
            Param("paths", "paths", "What to share."),
            Param("copy", "boolean", "Keep a copy, so that the files may go or change.", False),
            Param("name", "text", "Another name than the path's own.", None),
            Param("tags", "texts", "Words by which it is found besides its names.", ()),
            Param("title", "text", "A title; it is searched.", None),
            Param("description", "text", "A description.", None),
            Param("mime", "text", "The media type, when the name does not tell it.", None),
            Param("hidden", "boolean", "Also files whose name begins with a dot.", False),
            Param("follow_symlinks", "boolean", "Share what symbolic links point to, instead of the links.", False),
            Param("exclude", "texts", "Glob patterns of what to leave out.", ()),
            Param("announce", "boolean", "Tell the DHT who has it.", True),
            Param("index", "boolean", "Make it findable by words.", True),
            Param("hash", "text", "The hash of its CIDs.", "sha256", choices=("sha256", "blake3")),
            Param(
                "wait",
                "text",
                "Whether the job ends when others can find it, or before, and it is announced in the background.",
                "findable",
                choices=("findable", "none"),
            ),
        ),
        errors=("not-found", "permission", "disk-full", "quota"),
        changes=True,
    ),
    Method(
        "shares.list",
        "What this node shares.",
        "shares: [{cid, link, name, path, size, files, kind, type, state: ok, changed or missing, "
        "findable: {stored, asked}, last_announced, bytes_sent, created, origin: shared or fetched}]",
        {},
    ),
    Method(
        "shares.show",
        "One item of this node.",
        "the keys of shares.list, and tags, title, description, hash",
        {"target": _LINK_EXAMPLE},
        (_TARGET,),
        errors=("not-found",),
    ),
    Method(
        "shares.remove",
        "Stop serving and announcing; the files themselves are never touched.",
        "removed: how many items",
        {"target": "/home/alice/talks"},
        (_TARGET,),
        errors=("not-found",),
        changes=True,
    ),
)

_CARE = (
    Method(
        "doctor",
        "Look at everything that must be right: socket, key, ports, NAT, clock, disk, DHT, bootstrap, shares.",
        "checks: [{name, state: ok, warn or fail; message, remedy}], failed: how many",
        {},
    ),
    Method(
        "verify",
        "Read again what is shared or was fetched, and compare every byte with its CID.",
        'event "done", items, bytes, damaged: how many items, repairing: the jobs that fetch them again',
        {"repair": True},
        (
            Param("target", "text", "Only this: a link, a CID, or the absolute path that was shared.", None),
            Param("repair", "boolean", "Fetch damaged items again; only what was fetched, never a user's own.", False),
        ),
        errors=("not-found", "usage"),
        event='event "progress" (bytes, total) or "damaged" (cid, name, origin, path, state, bytes, job)',
    ),
    Method(
        "storage.show",
        "Where the room goes, in bytes.",
        "free, catalogue, blocks: {count, bytes}, copies: {count, bytes}, in_place: {count, bytes}, "
        "cached: {count, bytes} of the blocks belong to no item; quota of copies and cached, 0 when there is none",
        {},
    ),
    Method(
        "storage.gc",
        "Drop kept blocks that belong to no item any more.",
        "the keys of storage.show after it; blocks_freed: how many were dropped",
        {},
        changes=True,
    ),
)

_FILTERS = (
    Param("type", "text", "Only of this type.", None, choices=TYPES),
    Param("ext", "text", "Only names with this extension.", None),
    Param("min_size", "text", 'At least so large, such as "80MB".', None),
    Param("max_size", "text", "At most so large.", None),
    Param("newer", "text", 'Published since: a date, or an age such as "7d".', None),
    Param("older", "text", "Published before.", None),
    Param("publisher", "text", "Only of this peer ID, or the end of one.", None),
)
_QUERY = Param("query", "text", 'Words; "phrases", -not, OR.')
_WATCH_KEYS = "watch, query, filters, created, asked, found: results told, since"

_FINDING = (
    Method(
        "search",
        "Find by words: in the own catalogue, at connected peers and in the DHT, as results come.",
        'event "done", results, nodes that answered, elapsed, complete: whether all did, missing: what is left out',
        {"query": "raft consensus", "type": "video"},
        (
            _QUERY,
            *_FILTERS,
            Param("sort", "text", "The order.", "score", choices=("score", "name", "size", "sources", "newest")),
            Param("limit", "integer", "At most so many results.", 50, low=1, high=1000),
            Param("timeout", "number", "Seconds after which what there is must do.", 10.0, low=0.1, high=600),
            Param("local", "boolean", "Ask this node only.", False),
            Param("explain", "boolean", "Say in each result why it ranks where it does.", False),
        ),
        errors=("usage",),
        event='event "result", cid, link, name, size, type, publisher, publishers, sources, tier: local, peer or dht; '
        "score; also, bundle: docs/search.md; with explain why and parts",
    ),
    Method(
        "watch.start",
        "Keep a search going, also without a client and over a restart; what is new comes as events of topic search: "
        "result events with `watch`. The same search is watched once.",
        f"{_WATCH_KEYS}: ask events for what came after this number",
        {"query": "raft consensus", "type": "video"},
        (_QUERY, *_FILTERS, Param("known", "texts", "CIDs of results that are not new.", ())),
        errors=("usage", "quota"),
        changes=True,
    ),
    Method("watch.list", "The searches that go on.", f"watches: [{{{_WATCH_KEYS}}}]", {}),
    Method(
        "watch.remove",
        "End a search that goes on.",
        "watch",
        {"watch": 3},
        (Param("watch", "integer", "Its number.", low=1),),
        errors=("not-found",),
        changes=True,
    ),
    Method(
        "browse",
        "What one peer shares in public: its items, as it tells them itself, page after page.",
        'event "done", results, complete: whether there is no more, after: where to go on, elapsed',
        {"peer": "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"},
        (
            Param("peer", "text", "A peer ID, its beginning or end if connected, or a multiaddr that ends in one."),
            Param("limit", "integer", "At most so many items.", 1000, low=1, high=100_000),
            Param("after", "integer", "Go on after what was told: the `after` of the last time.", 0, low=0),
            Param("timeout", "number", "Seconds for all of it.", 30.0, low=0.1, high=600),
        ),
        errors=("usage", "unreachable", "timeout", "failed"),
        event='event "result", cid, link, name, size, type, kind, tags, title, created, publisher',
    ),
    Method(
        "show",
        "What a link names, before it is fetched.",
        "cid, name, kind: file or directory, size, files, entries: the first 1000, sources, publisher",
        {"link": _LINK_EXAMPLE},
        (_LINK, Param("timeout", "number", "Seconds to look for it.", 30.0, low=0.1, high=600)),
        errors=("usage", "not-found", "timeout", "unreachable"),
    ),
    Method(
        "fetch.start",
        "Start a job that fetches an item to a path, verified, from all sources at once.",
        'job; its "done" event has cid, path, size, elapsed, sources',
        {"link": _LINK_EXAMPLE, "path": "/home/alice/Downloads/"},
        (
            _LINK,
            Param("path", "path", "Where to: a directory that exists, or the new name."),
            Param("only", "text", "Of a directory, only what matches this glob pattern.", None),
            Param("overwrite", "boolean", "Replace what is there.", False),
            Param("sequential", "boolean", "From the beginning to the end, to watch while it comes.", False),
            Param("priority", "integer", "Higher goes first.", 0, low=-10, high=10),
            Param("range", "text", 'Only these bytes of a file: "A-B", both included.', None),
            Param("peer", "texts", "Multiaddrs of peers to ask first.", ()),
            Param(
                "timeout", "number", "Give up after so many seconds without a source; without it, never.", None, low=0.1
            ),
        ),
        errors=("usage", "exists", "not-found", "permission", "disk-full"),
        changes=True,
    ),
)

_JOBS = (
    Method(
        "jobs.list",
        "All jobs, oldest first.",
        f"jobs: [{{{_JOB_KEYS}}}]",
        {"states": ["running"]},
        (Param("states", "texts", "Only in these states; none is all.", (), choices=JOB_STATES),),
    ),
    Method(
        "jobs.show",
        "One job.",
        f"{_JOB_KEYS}, params, result, error",
        {"job": 7},
        (_JOB,),
        errors=("not-found",),
    ),
    Method("jobs.pause", "Stop a job where it is.", "job, state", {"job": 7}, (_JOB,), ("not-found",), changes=True),
    Method(
        "jobs.resume",
        "Go on with a paused or failed job.",
        "job, state",
        {"job": 7},
        (_JOB,),
        ("not-found",),
        changes=True,
    ),
    Method("jobs.cancel", "End a job for good.", "job, state", {"job": 7}, (_JOB,), ("not-found",), changes=True),
    Method("jobs.clear", "Forget the jobs that have ended.", "cleared: how many", {}, changes=True),
    Method(
        "jobs.watch",
        "Follow one job to its end. A job that failed ends the stream with that job's error.",
        'the job\'s "done" event, with the keys of its kind',
        {"job": 7},
        (_JOB, _SINCE),
        errors=("not-found", "cancelled", "failed"),
        event='event "progress" (job, bytes, total, rate, sources) or "state" (job, state, reason)',
    ),
)

_LIFE = (
    Method(
        "events",
        "Follow what happens, by topic. A client that comes back asks with `since` for what it missed.",
        "last: the number of the last event",
        {"topics": ["jobs"]},
        (Param("topics", "texts", "Which topics; none is all.", (), choices=TOPICS), _SINCE),
        event="seq, time, topic, and the keys of the event",
    ),
    Method(
        "peers.list",
        "The connected peers.",
        "peers: [{peer_id, address, direction: in or out, since, agent, rtt, bytes_in, bytes_out, security, muxer}]",
        {},
    ),
    Method(
        "peers.connect",
        "Dial a peer.",
        "peer_id",
        {"address": "/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"},
        (Param("address", "text", "A multiaddr that ends in /p2p/PEER_ID."),),
        errors=("usage", "unreachable", "timeout"),
        changes=True,
    ),
    Method(
        "peers.disconnect",
        "Close the connections with a peer.",
        "an empty object",
        {"peer": "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"},
        (_PEER,),
        errors=("not-found",),
        changes=True,
    ),
    Method(
        "peers.info",
        "What is known of a peer.",
        "the keys of peers.list when it is connected; addresses, protocols",
        {"peer": "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"},
        (_PEER,),
        errors=("not-found",),
    ),
)

METHODS: dict[str, Method] = {
    method.name: method for method in (*_PROCESS, *_CARE, *_SHARES, *_FINDING, *_JOBS, *_LIFE)
}
