//! The tables, and the door through which later versions change them.
//!
//! `PRAGMA user_version` counts the migrations that a file has been through;
//! `PRAGMA application_id` says that it is ours. To change a table, append a
//! migration; never edit one that was released.

/// `ebbt`, in the file's header.
pub(super) const APPLICATION_ID: i64 = 0x6562_6274;

/// Each is applied once, in order, in a transaction of its own.
pub(super) const MIGRATIONS: [&str; 1] = [V1];

/// Times are milliseconds since 1970; JSON columns say so in their names.
const V1: &str = "
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    parent TEXT,
    parent_step INTEGER,
    owner TEXT,
    project TEXT,
    job TEXT NOT NULL,
    artifact TEXT NOT NULL,
    data_fingerprint TEXT NOT NULL,
    kinds_json TEXT NOT NULL DEFAULT '[]',
    status TEXT NOT NULL,
    error TEXT,
    weights_sha256 TEXT,
    created_ms INTEGER NOT NULL,
    finished_ms INTEGER,
    config TEXT NOT NULL,
    node_seconds REAL,
    cost REAL,
    cost_currency TEXT,
    cost_on_demand REAL
) STRICT;

CREATE TABLE metrics (
    run TEXT NOT NULL,
    kind TEXT NOT NULL,
    round INTEGER NOT NULL,
    name TEXT NOT NULL,
    value REAL,
    step INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    PRIMARY KEY (run, kind, name, round)
) STRICT, WITHOUT ROWID;

CREATE TABLE digests (
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    step INTEGER NOT NULL,
    state_digest TEXT NOT NULL,
    chain TEXT,
    time_ms INTEGER NOT NULL,
    PRIMARY KEY (run, round)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    event TEXT NOT NULL,
    record_json TEXT NOT NULL
) STRICT;
CREATE INDEX events_of_run ON events (run, id);

CREATE TABLE generations (
    run TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    counter INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (run, incarnation, counter)
) STRICT, WITHOUT ROWID;

CREATE TABLE counters (
    run TEXT NOT NULL,
    name TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE workers (
    run TEXT NOT NULL,
    worker TEXT NOT NULL,
    name TEXT NOT NULL,
    devices TEXT NOT NULL,
    kind TEXT NOT NULL,
    zone TEXT,
    price_per_hour REAL,
    build TEXT NOT NULL,
    artifact TEXT NOT NULL,
    registered_ms INTEGER NOT NULL,
    joined_step INTEGER,
    left_ms INTEGER,
    left_reason TEXT,
    PRIMARY KEY (run, worker)
) STRICT, WITHOUT ROWID;
";
