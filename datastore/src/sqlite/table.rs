//! The tables, and the statements on them.

use std::borrow::Cow;
use std::cell::Cell;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};

use super::SqliteOptions;
use crate::identity::{Kept, Open, keep};
use crate::object::Revision;

/// The version of the tables. A file of a newer one is refused.
const VERSION: i64 = 1;

/// Every how many revisions the history is cut.
const CUT_EVERY: u64 = 1000;

const SCHEMA: &str = "
    CREATE TABLE log (
        revision INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        previous INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        value TEXT NOT NULL
    );
    CREATE TABLE current (key TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE compacted (revision INTEGER NOT NULL);
    INSERT INTO compacted VALUES (0);
";

const INSERT: &str =
    "INSERT INTO log (revision, key, previous, deleted, value) VALUES (?, ?, ?, ?, ?)";
const POINT: &str = "INSERT OR REPLACE INTO current (key, revision) VALUES (?, ?)";
const GET: &str = "SELECT log.key, log.revision, log.deleted, log.value FROM current
    JOIN log ON log.revision = current.revision WHERE current.key = ?";
const REVISION: &str = "SELECT revision FROM current WHERE key = ?";
const LIST: &str = "SELECT log.key, log.revision, log.deleted, log.value FROM current
    JOIN log ON log.revision = current.revision WHERE current.key >= ?1 AND current.key < ?2";
const SINCE: &str = "SELECT key, revision, deleted, value FROM log
    WHERE revision > ? ORDER BY revision LIMIT ?";

/// A row of the log.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) path: String,
    pub(super) revision: Revision,
    pub(super) deleted: bool,
    pub(super) value: String,
}

/// One operation.
#[derive(Debug)]
pub(super) enum Write {
    Create {
        path: String,
        value: String,
    },
    Update {
        path: String,
        value: String,
        expected: Revision,
        open: Option<Open>,
    },
    Put {
        path: String,
        value: String,
        open: Option<Open>,
    },
    Delete {
        path: String,
        expected: Option<Revision>,
    },
}

/// What one caller wants to be written.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) writes: Vec<Write>,
    /// Whether to stop at the first that fails.
    pub(super) ordered: bool,
}

/// What became of a [`Write`].
#[derive(Debug)]
pub(super) enum Outcome {
    /// With what the object keeps of the identity that it had.
    Written(Revision, Kept),
    Deleted {
        revision: Revision,
        value: String,
    },
    Exists,
    Missing,
    Conflict,
}

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{0}")]
    File(#[from] std::io::Error),
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("was written by a newer version (format {found}, this one knows up to {VERSION})")]
    Newer { found: i64 },
    #[error("is a database of something else")]
    Foreign,
}

pub(super) struct Table {
    connection: Connection,
    keep: u64,
    commits: Arc<AtomicU64>,
}

/// How long a connection waits for others that have the lock. A commit on a slow disk takes a second, and there may be dozens
/// of processes before us; one that hangs in the middle of a commit is not waited for without an end.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

