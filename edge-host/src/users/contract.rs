//! What every backend of the user store must do, as tests that each of them runs.

use super::{Due, Outbox, Record, UserStore, Version, Versioned};

/// Runs every test, each on an empty store that `open` has just made.
pub(super) async fn holds<S: UserStore + 'static, Guard>(open: impl AsyncFn() -> (Guard, S)) {
    let (_guard, store) = open().await;
    reads_see_writes(&store).await;
    let (_guard, store) = open().await;
    a_write_that_expects_another_version_changes_nothing(&store).await;
    let (_guard, store) = open().await;
    of_writes_at_once_one_succeeds(store).await;
    let (_guard, store) = open().await;
    an_erased_user_does_not_come_back_by_an_old_write(&store).await;
    let (_guard, store) = open().await;
    those_who_are_due_are_listed_in_order_of_need(&store).await;
    let (_guard, store) = open().await;
    users_are_kept_apart(&store).await;
}

fn versioned(state: u8, outbox: Outbox) -> Versioned {
    let record = Record { state: vec![state; 3], token: Some(vec![9]), outbox, ..Record::default() };
    Versioned { version: Version::draw(), record }
}

fn plain(state: u8) -> Versioned {
    versioned(state, Outbox::Empty)
}

async fn reads_see_writes(store: &impl UserStore) {
    assert_eq!(store.get("ada").await.unwrap(), None);
    let (first, second) = (plain(1), plain(2));
    assert!(store.put_if("ada", None, &first).await.unwrap());
    assert_eq!(store.get("ada").await.unwrap(), Some(first.clone()));
    assert!(store.put_if("ada", Some(first.version), &second).await.unwrap());
    assert_eq!(store.get("ada").await.unwrap(), Some(second.clone()));
    assert_eq!(store.get_newest("ada").await.unwrap(), Some(second));
}

async fn a_write_that_expects_another_version_changes_nothing(store: &impl UserStore) {
    let (first, other) = (plain(1), versioned(2, Outbox::Due { at_ms: 1 }));
    assert!(!store.put_if("ada", Some(first.version), &first).await.unwrap(), "nothing is kept yet");
    assert_eq!(store.get("ada").await.unwrap(), None);
    assert!(store.put_if("ada", None, &first).await.unwrap());
    assert!(!store.put_if("ada", None, &other).await.unwrap(), "something is kept");
    assert!(!store.put_if("ada", Some(other.version), &other).await.unwrap());
    assert_eq!(store.get("ada").await.unwrap(), Some(first));
    assert_eq!(store.pending(u64::MAX - 1, None, 10).await.unwrap(), []);
}

async fn of_writes_at_once_one_succeeds<S: UserStore + 'static>(store: S) {
    let store = std::sync::Arc::new(store);
    let mut expected = None;
    for round in 0..20u8 {
        let tries: Vec<_> = (0..8).map(|_| plain(round)).collect();
        let writes: Vec<_> = tries
            .iter()
            .map(|next| {
                let (store, next) = (std::sync::Arc::clone(&store), next.clone());
                tokio::spawn(async move { store.put_if("ada", expected, &next).await.unwrap() })
            })
            .collect();
        let mut made = Vec::new();
        for (next, write) in tries.into_iter().zip(writes) {
            if write.await.unwrap() {
                made.push(next);
            }
        }
        assert_eq!(made.len(), 1, "round {round}");
        assert_eq!(store.get_newest("ada").await.unwrap().as_ref(), made.first());
        expected = Some(made[0].version);
    }
}

async fn an_erased_user_does_not_come_back_by_an_old_write(store: &impl UserStore) {
    assert!(!store.erase("ada").await.unwrap(), "nothing is kept");
    let first = versioned(1, Outbox::Due { at_ms: 3 });
    assert!(store.put_if("ada", None, &first).await.unwrap());
    assert!(store.erase("ada").await.unwrap());
    assert_eq!(store.get("ada").await.unwrap(), None);
    assert_eq!(store.pending(100, None, 10).await.unwrap(), []);
    assert!(!store.put_if("ada", Some(first.version), &plain(2)).await.unwrap());
    let again = plain(3);
    assert!(store.put_if("ada", None, &again).await.unwrap());
    assert_eq!(store.get("ada").await.unwrap(), Some(again));
}

async fn those_who_are_due_are_listed_in_order_of_need(store: &impl UserStore) {
    let due = |at_ms, user: &str| Due { at_ms, user: user.to_owned() };
    let outboxes = [
        ("ada", Outbox::Due { at_ms: 30 }),
        ("bob", Outbox::Empty),
        ("cleo", Outbox::Sent { again_ms: 10 }),
        ("dan", Outbox::Due { at_ms: 30 }),
        ("eve", Outbox::Due { at_ms: 31 }),
    ];
    for (user, outbox) in outboxes {
        assert!(store.put_if(user, None, &versioned(1, outbox)).await.unwrap());
    }
    let all = [due(10, "cleo"), due(30, "ada"), due(30, "dan")];
    assert_eq!(store.pending(30, None, 10).await.unwrap(), all);
    assert_eq!(store.pending(30, None, 2).await.unwrap(), all[..2]);
    assert_eq!(store.pending(30, Some(&all[1]), 10).await.unwrap(), all[2..]);
    assert_eq!(store.pending(30, Some(&all[2]), 10).await.unwrap(), []);
    assert_eq!(store.pending(9, None, 10).await.unwrap(), []);

    let held = store.get("ada").await.unwrap().unwrap();
    assert!(store.put_if("ada", Some(held.version), &versioned(1, Outbox::Due { at_ms: 5 })).await.unwrap());
    let held = store.get("cleo").await.unwrap().unwrap();
    assert!(store.put_if("cleo", Some(held.version), &plain(1)).await.unwrap());
    assert!(store.erase("dan").await.unwrap());
    let left = [due(5, "ada"), due(31, "eve")];
    assert_eq!(store.pending(1000, None, 10).await.unwrap(), left);
}

async fn users_are_kept_apart(store: &impl UserStore) {
    let names = ["a", "A", "a ", "ä", "a\u{0}b", "user/1", "a{b}", "*"];
    let records: Vec<_> = (0..names.len() as u8).map(plain).collect();
    for (name, record) in names.iter().zip(&records) {
        assert!(store.put_if(name, None, record).await.unwrap());
    }
    for (name, record) in names.iter().zip(records) {
        assert_eq!(store.get(name).await.unwrap(), Some(record), "{name:?}");
    }
}
