"""The catalogue: items, references into users' files, blocks, jobs, events, peers, provider records; and all SQL.

It may use p2pshare_protocols, errors and SQLite. It must not know the network, trio, or what the verbs do with it.
"""

from p2pshare.store.catalogue import Reader, Store, open_store
from p2pshare.store.events import Events
from p2pshare.store.filetypes import type_of
from p2pshare.store.model import (
    FINAL_STATES,
    JOB_STATES,
    BlockStats,
    Event,
    FileState,
    FoundRow,
    FoundRows,
    Item,
    ItemDraft,
    ItemState,
    Job,
    JobState,
    Located,
    NameRow,
    SourceFile,
)

__all__ = [
    "FINAL_STATES",
    "JOB_STATES",
    "BlockStats",
    "Event",
    "Events",
    "FileState",
    "FoundRow",
    "FoundRows",
    "Item",
    "ItemDraft",
    "ItemState",
    "Job",
    "JobState",
    "Located",
    "NameRow",
    "Reader",
    "SourceFile",
    "Store",
    "open_store",
    "type_of",
]
