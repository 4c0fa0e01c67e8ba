//! Users on disk: one redb file. Writes of many users that wait together share one transaction (group
//! commit).

use super::{Due, HEAD_BYTES, Outbox, Record, StoreError, UserStore, Version, Versioned, read_value, value};
use async_trait::async_trait;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};
use std::path::Path;
use std::sync::{Arc, mpsc};
use tokio::sync::oneshot;

/// user → [`value`].
const USERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users.2");
/// (time in milliseconds, user) of every outbox that is not empty.
const DUE: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("due");
/// user → record of the layout before: state, token, whether something was pending; as postcard.
const USERS_BEFORE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users");
/// Users of that layout with something pending.
const PENDING_BEFORE: TableDefinition<'_, &str, ()> = TableDefinition::new("pending");
/// Most writes of one transaction (choice: bounds how long the first of a group waits).
const GROUP_MAX: usize = 1024;
/// Memory for pages of the file, in bytes (choice).
const CACHE_BYTES: usize = 64 << 20;

/// A change that waits for its transaction; a removal where there is no record.
struct Write {
    user: String,
    /// The version that must be there; any where it is `None`.
    expected: Option<Option<Version>>,
    next: Option<Versioned>,
    /// Answered with whether the change was made.
    answer: oneshot::Sender<Result<bool, StoreError>>,
}

/// A user store in one redb file.
pub struct RedbUsers {
    database: Arc<Database>,
    writes: mpsc::Sender<Write>,
}

impl RedbUsers {
    /// Opens the store, making the file if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be opened or is not a store; nothing falls back to memory.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(|error| StoreError::new("open", error))?;
        set_up(&database)?;

        let database = Arc::new(database);
        let (writes, queue) = mpsc::channel();
        let writer = Arc::clone(&database);
        std::thread::Builder::new()
            .name("nearfield-store".to_owned())
            .spawn(move || write_all(&writer, &queue))
            .map_err(|error| StoreError::new("start its writer", error))?;
        Ok(Self { database, writes })
    }

    async fn write(
        &self,
        user: &str,
        expected: Option<Option<Version>>,
        next: Option<Versioned>,
    ) -> Result<bool, StoreError> {
        let (answer, written) = oneshot::channel();
        // Without a writer the answer's sender is dropped, and the receiver says so.
        let _ = self.writes.send(Write { user: user.to_owned(), expected, next, answer });
        written.await.unwrap_or_else(|_| Err(StoreError::new("commit", "its writer has stopped")))
    }
}

#[async_trait]
impl UserStore for RedbUsers {
    async fn get(&self, user: &str) -> Result<Option<Versioned>, StoreError> {
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let table = self.database.begin_read()?.open_table(USERS)?;
            Ok(table.get(user)?.map(|bytes| bytes.value().to_vec()))
        };
        let bytes = read().map_err(|error| StoreError::new("read", error))?;
        bytes.as_deref().map(read_value).transpose()
    }

    async fn put_if(
        &self,
        user: &str,
        expected: Option<Version>,
        next: &Versioned,
    ) -> Result<bool, StoreError> {
        self.write(user, Some(expected), Some(next.clone())).await
    }

    async fn erase(&self, user: &str) -> Result<bool, StoreError> {
        self.write(user, None, None).await
    }

    async fn pending(&self, now_ms: u64, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        let read = || -> Result<Vec<Due>, redb::Error> {
            let table = self.database.begin_read()?.open_table(DUE)?;
            let mut due = Vec::new();
            let from = after.map_or((0, ""), |after| (after.at_ms, after.user.as_str()));
            for entry in table.range(from..)? {
                let entry = entry?;
                let (at_ms, user) = entry.0.value();
                let found = Due { at_ms, user: user.to_owned() };
                if at_ms > now_ms || due.len() == limit {
                    break;
                }
                if after != Some(&found) {
                    due.push(found);
                }
            }
            Ok(due)
        };
        read().map_err(|error| StoreError::new("list its pending users", error))
    }
}

/// Makes the tables, and takes over what the layout before has.
fn set_up(database: &Database) -> Result<(), StoreError> {
    let said = |error: redb::Error| StoreError::new("set up its tables", error);
    let begin = || -> Result<_, redb::Error> {
        let transaction = database.begin_write()?;
        let before: Vec<(String, Vec<u8>)> = {
            let table = transaction.open_table(USERS_BEFORE)?;
            let read = table.iter()?.map(|entry| {
                let (user, record) = entry?;
                Ok::<_, redb::Error>((user.value().to_owned(), record.value().to_vec()))
            });
            read.collect::<Result<_, _>>()?
        };
        Ok((transaction, before))
    };
    let (transaction, before) = begin().map_err(said)?;
    let mut taken_over = Vec::with_capacity(before.len());
    for (user, record) in before {
        let (state, token, pending): (Vec<u8>, Option<Vec<u8>>, bool) = postcard::from_bytes(&record)
            .map_err(|error| StoreError::new("decode a record of the layout before", error))?;
        let outbox = if pending { Outbox::Due { at_ms: 0 } } else { Outbox::Empty };
        let next = Versioned {
            version: Version::draw(),
            record: Record { state, token, outbox, ..Record::default() },
        };
        let (answer, _) = oneshot::channel();
        taken_over.push(Write { user, expected: Some(None), next: Some(next), answer });
    }
    let end = || -> Result<(), redb::Error> {
        {
            let mut users = transaction.open_table(USERS)?;
            let mut due = transaction.open_table(DUE)?;
            for write in &taken_over {
                change(&mut users, &mut due, write)?;
            }
        }
        transaction.delete_table(USERS_BEFORE)?;
        transaction.delete_table(PENDING_BEFORE)?;
        transaction.commit()?;
        Ok(())
    };
    end().map_err(said)
}

