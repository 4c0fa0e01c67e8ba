//! What every backend of the user store must do, as tests that each of them runs.

use super::{Record, UserStore};

/// Runs every test, each on an empty store that `open` has just made.
pub(super) async fn holds<S: UserStore, Guard>(open: impl Fn() -> (Guard, S)) {
    let (_guard, store) = open();
    reads_see_writes(&store).await;
    let (_guard, store) = open();
    the_writes_of_a_user_keep_their_order(&store).await;
    let (_guard, store) = open();
    users_with_something_for_central_are_listed(&store).await;
    let (_guard, store) = open();
    users_are_kept_apart(&store).await;
}

fn record(state: u8) -> Record {
    Record { state: vec![state; 3], token: Some(vec![9]), pending: false }
}

async fn reads_see_writes(store: &impl UserStore) {
    assert_eq!(store.get("ada").unwrap(), None);
    let ticket = store.put("ada", Some(record(1)));
    assert_eq!(store.get("ada").unwrap(), Some(record(1)), "before it is durable");
    ticket.durable().await.unwrap();
    assert_eq!(store.get("ada").unwrap(), Some(record(1)), "and after");
    let ticket = store.put("ada", None);
    assert_eq!(store.get("ada").unwrap(), None, "a removal is a write");
    ticket.durable().await.unwrap();
    assert_eq!(store.get("ada").unwrap(), None);
}

async fn the_writes_of_a_user_keep_their_order(store: &impl UserStore) {
    let tickets: Vec<_> = (0..100).map(|number| store.put("ada", Some(record(number)))).collect();
    assert_eq!(store.get("ada").unwrap(), Some(record(99)));
    for ticket in tickets {
        ticket.durable().await.unwrap();
    }
    assert_eq!(store.get("ada").unwrap(), Some(record(99)));
}

async fn users_with_something_for_central_are_listed(store: &impl UserStore) {
    let pending = |pending| Some(Record { pending, ..record(1) });
    store.put("ada", pending(true)).durable().await.unwrap();
    store.put("bob", pending(false)).durable().await.unwrap();
    store.put("cleo", pending(true)).durable().await.unwrap();
    store.put("dan", pending(true)).durable().await.unwrap();
    let listed = || {
        let mut users = store.pending().unwrap();
        users.sort();
        users
    };
    assert_eq!(listed(), ["ada", "cleo", "dan"]);
    store.put("ada", pending(false)).durable().await.unwrap();
    store.put("cleo", None).durable().await.unwrap();
    assert_eq!(listed(), ["dan"], "who has nothing left for central, or is forgotten, is not listed");
}

async fn users_are_kept_apart(store: &impl UserStore) {
    let names = ["a", "A", "a ", "ä", "a\u{0}b", "user/1"];
    for (number, name) in names.iter().enumerate() {
        store.put(name, Some(record(number as u8))).durable().await.unwrap();
    }
    for (number, name) in names.iter().enumerate() {
        assert_eq!(store.get(name).unwrap(), Some(record(number as u8)), "{name:?}");
    }
}
