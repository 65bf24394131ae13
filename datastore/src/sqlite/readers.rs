//! Connections for reads: the caller's own thread reads, beside the thread that writes and beside other readers.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::table::Table;
use super::worker::unavailable;
use crate::error::StoreError;

/// How many idle connections are kept.
const IDLE: usize = 4;

pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Table>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            idle: Mutex::default(),
        }
    }

    /// Reads over a connection of its own.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&mut Table) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let known = idle().pop();
        let mut table = match known {
            Some(table) => table,
            None => Table::reader(&self.path).map_err(|error| unavailable(&error))?,
        };
        // A connection with an error is not used again.
        let found = read(&mut table).map_err(|error| unavailable(&error))?;
        let mut idle = idle();
        if idle.len() < IDLE {
            idle.push(table);
        }
        Ok(found)
    }
}
