//! What every backend of the log must do, as tests that each of them runs.

use super::entry::{Entry, LoggedDelta, Mark, SnapshotRecord, VersionRecord};
use super::{Appended, Candidate, Identity, Log, LogError, SCHEMA, for_each_entry};
use nearfield_engine::{DeltaId, Lineage, ModelVersion, Threshold};

/// Runs every test, each on a log that `open` has just made.
pub(super) fn holds<L: Log, Guard>(open: impl Fn() -> (Guard, L)) {
    let tests: [fn(&dyn Log); 8] = [
        a_known_id_is_a_duplicate_within_and_across_batches,
        a_refused_delta_writes_nothing,
        versions_and_ids_are_kept_for_a_time_after_the_next_version,
        a_version_just_replaced_is_kept_and_none_comes_back,
        a_refused_delta_may_be_a_duplicate,
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
    log.initialise(&identity, &snapshot, &version(1, 0), &[9; 32]).unwrap();
    assert_eq!(log.identity().unwrap(), Some(identity));
}

fn version(number: u64, uptime_ms: u64) -> VersionRecord {
    VersionRecord { version: ModelVersion(number), pack_hash: [0; 32], pack_bytes: 1, deltas: 1, uptime_ms }
}

/// Publishes a version at an uptime and returns the oldest that is kept.
fn publish(log: &dyn Log, number: u64, uptime_ms: u64, keep_ms: u64) -> u64 {
    log.publish(mark(number), &version(number, uptime_ms), keep_ms, &[8; 32], &[]).unwrap().oldest_base.0
}

fn mark(number: u64) -> Mark {
    Mark { version: ModelVersion(number), threshold: Threshold::NONE, deltas: 1, pack_hash: [0; 32] }
}

fn delta(id: u8, base: u64) -> Candidate {
    let delta = Some(LoggedDelta { device_tag: 5, row_tags: vec![3], bytes: vec![1] });
    Candidate { id: DeltaId([id; 16]), base_version: ModelVersion(base), delta }
}

fn refused(id: u8, base: u64) -> Candidate {
    Candidate { delta: None, ..delta(id, base) }
}

fn a_known_id_is_a_duplicate_within_and_across_batches(log: &dyn Log) {
    let first = log.append(&[delta(1, 1), delta(1, 1), delta(2, 1)], &[]).unwrap();
    assert_eq!(first, [Some(Appended::New(1)), Some(Appended::Duplicate), Some(Appended::New(2))]);
    assert_eq!(log.append(&[delta(2, 1)], &[]).unwrap(), [Some(Appended::Duplicate)]);
    assert_eq!((log.entries().unwrap(), log.remembered_ids().unwrap()), (2, 2));
}

fn a_refused_delta_writes_nothing(log: &dyn Log) {
    assert_eq!(log.append(&[refused(3, 1), refused(3, 9)], &[]).unwrap(), [None, None]);
    assert_eq!((log.entries().unwrap(), log.remembered_ids().unwrap()), (0, 0));
}

fn a_refused_delta_may_be_a_duplicate(log: &dyn Log) {
    let outcomes = log.append(&[delta(1, 1), refused(1, 1), refused(1, 9)], &[]).unwrap();
    assert_eq!(outcomes, [Some(Appended::New(1)), Some(Appended::Duplicate), None]);
}

fn versions_and_ids_are_kept_for_a_time_after_the_next_version(log: &dyn Log) {
    const HOUR_MS: u64 = 3_600_000;
    const KEEP_MS: u64 = 24 * HOUR_MS;
    log.append(&[delta(1, 1)], &[]).unwrap();
    // Version 1 is the newest until hour 2, so it is kept until hour 26.
    for (number, hour, oldest) in [(2, 2, 1), (3, 25, 1), (4, 26, 1)] {
        assert_eq!(publish(log, number, hour * HOUR_MS, KEEP_MS), oldest);
        assert_eq!(log.append(&[delta(1, 1)], &[]).unwrap(), [Some(Appended::Duplicate)]);
        log.append(&[delta(number as u8, number)], &[]).unwrap();
    }
    assert_eq!(log.remembered_ids().unwrap(), 4);
    assert_eq!(publish(log, 5, 26 * HOUR_MS + 1, KEEP_MS), 2);
    assert_eq!((log.oldest_base().unwrap(), log.remembered_ids().unwrap()), (ModelVersion(2), 3));
    assert_eq!(log.append(&[refused(1, 1)], &[]).unwrap(), [None]);
    assert_eq!(log.append(&[delta(2, 2)], &[]).unwrap(), [Some(Appended::Duplicate)]);
    assert_eq!(log.version(ModelVersion(1)).unwrap(), None);
    assert_eq!(log.version(ModelVersion(5)).unwrap(), Some(version(5, 26 * HOUR_MS + 1)));
    assert_eq!(log.window_key().unwrap(), [8; 32]);
}

fn a_version_just_replaced_is_kept_and_none_comes_back(log: &dyn Log) {
    assert_eq!(log.oldest_base().unwrap(), ModelVersion(1));
    // A longer time later does not bring back what was forgotten.
    for (number, keep_ms, oldest) in [(2, 1, 1), (3, 1, 2), (4, 1_000_000, 2), (5, 1, 4)] {
        assert_eq!(publish(log, number, number * 10, keep_ms), oldest);
        assert_eq!(log.oldest_base().unwrap(), ModelVersion(oldest));
    }
}

fn a_row_s_key_lives_until_the_row_is_published(log: &dyn Log) {
    log.append(&[delta(1, 1)], &[(7, [1; 32]), (3, [2; 32])]).unwrap();
    assert_eq!(log.row_keys().unwrap(), [(3, [2; 32]), (7, [1; 32])]);
    log.publish(mark(2), &version(2, 0), 1, &[8; 32], &[3, 4]).unwrap();
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
    publish(log, 2, 0, 1);
    let numbers = |after, max| -> Vec<u64> {
        log.read(after, max).unwrap().into_iter().map(|(number, _)| number).collect()
    };
    assert_eq!((numbers(0, 2), numbers(2, 2), numbers(3, 2)), (vec![1, 2], vec![3], vec![]));
    assert!(matches!(log.read(2, 1).unwrap()[0].1, Entry::Mark(held) if held == mark(2)));
}
