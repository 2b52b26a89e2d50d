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

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_FIRST, _SECOND)
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
    for version in range(found + 1, to + 1):
        with database.transaction():
            for statement in MIGRATIONS[version - 1]:
                database.execute(statement)
            database.execute(f"PRAGMA user_version={version}")
            database.execute(f"PRAGMA application_id={APPLICATION_ID}")
    return found
