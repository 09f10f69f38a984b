#![expect(clippy::disallowed_methods, reason = "a test starts itself as other processes")]

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::*;

const FIRST: (&str, &str) = ("rows", "CREATE TABLE rows (name TEXT NOT NULL);");
const SECOND: (&str, &str) = ("ages", "ALTER TABLE rows ADD COLUMN age INTEGER;");

const ONE: Schema = Schema { module: "test", migrations: &[FIRST] };
const TWO: Schema = Schema { module: "test", migrations: &[FIRST, SECOND] };

/// Names the database to a child of [`processes_that_open_it_at_once_all_can`].
const DATABASE: &str = "MATCHLOCK_TEST_DATABASE";

fn one<T: rusqlite::types::FromSql>(connection: &Connection, query: &str) -> T {
    connection.query_row(query, [], |row| row.get(0)).expect(query)
}

fn version(connection: &Connection) -> i64 {
    one(connection, "SELECT max(version) FROM schema_migrations")
}

#[test]
fn a_new_database_has_all_migrations_and_is_for_its_user_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let connection = TWO.open(&path).expect("opens");
    connection.execute("INSERT INTO rows VALUES ('a', 1)", []).expect("insert");
    assert_eq!(version(&connection), 2);
    assert_eq!(one::<String>(&connection, "PRAGMA journal_mode"), "wal");
    assert_eq!(one::<i64>(&connection, "PRAGMA foreign_keys"), 1);
    let entries = std::fs::read_dir(dir.path()).expect("list");
    let files: Vec<_> = entries.map(|entry| entry.expect("an entry")).collect();
    assert_eq!(files.len(), 4, "the database, its log, its index, the lock: {files:?}");
    for file in files {
        let mode = file.metadata().expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
    }
}

#[test]
fn an_old_database_gets_what_is_missing_and_keeps_its_rows() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let connection = ONE.open(&path).expect("opens");
    connection.execute("INSERT INTO rows VALUES ('a')", []).expect("insert");
    drop(connection);
    for _ in 0..2 {
        let connection = TWO.open(&path).expect("opens");
        assert_eq!(version(&connection), 2);
        assert_eq!(one::<String>(&connection, "SELECT name FROM rows WHERE age IS NULL"), "a");
        assert_eq!(one::<i64>(&connection, "SELECT count(*) FROM schema_migrations"), 2);
    }
}

#[test]
fn a_migration_that_fails_half_way_leaves_the_old_version() {
    const BROKEN: Schema = Schema {
        module: "test",
        migrations: &[
            FIRST,
            SECOND,
            ("broken", "CREATE TABLE half (a); INSERT INTO none VALUES (1);"),
        ],
    };
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    drop(ONE.open(&path).expect("opens"));
    let error = BROKEN.open(&path).expect_err("the third fails");
    assert!(matches!(error, DbError::Sqlite { .. }), "{error}");
    let connection = ONE.open(&path).expect("opens");
    assert_eq!(version(&connection), 1, "neither the second nor the third");
    assert!(!connection.table_exists(None, "half").expect("look"));
    assert!(!connection.column_exists(None, "rows", "age").expect("look"));
}

#[test]
fn a_newer_database_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    drop(TWO.open(&path).expect("opens"));
    let before = std::fs::read(&path).expect("read");
    let error = ONE.open(&path).expect_err("newer");
    let text = format!(
        "the database {} has version 2, and this matchlock knows versions up to 1: use the newer \
         matchlock that wrote it",
        path.display()
    );
    assert_eq!(error.to_string(), text);
    assert!(std::fs::read(&path).expect("read") == before);
    TWO.open(&path).expect("opens again");
}

#[test]
fn a_database_of_another_program_is_not_touched() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let theirs = Connection::open(&path).expect("open");
    theirs.execute_batch("CREATE TABLE rows (theirs TEXT)").expect("a table");
    drop(theirs);
    let before = std::fs::read(&path).expect("read");
    assert!(matches!(ONE.open(&path), Err(DbError::Foreign(_))));
    assert!(std::fs::read(&path).expect("read") == before);
}

#[test]
fn what_is_no_database_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    std::fs::write(&path, "not a database, but longer than its header would be".repeat(9))
        .expect("write");
    assert!(matches!(ONE.open(&path), Err(DbError::Sqlite { .. })));
    let missing = dir.path().join("none").join("state.db");
    assert!(matches!(ONE.open(&missing), Err(DbError::File { action: "lock", .. })));
}

#[test]
fn child_that_opens_a_database() {
    let Some(path) = std::env::var_os(DATABASE) else { return };
    // All of them go on when the parent has started the last one.
    std::io::stdin().read_to_end(&mut Vec::new()).expect("read");
    for _ in 0..4 {
        let connection = TWO.open(Path::new(&path)).expect("opens");
        connection.execute("INSERT INTO rows VALUES ('a', 1)", []).expect("insert");
    }
}

#[test]
fn processes_that_open_it_at_once_all_can() {
    const PROCESSES: i64 = 32;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let program = std::env::current_exe().expect("this program");
    let start = || {
        let mut command = Command::new(&program);
        command.args(["--exact", "tests::child_that_opens_a_database"]);
        command.env(DATABASE, &path).stdin(Stdio::piped()).stdout(Stdio::null());
        command.spawn().expect("start")
    };
    let mut children: Vec<_> = (0..PROCESSES).map(|_| start()).collect();
    // A child has the other ends of those that were started before it only until its own execve.
    children.iter_mut().for_each(|child| drop(child.stdin.take()));
    for mut child in children {
        assert!(child.wait().expect("wait").success());
    }
    let connection = TWO.open(&path).expect("opens");
    assert_eq!(one::<i64>(&connection, "SELECT count(*) FROM schema_migrations"), 2);
    assert_eq!(one::<i64>(&connection, "SELECT count(*) FROM rows"), PROCESSES * 4);
}
