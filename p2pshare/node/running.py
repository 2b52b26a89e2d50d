"""The control methods, each a few lines: which part does it, and how its answer looks."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import trio

from p2pshare import fetch, publish, search
from p2pshare.content import BlockReader
from p2pshare.content.metadata import MetadataReader
from p2pshare.dht import DHT
from p2pshare.errors import LocalError, NotFound, P2PShareError, UsageError
from p2pshare.exchange.look import Seen, look
from p2pshare.index import IndexClient
from p2pshare.index.browse import browse
from p2pshare.index.people import People
from p2pshare.index.watch import Watcher
from p2pshare.jobs import JobHandle, JobManager, as_dict, describe
from p2pshare.net.api import Network
from p2pshare.node import browsing, verifying, views, watching
from p2pshare.node.doctor import Doctor
from p2pshare.node.meeting import Meeting
from p2pshare.publish import Announce, Post, ShareOptions
from p2pshare.store import Item, Job, Store
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.link import Link, parse_link
from p2pshare_protocols.text import clean

SHOWN_ENTRIES = 1000

Answer: TypeAlias = dict[str, Any]
Emit: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]


class RunningNode:
    """Implements control.api.Node over the parts."""

    def __init__(
        self,
        *,
        store: Store,
        network: Network,
        dht: DHT,
        reader: BlockReader,
        jobs: JobManager,
        tiers: Sequence[search.Tier],
        people: People,
        watcher: Watcher,
        doctor: Doctor,
        wall_clock: Callable[[], float],
        index_changed: Callable[[], None] = lambda: None,
        publisher: str = "",
        metadata: MetadataReader | None = None,
        meeting: Meeting | None = None,
    ) -> None:
        self._meeting = meeting
        self._index_changed = index_changed
        self._store = store
        self._network = network
        self._dht = dht
        self._reader = reader
        self._jobs = jobs
        self._tiers = tiers
        self._people = people
        self._watcher = watcher
        self._publisher = publisher
        self._metadata = metadata
        self._doctor = doctor
        self._now = wall_clock

    # -- the node itself --

    async def status(self) -> Answer:
        meeting = None if self._meeting is None else self._meeting.status()
        return views.status_view(self._network, self._dht, self._store, str(self._store.directory), meeting)

    async def id(self) -> Answer:
        about = {"peer_id": self._network.peer_id, "addresses": self._network.addresses()}
        return {**about, "publisher": self._publisher}

    async def doctor(self) -> Answer:
        return await self._doctor.examine(self._now())

    async def verify(self, emit: Emit, *, target: str | None, repair: bool) -> Answer:
        items = self._store.items.list() if target is None else self._items_of(target)
        total, done, damaged = sum(item.size for item in items), 0, 0
        repairing: list[int] = []

        async def read(count: int) -> None:
            nonlocal done
            done += count
            await emit({"event": "progress", "bytes": done, "total": total})

        for item in items:
            found = await verifying.verify(self._store, item, read, self._now())
            jobs = [self._repair(item)] if found and repair and item.origin == "fetched" and item.path else []
            damaged += bool(found)
            repairing += jobs
            for damage in found:
                shown = {"cid": str(item.cid), "name": item.name, "origin": item.origin, "job": next(iter(jobs), None)}
                await emit({"event": "damaged", **shown, **asdict(damage)})
        return {"event": "done", "items": len(items), "bytes": done, "damaged": damaged, "repairing": repairing}

    def _repair(self, item: Item) -> int:
        """Fetch its damaged files anew. Only of what was fetched: a user's own files are never touched."""
        return self._jobs.start("verify", {"item": item.id}, item.name, item.cid).id

    async def storage_show(self) -> Answer:
        return views.storage_view(self._store)

    async def storage_gc(self) -> Answer:
        freed = 0
        while dropped := self._store.blocks.sweep():
            freed += dropped
            await trio.lowlevel.checkpoint()
        self._store.maintain()
        return {"blocks_freed": freed, **await self.storage_show()}

    # -- sharing --

    async def share_start(self, *, wait: str, **params: Any) -> Answer:
        options = ShareOptions.from_params(params)
        for path in options.paths:
            if not await trio.Path(path).is_symlink() and not await trio.Path(path).exists():
                raise NotFound(f"there is no {clean(path, limit=1000)}", hint="Check the path.")
        name = options.name or os.path.basename(options.paths[0].rstrip("/"))
        return {"job": self._jobs.start("share", {**options.to_params(), "wait": wait}, name).id}

    async def run_share(self, now: Announce, later: Announce, post: Post | None, job: JobHandle) -> Answer:
        """The runner of share jobs. `now` announces and waits for the receipt, `later` in the background."""
        waits = job.params.get("wait") != "none"
        done = await publish.share(
            store=self._store,
            options=ShareOptions.from_params(job.params),
            job=job,
            announce=now if waits else later,
            post=post if waits else None,
            metadata=self._metadata,
            wall_clock=self._now,
        )
        if not waits:
            self._index_changed()
        return done

    async def shares_list(self) -> Answer:
        shown = []
        for item in self._store.items.list():
            await self._reader.recheck(item)
            shown.append(views.share_view(self._store.items.get(item.id)))
        return {"shares": shown}

    async def shares_show(self, *, target: str) -> Answer:
        item = self._items_of(target)[0]
        await self._reader.recheck(item)
        names = self._store.items.names(item.id, SHOWN_ENTRIES)
        entries = [
            {"path": row.path_in_item, "size": row.size, "kind": row.kind, "cid": str(row.cid)} for _, row in names
        ]
        return {**views.share_view(self._store.items.get(item.id)), "entries": entries}

    async def shares_remove(self, *, target: str) -> Answer:
        items = self._items_of(target)
        for item in items:
            for _ in self._store.items.remove_steps(item.id):
                await trio.lowlevel.checkpoint()
            publish.discard_copy(self._store, item)
            self._store.events.append("shares", {"event": "unshared", "cid": str(item.cid), "name": item.name})
        self._index_changed()
        return {"removed": len(items)}

    def _items_of(self, target: str) -> list[Item]:
        """Items by path, link or CID. Raises NotFound."""
        if target.startswith("/") and not target.startswith("/ipfs/"):
            by_path = self._store.items.by_path(target)
            found = [] if by_path is None else [by_path]
        else:
            found = self._store.items.all_by_cid(_link(target).cid)
        if not found:
            raise NotFound(f"{clean(target, limit=1000)} is not shared here", hint="p2pshare shares lists what is.")
        return found

    # -- finding and fetching --

    async def search(
        self,
        emit: Emit,
        *,
        query: str,
        sort: str,
        limit: int,
        timeout: float,
        local: bool,
        explain: bool,
        **flags: Any,
    ) -> Answer:
        wanted = search.read_query(query, self._now(), **flags)
        return await search.search(
            self._tiers,
            wanted,
            emit,
            limit=limit,
            timeout=timeout,
            sort=sort,
            local=local,
            explain=explain,
            people=self._people,
            now=self._now(),
        )

    async def watch_start(self, *, query: str, known: list[str], **flags: Any) -> Answer:
        search.read_query(query, self._now(), **flags)
        filters = {key: value for key, value in flags.items() if value is not None}
        return watching.shown(self._watcher.start({"query": query, "filters": filters}, known))

    async def watch_list(self) -> Answer:
        return {"watches": [watching.shown(watch) for watch in self._store.watches.list()]}

    async def watch_remove(self, *, watch: int) -> Answer:
        self._watcher.remove(watch)
        return {"watch": watch}

    async def browse(self, emit: Emit, *, peer: str, limit: int, after: int, timeout: float) -> Answer:
        peer_id = await browsing.find(peer, self._network, self._dht, timeout)
        return await browse(IndexClient(self._network), peer_id, emit, limit=limit, after=after, timeout=timeout)

    async def fetch_start(self, **params: Any) -> Answer:
        link = fetch.check(params)
        self._people.fetched(str(link.cid.v1))
        job = self._jobs.start("fetch", params, link.name, link.cid, priority=int(params.get("priority") or 0))
        return {"job": job.id}

    async def show(self, *, link: str, timeout: float) -> Answer:
        wanted = _link(link)
        seen = await look(
            wanted.cid,
            tuple(os.fsencode(part) for part in wanted.path),
            addresses=wanted.addresses,
            timeout=timeout,
            network=self._network,
            dht=self._dht,
            store=self._store,
            reader=self._reader,
        )
        own = self._store.items.by_cid(seen.cid)
        return _shown(wanted, seen, own)

    # -- jobs and events --

    async def jobs_list(self, *, states: list[str]) -> Answer:
        return {"jobs": [_job(job) for job in self._jobs.list(states or None)]}

    async def jobs_show(self, *, job: int) -> Answer:
        found = self._jobs.get(job)
        return {**_job(found), "params": found.params, "result": found.result, "error": found.error}

    async def jobs_pause(self, *, job: int) -> Answer:
        return _stands(await self._jobs.pause(job))

    async def jobs_resume(self, *, job: int) -> Answer:
        return _stands(self._jobs.resume(job))

    async def jobs_cancel(self, *, job: int) -> Answer:
        return _stands(await self._jobs.cancel(job))

    async def jobs_clear(self) -> Answer:
        return {"cleared": self._jobs.clear()}

    async def jobs_watch(self, emit: Emit, *, job: int, since: int | None) -> Answer:
        async with self._jobs.watch(job, since) as events:
            async for event in events:
                if event["event"] == "done":
                    return event
                if event["event"] == "error":
                    raise _error_of(event)
                await emit(event)
        raise LocalError(f"job {job} went away", kind="not-found")

    async def events(self, emit: Emit, *, topics: list[str], since: int | None) -> Answer:
        last = since or 0
        async with self._jobs.feed.follow(topics, since) as events:
            async for event in events:
                await emit(as_dict(event))
                last = event.seq
        return {"last": last}

    # -- peers --

    async def peers_list(self) -> Answer:
        now = trio.current_time()
        return {"peers": [views.peer_view(peer, now) for peer in self._network.peers()]}

    async def peers_connect(self, *, address: str) -> Answer:
        return {"peer_id": await self._network.connect(address)}

    async def peers_disconnect(self, *, peer: str) -> Answer:
        self._connected(peer)
        await self._network.disconnect(peer)
        return {"peer_id": peer}

    async def peers_info(self, *, peer: str) -> Answer:
        return self._connected(peer)

    def _connected(self, peer: str) -> Answer:
        now = trio.current_time()
        for info in self._network.peers():
            if info.peer_id == peer:
                return views.peer_view(info, now)
        raise NotFound(f"{clean(peer, limit=200)} is not connected", hint="p2pshare peers lists who is.")


