"""The catalogue's schema, as numbered steps. A step that was released is never changed; a new one is added.

Why it looks like this, at 1,000,000 chunks and 200,000 files:
- `chunks` is clustered by file, so that sharing a file appends to the tree in order; content is found through an
  index of 8 bytes of the digest, not of 36 bytes of CID. The whole CID is compared afterwards.
- a file's path is a directory's number and a name.
- rows that belong to several items (files, blocks) have owners in a table of pairs; with its last owner a row goes.
"""

from __future__ import annotations

from typing import Final

from p2pshare.errors import LocalError
from p2pshare.store.database import Database
from p2pshare.store.found import type_words
from p2pshare.store.text import blob_to_path

APPLICATION_ID: Final = 0x70327073  # "p2ps", for file(1) and against opening somebody else's database

# FTS5 gets terms that are already cut, joined by spaces. Its `ascii` tokenizer splits at ASCII only and is told that
# every printable ASCII character belongs to a token, so that exactly the space separates and terms stay whole.
_TOKENCHARS: Final = "".join(chr(code) for code in range(0x21, 0x7F) if not chr(code).isalnum())
_TOKENIZER: Final = "ascii tokenchars '" + _TOKENCHARS.replace("'", "''") + "'"

_FIRST: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE items (
        id INTEGER PRIMARY KEY AUTOINCREMENT, cid BLOB NOT NULL, name BLOB NOT NULL, path BLOB,
        size INTEGER NOT NULL, files INTEGER NOT NULL, kind TEXT NOT NULL, type TEXT NOT NULL, mime TEXT NOT NULL,
        tags TEXT NOT NULL, title TEXT NOT NULL, description TEXT NOT NULL, hash TEXT NOT NULL, state TEXT NOT NULL,
        origin TEXT NOT NULL, announce INTEGER NOT NULL, indexed INTEGER NOT NULL, created REAL NOT NULL,
        last_announced REAL, stored INTEGER NOT NULL DEFAULT 0, asked INTEGER NOT NULL DEFAULT 0,
        bytes_sent INTEGER NOT NULL DEFAULT 0, removing INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX items_by_cid ON items (cid)",
    "CREATE INDEX items_by_path ON items (path) WHERE path IS NOT NULL",
    """CREATE TABLE names (
        id INTEGER PRIMARY KEY, item INTEGER NOT NULL, path BLOB NOT NULL, cid BLOB, size INTEGER NOT NULL,
        kind TEXT NOT NULL, type TEXT NOT NULL)""",
    "CREATE INDEX names_by_item ON names (item)",
    'CREATE VIRTUAL TABLE words USING fts5 (name, tags, title, path, type, tokenize="'
    + _TOKENIZER.replace('"', '""')
    + '")',
    "CREATE TABLE directories (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE)",
    """CREATE TABLE files (
        id INTEGER PRIMARY KEY AUTOINCREMENT, directory INTEGER NOT NULL, name BLOB NOT NULL, size INTEGER NOT NULL,
        inode INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, root BLOB, verified REAL,
        state TEXT NOT NULL DEFAULT 'ok', transform TEXT NOT NULL DEFAULT 'identity')""",
    "CREATE UNIQUE INDEX files_by_path ON files (directory, name)",
    "CREATE TABLE item_files (item INTEGER, file INTEGER, PRIMARY KEY (item, file)) WITHOUT ROWID",
    "CREATE INDEX item_files_by_file ON item_files (file)",
    """CREATE TABLE chunks (
        file INTEGER, offset INTEGER, length INTEGER NOT NULL, cid BLOB NOT NULL,
        PRIMARY KEY (file, offset)) WITHOUT ROWID""",
    "CREATE INDEX chunks_by_digest ON chunks (substr(cid, 5, 8))",
    """CREATE TABLE blocks (
        id INTEGER PRIMARY KEY, cid BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, data BLOB NOT NULL)""",
    "CREATE TABLE item_blocks (item INTEGER, block INTEGER, PRIMARY KEY (item, block)) WITHOUT ROWID",
    "CREATE INDEX item_blocks_by_block ON item_blocks (block)",
    """CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, params TEXT NOT NULL, state TEXT NOT NULL,
        reason TEXT NOT NULL, bytes INTEGER NOT NULL, total INTEGER, cid TEXT, name TEXT NOT NULL, result TEXT,
        error TEXT, created REAL NOT NULL, updated REAL NOT NULL)""",
    "CREATE INDEX jobs_by_state ON jobs (state)",
    "CREATE TABLE job_blobs (job INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    """CREATE TABLE events (
        seq INTEGER PRIMARY KEY, time REAL NOT NULL, topic TEXT NOT NULL, body TEXT NOT NULL)""",
    "CREATE TABLE peers (peer TEXT PRIMARY KEY, addresses TEXT NOT NULL, seen REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX peers_by_seen ON peers (seen)",
)

_SECOND: Final = (
    "ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
    """CREATE TABLE providers (
        key BLOB, peer TEXT, addresses TEXT NOT NULL, expires REAL NOT NULL, PRIMARY KEY (key, peer)) WITHOUT ROWID""",
    "CREATE INDEX providers_by_expiry ON providers (expires)",
    "CREATE INDEX providers_by_peer ON providers (peer)",
)

# A record of a provider is 60 bytes here and in its two indexes, so that a million of them fit into 200 MiB; what many
# of them share stands once. `place` is 8 bytes of the key's digest; a record's number is its age. No old records are
# carried over: whoever provides does so again within a day.
_PROVIDERS: Final = (
    "DROP TABLE providers",
    """CREATE TABLE provider_peers (
        id INTEGER PRIMARY KEY, peer TEXT NOT NULL UNIQUE, addresses TEXT NOT NULL, subnet TEXT NOT NULL,
        records INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX provider_peers_by_subnet ON provider_peers (subnet)",
    """CREATE TABLE provider_subnets (
        subnet TEXT PRIMARY KEY, peers INTEGER NOT NULL DEFAULT 0, records INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID""",
    "CREATE INDEX provider_subnets_by_records ON provider_subnets (records)",
    """CREATE TABLE providers (
        id INTEGER PRIMARY KEY AUTOINCREMENT, place INTEGER NOT NULL, key BLOB NOT NULL, peer INTEGER NOT NULL,
        expires INTEGER NOT NULL)""",
    "CREATE INDEX providers_by_place ON providers (place, peer)",
    "CREATE INDEX providers_by_peer ON providers (peer)",
    "CREATE INDEX providers_by_expiry ON providers (expires)",
)

# posting_*: postings that this node keeps for others. A record's number is its age. own_*: what we publish ourselves.
_POSTINGS: Final = (
    """CREATE TABLE posting_owners (
        id INTEGER PRIMARY KEY, publisher BLOB NOT NULL, sender TEXT NOT NULL, small TEXT NOT NULL,
        large TEXT NOT NULL, seen REAL NOT NULL, stated INTEGER NOT NULL, postings INTEGER NOT NULL DEFAULT 0,
        UNIQUE (publisher, sender, small))""",
    "CREATE INDEX posting_owners_by_small ON posting_owners (small)",
    "CREATE INDEX posting_owners_by_seen ON posting_owners (seen)",
    """CREATE TABLE posting_records (
        id INTEGER PRIMARY KEY AUTOINCREMENT, publisher BLOB NOT NULL, identity BLOB NOT NULL, owner INTEGER NOT NULL,
        sequence INTEGER NOT NULL, words TEXT NOT NULL, body BLOB NOT NULL, signature BLOB NOT NULL,
        UNIQUE (publisher, identity))""",
    "CREATE INDEX posting_records_by_owner ON posting_records (owner)",
    """CREATE TABLE postings (
        term TEXT, record INTEGER, owner INTEGER NOT NULL, PRIMARY KEY (term, record)) WITHOUT ROWID""",
    "CREATE INDEX postings_by_record ON postings (record)",
    "CREATE TABLE own_items (item INTEGER PRIMARY KEY, cid BLOB NOT NULL)",
    """CREATE TABLE own_records (
        id INTEGER PRIMARY KEY AUTOINCREMENT, item INTEGER NOT NULL, identity BLOB NOT NULL UNIQUE,
        sequence INTEGER NOT NULL, removed INTEGER NOT NULL, body BLOB NOT NULL, signature BLOB NOT NULL)""",
    "CREATE INDEX own_records_by_item ON own_records (item)",
    """CREATE TABLE own_postings (
        term TEXT, record INTEGER, placed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (term, record)) WITHOUT ROWID""",
    "CREATE INDEX own_postings_by_record ON own_postings (record)",
    "CREATE INDEX own_postings_waiting ON own_postings (term) WHERE placed = 0",
    """CREATE TABLE own_terms (
        term TEXT PRIMARY KEY, place BLOB NOT NULL, nodes TEXT NOT NULL, due REAL NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX own_terms_by_due ON own_terms (due)",
    "CREATE TABLE own_nodes (node TEXT PRIMARY KEY, beat REAL NOT NULL) WITHOUT ROWID",
)

_VALUES: Final = (
    """CREATE TABLE dht_values (
        id INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, subnet TEXT NOT NULL,
        expires INTEGER NOT NULL)""",
    "CREATE INDEX dht_values_by_subnet ON dht_values (subnet)",
)

# What a peer was seen to speak, so that the first dial after a restart need not ask.
_SPOKEN: Final = (
    "ALTER TABLE peers ADD COLUMN session TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE peers ADD COLUMN ours INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE peers ADD COLUMN learned REAL NOT NULL DEFAULT 0",
)

# The ending of a file's name is a term of its own, so that `ext:pdf` is looked up and not looked for.
ENDINGS: Final = (
    """UPDATE words SET type = (
        SELECT type_words(n.type, CASE n.path WHEN x'' THEN i.name ELSE n.path END)
        FROM names n JOIN items i ON i.id = n.item WHERE n.id = words.rowid)""",
)

# When a publisher was first heard of, and when it was last seen to hold what a record says (unix seconds, 0 never); of
# our own terms, the nodes that said that their lists are full (JSON).
_PROOFS: Final = (
    "ALTER TABLE posting_owners ADD COLUMN since REAL NOT NULL DEFAULT 0",
    "ALTER TABLE posting_owners ADD COLUMN proven INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE posting_records ADD COLUMN proven INTEGER NOT NULL DEFAULT 0",
    "UPDATE posting_owners SET since = seen",
    "ALTER TABLE own_terms ADD COLUMN full TEXT NOT NULL DEFAULT '[]'",
    "CREATE INDEX own_terms_full ON own_terms (term) WHERE full <> '[]'",
)

# Searches that go on, and what each has told already: 16 bytes of a hash of the CID, what was found last with the
# highest id.
_WATCHES: Final = (
    """CREATE TABLE watches (
        id INTEGER PRIMARY KEY AUTOINCREMENT, params TEXT NOT NULL UNIQUE, created REAL NOT NULL,
        since INTEGER NOT NULL, asked REAL NOT NULL DEFAULT 0, found INTEGER NOT NULL DEFAULT 0)""",
    """CREATE TABLE watch_told (
        id INTEGER PRIMARY KEY AUTOINCREMENT, watch INTEGER NOT NULL, key BLOB NOT NULL, UNIQUE (watch, key))""",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    *(_FIRST, _SECOND, _PROVIDERS, _POSTINGS, _VALUES, _SPOKEN, ENDINGS),
    _PROOFS,
    _WATCHES,
)
VERSION: Final = len(MIGRATIONS)


def migrate(database: Database, to: int = VERSION) -> int:
    """Bring the schema to version `to`, each step in a transaction of its own. Returns the version found.

    Raises LocalError, kind "version-mismatch", when the file is newer than this program, and LocalError when the
    file is no catalogue at all.
    """
    found = database.number("PRAGMA user_version")
    if database.number("PRAGMA application_id") not in (0, APPLICATION_ID) or (
        not found and database.number("SELECT count(*) FROM sqlite_schema")
    ):
        raise LocalError(f"{database.path.name} is a database, but not p2pshare's", hint="move it away")
    if found > VERSION:
        raise LocalError(
            f"the catalogue has schema {found}; this version of p2pshare knows schemas up to {VERSION}",
            kind="version-mismatch",
            hint="run the newer version of p2pshare that made it, or start with another home",
        )
    database.function("type_words", lambda kind, path: type_words(kind, blob_to_path(path).rpartition("/")[2]))
    for version in range(found + 1, to + 1):
        with database.transaction():
            for statement in MIGRATIONS[version - 1]:
                database.execute(statement)
            database.execute(f"PRAGMA user_version={version}")
            database.execute(f"PRAGMA application_id={APPLICATION_ID}")
    return found