/// Returns the time in a value's head.
fn due_ms(value: &[u8]) -> Option<u64> {
    let at_ms = value.get(16..HEAD_BYTES)?.try_into().map(u64::from_be_bytes).ok()?;
    (at_ms != u64::MAX).then_some(at_ms)
}

/// Commits what waits, a group at a time, until the store is dropped.
fn write_all(database: &Database, queue: &mpsc::Receiver<Write>) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX {
            let Ok(next) = queue.try_recv() else { break };
            group.push(next);
        }
        let outcome = commit(database, &group).map_err(|error| StoreError::new("commit", error));
        for (index, write) in group.into_iter().enumerate() {
            // A caller that has gone away needs no answer.
            let _ = write.answer.send(outcome.as_ref().map(|made| made[index]).map_err(Clone::clone));
        }
    }
}

/// Makes a group of changes in one transaction; returns which of them were made.
fn commit(database: &Database, group: &[Write]) -> Result<Vec<bool>, redb::Error> {
    let transaction = database.begin_write()?;
    let mut made = Vec::with_capacity(group.len());
    {
        let mut users = transaction.open_table(USERS)?;
        let mut due = transaction.open_table(DUE)?;
        for write in group {
            made.push(change(&mut users, &mut due, write)?);
        }
    }
    transaction.commit()?;
    Ok(made)
}

fn change(
    users: &mut Table<'_, &'static str, &'static [u8]>,
    due: &mut Table<'_, (u64, &'static str), ()>,
    write: &Write,
) -> Result<bool, redb::Error> {
    let user = write.user.as_str();
    let before = users.get(user)?.map(|before| {
        let value = before.value();
        (value.first_chunk().copied().map(Version), due_ms(value))
    });
    let (version, due_before) = before.unwrap_or_default();
    if write.expected.is_some_and(|expected| expected != version)
        || (write.next.is_none() && before.is_none())
    {
        return Ok(false);
    }
    if let Some(at_ms) = due_before {
        due.remove((at_ms, user))?;
    }
    match &write.next {
        Some(next) => {
            users.insert(user, value(next).as_slice())?;
            if let Some(at_ms) = next.record.outbox.due_ms() {
                due.insert((at_ms, user), ())?;
            }
        }
        None => _ = users.remove(user)?,
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_contract_holds() {
        super::super::contract::holds(async || {
            let folder = tempfile::tempdir().unwrap();
            let store = RedbUsers::open(&folder.path().join("users.redb")).unwrap();
            (folder, store)
        })
        .await;
    }

    #[tokio::test]
    async fn a_restart_keeps_every_write_that_was_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.redb");
        let outbox = Outbox::Due { at_ms: 7 };
        let record = Record { state: vec![1, 2, 3], token: Some(vec![9]), outbox, ..Record::default() };
        let ada = Versioned { version: Version::draw(), record };
        let bob = Versioned { version: Version::draw(), record: Record::default() };
        let store = RedbUsers::open(&path).unwrap();
        assert!(store.put_if("ada", None, &ada).await.unwrap());
        assert!(store.put_if("bob", None, &bob).await.unwrap());
        drop(store);

        // The writer lets go of the file when its queue is gone.
        let store = (0..200)
            .find_map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(10));
                RedbUsers::open(&path).ok()
            })
            .expect("the file is free within two seconds");
        assert_eq!(store.get("ada").await.unwrap(), Some(ada));
        assert_eq!(store.pending(7, None, 10).await.unwrap(), [Due { at_ms: 7, user: "ada".to_owned() }]);
    }

    #[tokio::test]
    async fn users_of_the_layout_before_are_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.redb");
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut users = transaction.open_table(USERS_BEFORE).unwrap();
            for (user, pending) in [("ada", true), ("bob", false)] {
                let record = postcard::to_allocvec(&(vec![1u8, 2], Some(vec![9u8]), pending)).unwrap();
                users.insert(user, record.as_slice()).unwrap();
            }
            transaction.open_table(PENDING_BEFORE).unwrap().insert("ada", ()).unwrap();
        }
        transaction.commit().unwrap();
        drop(database);

        let store = RedbUsers::open(&path).unwrap();
        for (user, outbox) in [("ada", Outbox::Due { at_ms: 0 }), ("bob", Outbox::Empty)] {
            let record = Record { state: vec![1, 2], token: Some(vec![9]), outbox, ..Record::default() };
            assert_eq!(store.get(user).await.unwrap().unwrap().record, record);
        }
        assert_eq!(store.pending(0, None, 10).await.unwrap(), [Due { at_ms: 0, user: "ada".to_owned() }]);
    }

    #[test]
    fn a_store_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.redb");
        std::fs::write(&path, b"no store").unwrap();
        let error = RedbUsers::open(&path).err().unwrap();
        assert!(error.to_string().starts_with("user store could not open"), "{error}");
    }
}