thread_local! {
    /// Since when this thread waits for the lock; it waits for one at a time.
    static WAITING: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Waits for another process that holds the lock: shortly and for a random time, so that everybody gets their turn.
fn busy(tries: i32) -> bool {
    let since = match WAITING.get() {
        Some(since) if tries > 0 => since,
        _ => Instant::now(),
    };
    WAITING.set(Some(since));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let random = now.subsec_nanos() / 64 % 700;
    std::thread::sleep(Duration::from_micros(100 + u64::from(random)));
    since.elapsed() < PATIENCE
}

impl Table {
    pub(super) fn open(path: &Path, options: &SqliteOptions) -> Result<Self, OpenError> {
        // Made here, so that nobody else can read it; sqlite gives its other files the same mode.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mut connection = Connection::open(path)?;
        connection.busy_handler(Some(busy))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        let synchronous = if options.durable { "full" } else { "normal" };
        connection.pragma_update(None, "synchronous", synchronous)?;
        settle(&connection)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > VERSION {
            return Err(OpenError::Newer { found });
        }
        if found == 0 {
            let count = "SELECT count(*) FROM sqlite_schema";
            let tables: i64 = transaction.query_row(count, [], |row| row.get(0))?;
            if tables > 0 {
                return Err(OpenError::Foreign);
            }
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()?;
        Ok(Self {
            connection,
            keep: options.keep,
            commits: Arc::default(),
        })
    }

    /// A further connection to a file that is open, for reads alone: in WAL they wait for nobody.
    pub(super) fn reader(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_handler(Some(busy))?;
        connection.pragma_update(None, "query_only", true)?;
        settle(&connection)?;
        Ok(Self {
            connection,
            keep: 0,
            commits: Arc::default(),
        })
    }

    /// How many commits were made here.
    pub(super) fn commits(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.commits)
    }

    /// The newest revision.
    pub(super) fn head(&self) -> rusqlite::Result<Revision> {
        head(&self.connection)
    }

    pub(super) fn get(&self, path: &str) -> rusqlite::Result<Option<Row>> {
        self.connection
            .prepare_cached(GET)?
            .query_row([path], row)
            .optional()
    }

    /// All objects below prefixes, and the revision at which this was so.
    pub(super) fn list(&mut self, prefixes: &[String]) -> rusqlite::Result<(Vec<Row>, Revision)> {
        let transaction = self.connection.transaction()?;
        let mut rows = Vec::new();
        for prefix in prefixes {
            let mut list = transaction.prepare_cached(LIST)?;
            let end = format!("{prefix}\u{10FFFF}");
            for found in list.query_map([prefix, &end], row)? {
                rows.push(found?);
            }
        }
        let revision = head(&transaction)?;
        Ok((rows, revision))
    }

    /// The oldest revision that a watch can begin at.
    pub(super) fn compacted(&self) -> rusqlite::Result<Revision> {
        compacted(&self.connection)
    }

    /// What was written after a revision, `limit` rows at most, and the revision up to which this is everything;
    /// `None` when the history since then is gone.
    pub(super) fn since(
        &mut self,
        since: Revision,
        limit: u16,
    ) -> rusqlite::Result<Option<(Vec<Row>, Revision)>> {
        let transaction = self.connection.transaction()?;
        let head = head(&transaction)?;
        if since == head {
            return Ok(Some((Vec::new(), head)));
        }
        if since < compacted(&transaction)? || since > head {
            return Ok(None);
        }
        let mut select = transaction.prepare_cached(SINCE)?;
        let found = select.query_map(params![since.0.cast_signed(), limit], row)?;
        let rows = found.collect::<rusqlite::Result<Vec<Row>>>()?;
        let complete = if rows.len() < usize::from(limit) {
            head
        } else {
            rows.last().map_or(head, |last| last.revision)
        };
        Ok(Some((rows, complete)))
    }

    /// Does many operations in one commit, each with its own outcome; those of an ordered batch up to the first that
    /// fails.
    pub(super) fn write(&mut self, batches: &[Batch]) -> rusqlite::Result<Vec<Vec<Outcome>>> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let old = head(&transaction)?;
        let mut last = old;
        let mut outcomes = Vec::with_capacity(batches.len());
        for batch in batches {
            let mut of_batch = Vec::with_capacity(batch.writes.len());
            for write in &batch.writes {
                let outcome = apply(&transaction, write, &mut last)?;
                let done = matches!(outcome, Outcome::Written(..) | Outcome::Deleted { .. });
                of_batch.push(outcome);
                if batch.ordered && !done {
                    break;
                }
            }
            outcomes.push(of_batch);
        }
        if old.0 / CUT_EVERY != last.0 / CUT_EVERY && last.0 > self.keep {
            cut(&transaction, Revision(last.0 - self.keep))?;
        }
        transaction.commit()?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(outcomes)
    }

    pub(super) fn compact(&mut self, upto: Revision) -> rusqlite::Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let upto = upto.min(head(&transaction)?);
        cut(&transaction, upto)?;
        transaction.commit()
    }

    pub(super) fn backup(&self, to: &Path) -> rusqlite::Result<()> {
        let to = to.to_string_lossy();
        self.connection
            .execute("VACUUM INTO ?", [to.as_ref()])
            .map(drop)
    }
}

/// What is the same for writing and reading. One plan for a statement, whatever is bound to it: without, one with a range
/// is compiled anew for each.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let revision: i64 = row.get(1)?;
    Ok(Row {
        path: row.get(0)?,
        revision: Revision(revision.cast_unsigned()),
        deleted: row.get(2)?,
        value: row.get(3)?,
    })
}

