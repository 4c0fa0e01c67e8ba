//! Which versions are kept, and which get a patch to the newest.

use nearfield_engine::ModelVersion;

/// Returns the oldest of `count` versions that end with `newest`.
pub fn oldest_kept(newest: ModelVersion, count: u64) -> ModelVersion {
    ModelVersion((newest.0 + 1).saturating_sub(count))
}

/// Returns the versions that patches to `newest` start from, newest first: 1, 2, 4, 8, … before it, the last
/// at the lineage's first version, at most `max` of them. A device takes the newest that is not newer than its
/// own, so it fetches at most about twice the changes that it lacks.
pub fn patch_bases(newest: ModelVersion, max: u32) -> impl Iterator<Item = ModelVersion> {
    (0..max.min(u64::BITS)).scan(newest, move |last, power| {
        let base = ModelVersion(newest.0.saturating_sub(1 << power).max(1));
        (base < std::mem::replace(last, base)).then_some(base)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_start_further_and_further_back() {
        let bases = |newest, max| -> Vec<u64> {
            patch_bases(ModelVersion(newest), max).map(|version| version.0).collect()
        };
        assert_eq!(bases(300_000, 5), [299_999, 299_998, 299_996, 299_992, 299_984]);
        assert_eq!(bases(9, 20), [8, 7, 5, 1]);
        assert_eq!((bases(1, 20), bases(5, 0)), (vec![], vec![]));
        assert_eq!(bases(u64::MAX, 64).len(), 64);
    }
}