def _link(text: str) -> Link:
    try:
        return parse_link(text)
    except RemoteProtocolError as error:
        raise UsageError(
            f"{clean(text, limit=200)} is not a link: {error}",
            hint="A link looks like p2pshare:CID/NAME; a CID, ipfs://CID and /ipfs/CID are taken too.",
        ) from error


def _job(job: Job) -> Answer:
    """A job as EXPERIENCE shows it: times are RFC 3339."""
    return {**describe(job), "created": views.timestamp(job.created), "updated": views.timestamp(job.updated)}


def _stands(job: Job) -> Answer:
    return {"job": job.id, "state": job.state}


def _error_of(event: dict[str, Any]) -> P2PShareError:
    return LocalError(
        str(event.get("message", "the job failed")),
        kind=str(event.get("kind", "failed")),
        hint=str(event.get("hint", "")),
    )


def _shown(link: Link, seen: Seen, own: Item | None) -> Answer:
    top = seen.entries[0]
    name = own.name if own is not None else link.path[-1] if link.path else link.name
    inside = [entry for entry in seen.entries if entry.path]
    return {
        "cid": str(seen.cid),
        "name": clean(name, limit=255),
        "kind": top.kind,
        "size": seen.size,
        "files": sum(entry.kind == "file" for entry in seen.entries),
        "entries": [
            {
                "path": clean(b"/".join(entry.path).decode("utf-8", "replace"), limit=1000),
                "kind": entry.kind,
                "size": entry.size or 0,
                "cid": None if entry.cid is None else str(entry.cid),
            }
            for entry in inside[:SHOWN_ENTRIES]
        ],
        "more_entries": max(0, len(inside) - SHOWN_ENTRIES),
        "sources": len(seen.sources),
        "holders": list(seen.sources),
        "here": seen.here,
        "publisher": "",
    }
