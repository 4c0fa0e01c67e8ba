//! What every backend of the log must do, as tests that each of them runs.

use super::entry::{Entry, LoggedDelta, Mark, SnapshotRecord, VersionRecord};
use super::{Appended, Identity, Log, LogError, SCHEMA, for_each_entry};
use nearfield_engine::{DeltaId, Lineage, ModelVersion, Threshold};

/// Runs every test, each on a log that `open` has just made.
pub(super) fn holds<L: Log, Guard>(open: impl Fn() -> (Guard, L)) {
    let tests: [fn(&dyn Log); 7] = [
        a_known_id_is_a_duplicate_within_and_across_batches,
        a_refused_delta_writes_nothing,
        ids_are_kept_as_long_as_their_base_version,
        the_oldest_base_only_rises,
        a_row_s_key_lives_until_the_row_is_published,
        a_snapshot_empties_the_log_and_numbers_go_on,
        entries_are_read_in_order_a_part_at_a_time,
    ];
    for test in tests {
        let (_guard, log) = open();
        initialise(&log);
        test(&log);
    }
}

fn initialise(log: &dyn Log) {
    let identity = Identity { schema: SCHEMA, site: "test".into(), lineage: Lineage(7) };
    let snapshot = SnapshotRecord {
        sequence: 0,
        version: ModelVersion(1),
        statistics_hash: [1; 32],
        pack_hash: [2; 32],
    };
    assert_eq!(log.identity().unwrap(), None);
    log.initialise(&identity, &snapshot, &version(1), &[9; 32]).unwrap();
    assert_eq!(log.identity().unwrap(), Some(identity));
}

fn version(number: u64) -> VersionRecord {
    VersionRecord { version: ModelVersion(number), pack_hash: [0; 32], pack_bytes: 1, published_ms: 0 }
}

fn mark(number: u64) -> Mark {
    Mark { version: ModelVersion(number), threshold: Threshold::NONE, deltas: 1, pack_hash: [0; 32] }
}

fn delta(id: u8, base: u64) -> (DeltaId, Option<LoggedDelta>) {
    let id = DeltaId([id; 16]);
    let logged = LoggedDelta {
        id,
        base_version: ModelVersion(base),
        device_tag: 5,
        row_tags: vec![3],
        bytes: vec![1],
    };
    (id, Some(logged))
}

fn a_known_id_is_a_duplicate_within_and_across_batches(log: &dyn Log) {
    let first = log.append(&[delta(1, 1), delta(1, 1), delta(2, 1)], &[]).unwrap();
    assert_eq!(first, [Some(Appended::New(1)), Some(Appended::Duplicate), Some(Appended::New(2))]);
    assert_eq!(log.append(&[delta(2, 1)], &[]).unwrap(), [Some(Appended::Duplicate)]);
    assert_eq!((log.entries().unwrap(), log.remembered_ids().unwrap()), (2, 2));
}

fn a_refused_delta_writes_nothing(log: &dyn Log) {
    assert_eq!(log.append(&[(DeltaId([3; 16]), None)], &[]).unwrap(), [None]);
    assert_eq!((log.entries().unwrap(), log.remembered_ids().unwrap()), (0, 0));
}

fn ids_are_kept_as_long_as_their_base_version(log: &dyn Log) {
    log.append(&[delta(1, 1), delta(2, 2)], &[]).unwrap();
    log.publish(mark(2), &version(2), ModelVersion(2), &[8; 32], &[]).unwrap();
    assert_eq!(log.remembered_ids().unwrap(), 1);
    assert_eq!(log.append(&[delta(2, 2)], &[]).unwrap(), [Some(Appended::Duplicate)]);
    let versions: Vec<u64> = log.versions().unwrap().iter().map(|record| record.version.0).collect();
    assert_eq!(versions, [2]);
    assert_eq!(log.window_key().unwrap(), [8; 32]);
}

fn the_oldest_base_only_rises(log: &dyn Log) {
    assert_eq!(log.oldest_base().unwrap(), ModelVersion(1));
    for (number, oldest, found) in [(2, 2, 2), (3, 1, 2), (4, 3, 3)] {
        log.publish(mark(number), &version(number), ModelVersion(oldest), &[8; 32], &[]).unwrap();
        assert_eq!(log.oldest_base().unwrap(), ModelVersion(found));
    }
}

fn a_row_s_key_lives_until_the_row_is_published(log: &dyn Log) {
    log.append(&[delta(1, 1)], &[(7, [1; 32]), (3, [2; 32])]).unwrap();
    assert_eq!(log.row_keys().unwrap(), [(3, [2; 32]), (7, [1; 32])]);
    log.publish(mark(2), &version(2), ModelVersion(1), &[8; 32], &[3, 4]).unwrap();
    assert_eq!(log.row_keys().unwrap(), [(7, [1; 32])]);
}

fn a_snapshot_empties_the_log_and_numbers_go_on(log: &dyn Log) {
    log.append(&[delta(1, 1), delta(2, 1)], &[]).unwrap();
    let snapshot = SnapshotRecord { sequence: 2, ..log.snapshot().unwrap() };
    log.set_snapshot(&snapshot).unwrap();
    assert_eq!(log.entries().unwrap(), 0);
    assert_eq!(log.append(&[delta(3, 1)], &[]).unwrap(), [Some(Appended::New(3))]);
    let mut seen = Vec::new();
    for_each_entry::<LogError>(log, 2, |number, _| {
        seen.push(number);
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, [3]);
}

fn entries_are_read_in_order_a_part_at_a_time(log: &dyn Log) {
    log.append(&[delta(1, 1), delta(2, 1)], &[]).unwrap();
    log.publish(mark(2), &version(2), ModelVersion(1), &[8; 32], &[]).unwrap();
    let numbers = |after, max| -> Vec<u64> {
        log.read(after, max).unwrap().into_iter().map(|(number, _)| number).collect()
    };
    assert_eq!((numbers(0, 2), numbers(2, 2), numbers(3, 2)), (vec![1, 2], vec![3], vec![]));
    assert!(matches!(log.read(2, 1).unwrap()[0].1, Entry::Mark(held) if held == mark(2)));
}
