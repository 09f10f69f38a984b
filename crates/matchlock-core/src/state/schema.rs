//! The tables of `state.db`, of which contract 6.2 names the first three.

use matchlock_db::Schema;

pub(super) const SCHEMA: Schema = Schema { module: "matchlock-core", migrations: MIGRATIONS };

/// What was done to the schema, the oldest first. Never change one that was released: add one.
const MIGRATIONS: &[(&str, &str)] = &[FIRST, STARTS];

const STARTS: (&str, &str) = (
    "how often a sandbox was started, and when last",
    "ALTER TABLE vms ADD COLUMN starts INTEGER NOT NULL DEFAULT 1;
     ALTER TABLE vms ADD COLUMN started_at TEXT;",
);

const FIRST: (&str, &str) = (
    "sandboxes, their lives and what they hold",
    // The owner is what `ProcessRecord` has; a `pid` of 0 is nobody. `name` is unique among the living.
    "CREATE TABLE vms (
       id TEXT PRIMARY KEY, pid INTEGER NOT NULL, status TEXT NOT NULL, image TEXT NOT NULL,
       config_json TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
       name TEXT, owner_json TEXT NOT NULL, ending_json TEXT);
     CREATE UNIQUE INDEX vms_name ON vms (name) WHERE status = 'running';
     CREATE TABLE vm_lifecycle (
       vm_id TEXT NOT NULL REFERENCES vms ON DELETE CASCADE, version INTEGER NOT NULL,
       backend TEXT NOT NULL, phase TEXT NOT NULL, updated_at TEXT NOT NULL, last_error TEXT,
       resources_json TEXT NOT NULL, cleanup_json TEXT NOT NULL,
       PRIMARY KEY (vm_id, version));
     CREATE TABLE vm_lifecycle_head (
       vm_id TEXT PRIMARY KEY REFERENCES vms ON DELETE CASCADE, last_version INTEGER NOT NULL);
     -- No cascade: a sandbox is not forgotten as long as it holds something.
     CREATE TABLE resources (
       vm_id TEXT NOT NULL REFERENCES vms, kind TEXT NOT NULL, json TEXT NOT NULL,
       acquired_at TEXT NOT NULL, PRIMARY KEY (vm_id, kind));
     -- For who waits for a sandbox whose row goes with it.
     CREATE TABLE endings (number INTEGER PRIMARY KEY, vm_id TEXT NOT NULL, json TEXT NOT NULL);
     CREATE INDEX endings_vm_id ON endings (vm_id);",
);