fn head(connection: &Connection) -> rusqlite::Result<Revision> {
    let mut select = connection.prepare_cached("SELECT max(revision) FROM log")?;
    let found: Option<i64> = select.query_row([], |row| row.get(0))?;
    Ok(Revision(found.unwrap_or(0).cast_unsigned()))
}

fn compacted(connection: &Connection) -> rusqlite::Result<Revision> {
    let mut select = connection.prepare_cached("SELECT revision FROM compacted")?;
    let found: i64 = select.query_row([], |row| row.get(0))?;
    Ok(Revision(found.cast_unsigned()))
}

fn apply(
    transaction: &Transaction<'_>,
    write: &Write,
    last: &mut Revision,
) -> rusqlite::Result<Outcome> {
    let (path, value, expected, open) = match write {
        Write::Create { path, value } => (path, value.as_str(), None, None),
        Write::Put { path, value, open } => (path, value.as_str(), None, *open),
        Write::Update {
            path,
            value,
            expected,
            open,
        } => (path, value.as_str(), Some(*expected), *open),
        Write::Delete { path, expected } => (path, "", *expected, None),
    };
    let found = transaction
        .prepare_cached(REVISION)?
        .query_row([path], |row| row.get::<_, i64>(0))
        .optional()?
        .map(|revision| Revision(revision.cast_unsigned()));
    let previous = match (write, found) {
        (Write::Create { .. }, Some(_)) => return Ok(Outcome::Exists),
        (Write::Update { .. } | Write::Delete { .. }, None) => return Ok(Outcome::Missing),
        (_, Some(found)) if expected.is_some_and(|expected| expected != found) => {
            return Ok(Outcome::Conflict);
        }
        (_, found) => found.unwrap_or(Revision::NONE),
    };
    let deleted = matches!(write, Write::Delete { .. });
    let there = match deleted || open.is_some() {
        true => transaction
            .prepare_cached(GET)?
            .query_row([path], row)
            .optional()?,
        false => None,
    };
    let (value, kept) = with_identity(value, open, there.as_ref());
    let revision = Revision(last.0 + 1);
    let number = revision.0.cast_signed();
    transaction.prepare_cached(INSERT)?.execute(params![
        number,
        path,
        previous.0.cast_signed(),
        deleted,
        value
    ])?;
    *last = revision;
    if deleted {
        transaction
            .prepare_cached("DELETE FROM current WHERE key = ?")?
            .execute([path])?;
        let value = there.map(|gone| gone.value).unwrap_or_default();
        return Ok(Outcome::Deleted { revision, value });
    }
    transaction
        .prepare_cached(POINT)?
        .execute(params![path, number])?;
    Ok(Outcome::Written(revision, kept))
}

/// The value with what was left open of its identity and the object that is there has.
fn with_identity<'a>(
    value: &'a str,
    open: Option<Open>,
    there: Option<&Row>,
) -> (Cow<'a, str>, Kept) {
    let kept = open.zip(there).and_then(|(open, there)| {
        let there = serde_json::from_str(&there.value).ok()?;
        Some(open.kept(&there))
    });
    let kept = kept.unwrap_or_default();
    let completed = (!kept.is_empty()).then(|| serde_json::from_str(value).ok());
    match completed.flatten() {
        Some(mut completed) => {
            keep(&mut completed, &kept);
            (completed.to_string().into(), kept)
        }
        None => (value.into(), kept),
    }
}

/// Cuts the history up to a revision: rows that later ones up to there replaced, and deletions. The newest row stays,
/// because the next revision is counted from it.
fn cut(transaction: &Transaction<'_>, upto: Revision) -> rusqlite::Result<()> {
    let from = compacted(transaction)?.0.cast_signed();
    let upto = upto.0.cast_signed();
    if upto <= from {
        return Ok(());
    }
    let replaced = "DELETE FROM log WHERE revision IN
        (SELECT previous FROM log WHERE revision > ?1 AND revision <= ?2 AND previous > 0)";
    transaction.execute(replaced, [from, upto])?;
    let deletions = "DELETE FROM log WHERE revision > ?1 AND revision <= ?2 AND deleted
        AND revision < (SELECT max(revision) FROM log)";
    transaction.execute(deletions, [from, upto])?;
    transaction.execute("UPDATE compacted SET revision = ?", [upto])?;
    Ok(())
}
