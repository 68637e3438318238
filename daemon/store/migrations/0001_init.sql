-- The first schema. Migrations are appended, never edited: a released database has already run this one.
-- Times are seconds (`_unix_s`) or milliseconds (`_unix_ms`) since 1970.

PRAGMA application_id = 1229803604; -- "IMPT"

CREATE TABLE models (
    name           TEXT    NOT NULL PRIMARY KEY,
    source         TEXT    NOT NULL CHECK (source IN ('bundled', 'local', 'hub')),
    repo           TEXT,
    revision       TEXT,
    path           TEXT    NOT NULL,
    facts          TEXT    NOT NULL CHECK (json_valid(facts)),
    pinned         INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
    keep_alive_ms  INTEGER CHECK (keep_alive_ms >= 0),
    created_unix_s INTEGER NOT NULL,
    CHECK ((source = 'hub') = (repo IS NOT NULL)),
    CHECK ((source = 'hub') = (revision IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- A key is never deleted, so that every log line keeps its meaning; it is revoked.
CREATE TABLE api_keys (
    id               TEXT    NOT NULL PRIMARY KEY,
    label            TEXT    NOT NULL,
    role             TEXT    NOT NULL CHECK (role IN ('readonly', 'user', 'admin')),
    hash             BLOB    NOT NULL CHECK (length(hash) = 32),
    created_unix_s   INTEGER NOT NULL,
    expires_unix_s   INTEGER,
    revoked_unix_s   INTEGER,
    last_used_unix_s INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX idx_key_hash ON api_keys (hash);

-- What was asked of which model, without what was said.
CREATE TABLE request_log (
    id                INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    time_unix_ms      INTEGER NOT NULL,
    verb              TEXT    NOT NULL,
    model             TEXT,
    key_id            TEXT REFERENCES api_keys (id),
    status            TEXT    NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    latency_ms        INTEGER NOT NULL
) STRICT;

CREATE INDEX idx_req_time ON request_log (time_unix_ms DESC);
CREATE INDEX idx_req_key ON request_log (key_id, time_unix_ms DESC);

-- Who changed what.
CREATE TABLE audit_log (
    id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    time_unix_ms INTEGER NOT NULL,
    actor        TEXT    NOT NULL,
    action       TEXT    NOT NULL,
    subject      TEXT    NOT NULL
) STRICT;

CREATE INDEX idx_audit_time ON audit_log (time_unix_ms DESC);

-- One row: what was decided at run time and outlives a restart.
CREATE TABLE server_config (
    id            INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    default_model TEXT REFERENCES models (name) ON DELETE SET NULL ON UPDATE CASCADE
) STRICT;

INSERT INTO server_config (id) VALUES (1);
