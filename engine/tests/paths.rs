//! The two paths of the engine, by their laws: order, replay, round trips, and bad input.

use nearfield_engine::event::Kind;
use nearfield_engine::model::manifest::{self, FileRef, Manifest, Signed, Slot};
use nearfield_engine::model::pack::Arriving;
use nearfield_engine::sync::wire::{decode_reply, decode_request, encode_reply, encode_request};
use nearfield_engine::*;
use proptest::prelude::*;

const NOW: u64 = 1_700_000_000_000;

/// Two groups of taste, even and odd items; every person clicks eight of one group's ten.
fn two_groups() -> (Statistics, Model, Vec<Delta>) {
    let mut hyper = Hyperparameters::starting_point();
    hyper.alpha = 0.1;
    let mut statistics = Statistics::new(Lineage(1), 8, 8, hyper);
    for item in 0..20 {
        statistics.register(&format!("i{item}")).unwrap();
    }
    let mut model = statistics.empty_model();
    let mut window = Window::new();
    model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).unwrap();
    let deltas = (0..40u8)
        .map(|number| {
            let mut person = UserState::new();
            for step in 0..8u64 {
                let item = (step + u64::from(number)) % 10 * 2 + u64::from(number % 2);
                let time = NOW + step;
                person.learn(&model, &Event::new(Kind::Click, format!("i{item}"), time), time).unwrap();
            }
            let mut delta =
                person.take_delta(&model, DeltaId([number; 16]), &mut Workspace::new()).unwrap().clone();
            // On an empty model every factor is zero; a seed gives the two groups a direction each.
            delta.factor_scale = 0.01;
            delta.factor.iter_mut().enumerate().for_each(|(at, value)| {
                *value = if at % 2 == usize::from(number % 2) { 60 } else { (number as i8 % 7) - 3 };
            });
            delta
        })
        .collect();
    (statistics, model, deltas)
}

fn taught() -> (Statistics, Model) {
    let (mut statistics, mut model, deltas) = two_groups();
    let mut window = Window::new();
    for (device, delta) in deltas.iter().enumerate() {
        statistics.policy(ModelVersion(0)).check(delta).unwrap();
        window.admit(delta, device as u64, &[]);
    }
    model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).unwrap();
    (statistics, model)
}

fn click(person: &mut UserState, model: &Model, item: &str, time: u64) {
    assert_eq!(person.learn(model, &Event::new(Kind::Click, item, time), time), Ok(Learned::Applied));
}

#[test]
fn a_person_is_recommended_the_rest_of_the_own_group() {
    let (_, model) = taught();
    let mut person = UserState::new();
    for item in ["i0", "i2", "i4"] {
        click(&mut person, &model, item, NOW);
    }
    let list = person.recommend(&model, &Request { count: 5, ..Request::default() }, &mut Workspace::new());
    for item in list {
        let id: u32 = model.item_id(item.row)[1..].parse().unwrap();
        assert!(id.is_multiple_of(2) && id > 4, "i{id} was seen or is of the other group");
    }
}

#[test]
fn every_click_changes_the_list() {
    let (_, model) = taught();
    let mut person = UserState::new();
    let mut before = person.recommend(&model, &Request::default(), &mut Workspace::new());
    for item in ["i1", "i3", "i0", "i5"] {
        click(&mut person, &model, item, NOW);
        let after = person.recommend(&model, &Request::default(), &mut Workspace::new());
        assert_ne!(before, after, "{item} changed nothing");
        before = after;
    }
}

#[test]
fn filters_bar_what_they_name() {
    let (mut statistics, mut model) = taught();
    let mut person = UserState::new();
    click(&mut person, &model, "i0", NOW);
    let only = |person: &mut UserState, model: &Model, request: Request| -> Vec<Row> {
        person.recommend(model, &request, &mut Workspace::new()).into_iter().map(|item| item.row).collect()
    };
    let allowed = Request { allow: Some(vec![2, 3, 0]), ..Request::default() };
    let mut rows = only(&mut person, &model, allowed.clone());
    rows.sort_unstable();
    assert_eq!(rows, [2, 3], "row 0 was seen");
    let denied = only(&mut person, &model, Request { deny: vec![3], ..allowed.clone() });
    assert_eq!(denied, [2]);
    assert!(
        only(&mut person, &model, Request { scenario: Scenario::Continue, ..allowed.clone() }).contains(&0)
    );
    statistics.withdraw("i2").unwrap();
    model.apply(&statistics.publish(&mut Window::new(), Threshold::NONE).patch).unwrap();
    assert_eq!(only(&mut person, &model, allowed), [3], "i2 is withdrawn");
}

#[test]
fn an_event_with_a_known_id_counts_once() {
    let (_, model) = taught();
    let mut person = UserState::new();
    let event = Event { event_id: Some("e1".into()), ..Event::new(Kind::Click, "i0", NOW) };
    assert_eq!(person.learn(&model, &event, NOW), Ok(Learned::Applied));
    assert_eq!(person.learn(&model, &event, NOW), Ok(Learned::Duplicate));
    assert_eq!(person.len(), 1);
    assert_eq!(person.learn(&model, &Event::new(Kind::Impression, "i0", NOW), NOW), Ok(Learned::ContextOnly));
    assert_eq!(person.len(), 1);
}

#[test]
fn a_refused_event_changes_nothing() {
    let (_, model) = taught();
    let mut person = UserState::new();
    click(&mut person, &model, "i0", NOW);
    let before = person.to_bytes();
    let bad = Event { value: Some(f32::INFINITY), ..Event::new(Kind::Click, "i2", NOW) };
    assert_eq!(person.learn(&model, &bad, NOW), Err(EventError::NonFiniteValue));
    assert_eq!(person.to_bytes(), before);
}

#[test]
fn an_unknown_item_counts_once_a_version_brings_it() {
    let (mut statistics, mut model) = taught();
    let mut person = UserState::new();
    click(&mut person, &model, "new", NOW);
    assert!(person.preview_delta(&model, &mut Workspace::new()).is_none(), "the model has no row for it");
    let row = statistics.register("new").unwrap();
    model.apply(&statistics.publish(&mut Window::new(), Threshold::NONE).patch).unwrap();
    let delta = person.preview_delta(&model, &mut Workspace::new()).expect("now there is a row to tell of");
    assert_eq!(delta.items[0].row(), row);
    let list = person.recommend(&model, &Request::default(), &mut Workspace::new());
    assert!(list.iter().all(|item| item.row != row), "it was seen");
}

#[test]
fn a_restored_state_gives_the_same_list_and_keeps_its_outbox() {
    let (_, model) = taught();
    let mut person = UserState::new();
    for step in 0..700u64 {
        click(&mut person, &model, &format!("i{}", step * 7 % 10 * 2), NOW + step);
    }
    assert_eq!(person.len(), 700 - 128, "the oldest 128 left together");
    person.take_delta(&model, DeltaId([9; 16]), &mut Workspace::new()).unwrap();
    let mut restored = UserState::from_bytes(&person.to_bytes()).unwrap();
    assert_eq!(restored.outbox(), person.outbox());
    let all = Request { scenario: Scenario::Continue, ..Request::default() };
    let (kept, again) = (
        person.recommend(&model, &all, &mut Workspace::new()),
        restored.recommend(&model, &all, &mut Workspace::new()),
    );
    for (kept, again) in kept.iter().zip(&again) {
        // The running sums of the one and the rebuilt sums of the other differ by rounding.
        assert!((kept.score - again.score).abs() < 1e-2, "{kept:?} became {again:?}");
    }
}

#[test]
fn damaged_states_are_refused_with_a_reason() {
    let (_, model) = taught();
    let mut person = UserState::new();
    click(&mut person, &model, "i0", NOW);
    let bytes = person.to_bytes();
    assert_eq!(UserState::from_bytes(b"something else").unwrap_err(), StateError::Foreign);
    assert_eq!(
        UserState::from_bytes(&bytes[..bytes.len() - 1]).unwrap_err().to_string(),
        "user state is damaged: cut off, or with bytes after its end"
    );
    let mut newer = bytes;
    newer[4] = 200;
    assert_eq!(
        UserState::from_bytes(&newer).unwrap_err().to_string(),
        "user state has schema 200, the newest known here is 2"
    );
}

#[test]
fn a_delta_of_twenty_events_fits_256_bytes_and_moves_to_the_outbox_once() {
    let hyper = Hyperparameters::starting_point();
    let mut statistics = Statistics::new(Lineage(u64::MAX), 64, 27, hyper);
    for item in 0..5000 {
        statistics.register(&format!("i{item}")).unwrap();
    }
    let mut model = statistics.empty_model();
    model.apply(&statistics.publish(&mut Window::new(), Threshold::NONE).patch).unwrap();
    let mut person = UserState::new();
    for step in 0..20 {
        click(&mut person, &model, &format!("i{}", 3000 + step), NOW + step);
    }
    assert!(person.delta_due(NOW + 20));
    let delta = person.take_delta(&model, DeltaId([255; 16]), &mut Workspace::new()).unwrap().clone();
    assert_eq!(delta.items.len(), 20);
    assert!(
        person.take_delta(&model, DeltaId([1; 16]), &mut Workspace::new()).is_none(),
        "nothing is sent twice"
    );
    let request = SyncRequest {
        site: "shop".into(),
        token: vec![7; 40],
        deltas: vec![delta.clone()],
        extensions: vec![],
    };
    let bytes = encode_request(&request).unwrap();
    assert!(bytes.len() <= 256, "{} bytes", bytes.len());
    assert_eq!(decode_request(&bytes).unwrap(), request);
    person.settle(delta.id, &Outcome::Acknowledged);
    assert!(person.outbox().is_empty());
}

#[test]
fn what_is_discarded_is_never_told_even_once_the_model_knows_the_item() {
    let (mut statistics, mut model) = taught();
    let mut person = UserState::new();
    click(&mut person, &model, "i0", NOW);
    person.take_delta(&model, DeltaId([1; 16]), &mut Workspace::new()).unwrap();
    click(&mut person, &model, "new", NOW + 1);
    person.discard_unsent();
    assert!(person.outbox().is_empty());
    statistics.register("new").unwrap();
    model.apply(&statistics.publish(&mut Window::new(), Threshold::NONE).patch).unwrap();
    assert!(person.preview_delta(&model, &mut Workspace::new()).is_none());
    assert_eq!(person.len(), 2, "the history stays");
}

#[test]
fn idle_and_count_make_a_delta_due() {
    let (_, model) = taught();
    let mut person = UserState::new();
    assert!(!person.delta_due(NOW));
    click(&mut person, &model, "i0", NOW);
    assert!(!person.delta_due(NOW + 59_999));
    assert!(person.delta_due(NOW + 60_000));
}

#[test]
fn the_choice_is_counted_by_its_rank_in_the_list_shown() {
    let (_, model) = taught();
    let mut person = UserState::new();
    click(&mut person, &model, "i0", NOW);
    assert_eq!(person.quality().total(), 0, "nothing had been shown");
    let list = person.recommend(&model, &Request::default(), &mut Workspace::new());
    let third = model.item_id(list[2].row).to_owned();
    click(&mut person, &model, &third, NOW + 1);
    assert_eq!(person.quality().bins, [0, 1, 0, 0, 0], "rank 3 lies in the bin of ranks 2 to 5");
    let delta = person.take_delta(&model, DeltaId([1; 16]), &mut Workspace::new()).unwrap();
    assert_eq!(delta.metrics, [VersionMetrics { version: model.version(), bins: [0, 1, 0, 0, 0] }]);
}

#[test]
fn what_is_learnt_privately_is_in_no_delta_and_ranks_all_the_same() {
    let (_, model) = taught();
    let mut workspace = Workspace::new();
    let (mut open, mut private) = (UserState::new(), UserState::new());
    for (turn, item) in ["i0", "i4", "new"].into_iter().enumerate() {
        let event = Event::new(Kind::Click, item, NOW + turn as u64);
        open.learn(&model, &event, event.time_ms).unwrap();
        private.learn_privately(&model, &event, event.time_ms).unwrap();
        let lists = [&mut open, &mut private]
            .map(|person| person.recommend(&model, &Request::default(), &mut workspace));
        assert_eq!(lists[0], lists[1]);
    }
    assert_eq!(private.quality(), open.quality(), "the person's own figures count all");
    assert!(open.quality().total() > 0);
    assert!(private.preview_delta(&model, &mut workspace).is_none(), "neither an event nor a rank is told");
    assert!(!private.delta_due(NOW + 60_000));

    // What comes after is told, and only that.
    click(&mut private, &model, "i2", NOW + 9);
    let delta = private.take_delta(&model, DeltaId([1; 16]), &mut workspace).unwrap();
    assert_eq!(delta.items.iter().map(|item| item.row()).collect::<Vec<_>>(), [2]);
    assert_eq!(delta.metrics.len(), 1);
    assert_eq!(delta.metrics[0].bins.iter().sum::<u16>(), 1);
}

#[test]
fn a_private_event_keeps_what_was_unsent_before_it() {
    let (_, model) = taught();
    let mut person = UserState::new();
    click(&mut person, &model, "i0", NOW);
    let event = Event::new(Kind::Click, "i2", NOW + 1);
    person.learn_privately(&model, &event, NOW + 1).unwrap();
    assert_eq!(person.learn_privately(&model, &event, NOW + 1), Ok(Learned::Applied), "it has no id");
    let delta = person.take_delta(&model, DeltaId([1; 16]), &mut Workspace::new()).unwrap();
    assert_eq!(delta.items.iter().map(|item| item.row()).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_list_shown_by_another_copy_counts_as_if_shown_by_this_one() {
    let (_, model) = taught();
    let mut workspace = Workspace::new();
    let mut person = UserState::new();
    click(&mut person, &model, "i0", NOW);
    let mut copy = UserState::from_bytes(&person.to_bytes()).unwrap();
    let list = person.recommend(&model, &Request::default(), &mut workspace);
    let rows: Vec<Row> = list.iter().map(|item| item.row).collect();
    let chosen = model.item_id(rows[2]).to_owned();
    copy.was_shown(&model, model.version(), &rows);
    for state in [&mut person, &mut copy] {
        click(state, &model, &chosen, NOW + 1);
    }
    assert_eq!(copy.quality().bins, [0, 1, 0, 0, 0]);
    assert_eq!(copy.to_bytes(), person.to_bytes());

    copy.was_shown(&model, model.version(), &[Row::MAX, 0, model.len() as Row]);
    let lists = [&mut person, &mut copy].map(|it| it.recommend(&model, &Request::default(), &mut workspace));
    assert_eq!(lists[0], lists[1], "rows that the model does not have change nothing");
}

#[test]
fn a_list_that_is_not_shown_counts_for_nothing() {
    let (_, model) = taught();
    let mut workspace = Workspace::new();
    let mut person = UserState::new();
    click(&mut person, &model, "i0", NOW);
    let peeked = person.peek(&model, &Request::default(), &mut workspace);
    click(&mut person, &model, model.item_id(peeked[0].row), NOW + 1);
    assert_eq!(person.quality().total(), 0);

    let shown = person.recommend(&model, &Request::default(), &mut workspace);
    let few = Request { count: 1, deny: vec![shown[0].row], ..Request::default() };
    assert_ne!(person.peek(&model, &few, &mut workspace)[0], shown[0]);
    click(&mut person, &model, model.item_id(shown[0].row), NOW + 2);
    assert_eq!(person.quality().bins, [1, 0, 0, 0, 0], "the rank in the list that was shown");
}

/// A person of the golden model with a few events, and room to work.
fn golden_person() -> (Model, UserState, Workspace) {
    let model = golden::model();
    let mut person = UserState::new();
    for turn in 0..12u64 {
        click(&mut person, &model, &format!("item-{}", turn * 7 % 60), NOW + turn * 1_000);
    }
    (model, person, Workspace::new())
}

#[test]
fn a_seed_gives_one_list_and_other_seeds_give_others_around_the_best_guess() {
    let (model, mut person, mut workspace) = golden_person();
    let mut list = |explore: f32, seed: u64| {
        let request = Request { explore, seed, ..Request::default() };
        let list = person.recommend(&model, &request, &mut workspace);
        list.iter().map(|item| item.row).collect::<Vec<_>>()
    };
    let best = list(0.0, 0);
    assert_eq!(list(0.0, 9), best, "without exploration the seed says nothing");
    assert_eq!(list(1.0, 3), list(1.0, 3));
    let distinct = |explore: f32, list: &mut dyn FnMut(f32, u64) -> Vec<Row>| {
        let lists: std::collections::BTreeSet<_> = (0..40).map(|seed| list(explore, seed)).collect();
        let shared: usize = lists.iter().map(|it| it.iter().filter(|row| best.contains(row)).count()).sum();
        (lists.len(), shared as f64 / (lists.len() * best.len()) as f64)
    };
    let (few, near) = distinct(0.05, &mut list);
    let (many, far) = distinct(1.0, &mut list);
    assert!(many > 30 && few > 1, "{few} and {many} lists of 40 seeds");
    assert!(near > far, "{near} and {far} of the best list");
}

#[test]
fn a_person_without_events_has_nothing_to_explore() {
    let model = golden::model();
    let mut workspace = Workspace::new();
    let explored = Request { explore: 1.0, seed: 5, ..Request::default() };
    let list = UserState::new().recommend(&model, &explored, &mut workspace);
    assert_eq!(list, UserState::new().recommend(&model, &Request::default(), &mut workspace));
}

#[test]
fn a_diverse_list_obeys_the_filters_and_is_the_one_shown() {
    let (model, mut person, mut workspace) = golden_person();
    let plain = person.peek(&model, &Request::default(), &mut workspace);
    let request = Request { diversity: 0.6, deny: vec![plain[0].row], ..Request::default() };
    let list = person.recommend(&model, &request, &mut workspace);
    assert_eq!(list.len(), plain.len());
    assert!(list.iter().all(|item| item.row != plain[0].row));
    assert!(list.iter().any(|item| !plain.contains(item)), "some are from further down");
    let third = model.item_id(list[2].row).to_owned();
    let before = person.quality().bins;
    click(&mut person, &model, &third, NOW + 100_000);
    assert_eq!(person.quality().bins[1], before[1] + 1, "rank 3 of the diverse list");
}

#[test]
fn reasons_name_the_heaviest_parts_and_events_of_the_person() {
    let (model, mut person, mut workspace) = golden_person();
    let rows: Vec<Row> = (0..model.len() as Row).collect();
    let (mut parts, mut events) = ([0; 5], 0);
    for scenario in Scenario::ALL {
        let reasons = person.explain(&model, scenario, &rows, &mut workspace);
        assert_eq!(reasons.len(), rows.len());
        for [first, second] in reasons {
            let shares = [first, second].map(|reason| reason.map_or(0.0, |reason| reason.share));
            assert!(shares[0] >= shares[1] && shares[0] + shares[1] <= 1.0 + 1e-6, "{shares:?}");
            assert!(first.is_some() || second.is_none());
            for reason in [first, second].into_iter().flatten() {
                parts[reason.part as usize] += 1;
                if let Some((row, kind)) = reason.because {
                    events += 1;
                    assert_eq!(kind, Kind::Click);
                    let known = person.history().any(|entry| model.row(entry.key) == Some(row));
                    assert!(known, "row {row} is no item of the person's");
                }
            }
        }
    }
    assert!(parts[Part::Taste as usize] > 0 && parts[Part::Popular as usize] > 0, "{parts:?}");
    assert!(events > 0);
    assert_eq!(person.explain(&model, Scenario::Discover, &[Row::MAX], &mut workspace), [[None, None]]);
    let nobody = UserState::new().explain(&model, Scenario::Discover, &rows, &mut workspace);
    let only_popular = |reasons: &[Option<Reason>; 2]| {
        reasons.iter().flatten().all(|reason| reason.part == Part::Popular && reason.because.is_none())
    };
    assert!(nobody.iter().all(only_popular), "who has done nothing gets what is popular");
}

#[test]
fn a_taste_is_traced_to_the_event_that_it_came_from() {
    let (_, model) = taught();
    let mut workspace = Workspace::new();
    // Even items are one taste and odd ones another.
    for (seen, item, expected) in [(["i1", "i0"], "i8", "i0"), (["i0", "i1"], "i9", "i1")] {
        let mut person = UserState::new();
        for (turn, seen) in seen.into_iter().enumerate() {
            click(&mut person, &model, seen, NOW + turn as u64);
        }
        let row = model.row(ItemKey::of(item)).unwrap();
        let reasons = person.explain(&model, Scenario::Discover, &[row], &mut workspace)[0];
        let taste = reasons.iter().flatten().find(|reason| reason.part == Part::Taste).unwrap();
        assert_eq!(taste.because.map(|(row, _)| model.item_id(row)), Some(expected));
    }
}

#[test]
fn a_patched_model_equals_a_downloaded_one_to_the_byte() {
    let (mut statistics, mut model, deltas) = two_groups();
    let start = model.clone();
    let mut window = Window::new();
    let mut changed = Vec::new();
    for (device, delta) in deltas.iter().enumerate() {
        window.admit(delta, device as u64, &[]);
        if device % 10 == 9 {
            statistics.register(&format!("late-{device}")).unwrap();
            let publication = statistics.publish(&mut window, Threshold::NONE);
            changed.extend(publication.changed);
            model.apply(&publication.patch).unwrap();
        }
    }
    let downloaded = Model::load(&model.to_pack()).unwrap();
    assert_eq!(downloaded, model);
    let mut patched = start.clone();
    patched.apply(&Patch::between(&model, start.version(), start.len(), &changed)).unwrap();
    assert_eq!(patched.to_pack(), model.to_pack());
}

#[test]
fn a_patch_from_an_older_version_serves_every_version_since() {
    let (mut statistics, mut model, deltas) = two_groups();
    let mut held = vec![model.clone()];
    for (device, delta) in deltas.iter().enumerate().take(12) {
        let mut window = Window::new();
        window.admit(delta, device as u64, &[]);
        if device % 3 == 0 {
            statistics.register(&format!("late-{device}")).unwrap();
        }
        model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).unwrap();
        held.push(model.clone());
    }
    let rows = statistics.row_versions();
    for from in held.iter().map(Model::version) {
        assert_eq!(rows.rows_at(from), held.iter().find(|model| model.version() == from).unwrap().len());
        let patch = Patch::between(&model, from, rows.rows_at(from), &rows.changed_since(from));
        for older in held.iter().filter(|older| older.version() < model.version()) {
            let mut patched = older.clone();
            let applied = patched.apply(&patch);
            if older.version() < from {
                assert_eq!(applied, Err(PatchError::WrongVersion { from, held: older.version() }));
                assert_eq!(&patched, older);
            } else {
                applied.unwrap();
                assert_eq!(patched.to_pack(), model.to_pack(), "from {from} on {}", older.version());
            }
        }
    }
}

#[test]
fn statistics_go_on_from_their_file_to_the_same_bytes() {
    let (statistics, _, deltas) = two_groups();
    let mut kept = statistics.clone();
    let mut restored = Statistics::from_bytes(&statistics.to_bytes()).unwrap();
    assert_eq!(restored, statistics);
    for statistics in [&mut kept, &mut restored] {
        let mut window = Window::new();
        deltas.iter().for_each(|delta| window.admit(delta, 1, &[]));
        statistics.publish(&mut window, Threshold::NONE);
    }
    assert_eq!(kept.to_bytes(), restored.to_bytes());
    let mut damaged = kept.to_bytes();
    damaged[40] ^= 1;
    assert!(matches!(Statistics::from_bytes(&damaged), Err(MergeError::Damaged { .. })));
}

/// Admits each delta under its device's tag, which is the same in every window and at every row.
fn admit_from<'a>(window: &mut Window, deltas: impl Iterator<Item = (usize, &'a Delta)>) {
    for (device, delta) in deltas {
        window.admit(delta, device as u64, &vec![device as u32; delta.items.len()]);
    }
}

#[test]
fn a_row_waits_for_k_devices_and_loses_nothing() {
    let (statistics, _, deltas) = two_groups();
    let publish_after = |devices: usize| {
        let mut statistics = statistics.clone();
        let mut window = Window::new();
        admit_from(&mut window, deltas.iter().enumerate().take(devices));
        let publication = statistics.publish(&mut window, Threshold::of_devices(10));
        (statistics, window, publication)
    };
    let (_, _, few) = publish_after(4);
    assert!(few.changed.is_empty() && few.waiting > 0, "four devices stay below k = 10");
    let (_, _, many) = publish_after(40);
    assert_eq!(many.changed.len(), 20, "sixteen devices stand behind each of the 20 items");
    // Waiting in one window and filling up in the next brings the same rows as one window.
    let (mut statistics, mut window, _) = publish_after(4);
    admit_from(&mut window, deltas.iter().enumerate().skip(4));
    assert_eq!(statistics.publish(&mut window, Threshold::of_devices(10)).changed, many.changed);
}

#[test]
fn a_device_that_comes_back_in_later_windows_counts_once_a_row() {
    let (mut statistics, _, deltas) = two_groups();
    let mut window = Window::new();
    let mut sizes = Vec::new();
    for round in 0..12u8 {
        let again = Delta { id: DeltaId([round; 16]), ..deltas[0].clone() };
        admit_from(&mut window, std::iter::once((0, &again)));
        let publication = statistics.publish(&mut window, Threshold::of_devices(2));
        assert!(publication.changed.is_empty(), "round {round}: one device was taken for two");
        sizes.push(statistics.to_bytes().len());
    }
    assert!(
        sizes.iter().all(|size| size.abs_diff(sizes[0]) < 16),
        "what waits grows with each visit: {sizes:?}"
    );
    admit_from(&mut window, std::iter::once((1, &deltas[0])));
    assert!(!statistics.publish(&mut window, Threshold::of_devices(2)).changed.is_empty());
}

#[test]
fn all_deltas_of_a_device_count_no_more_for_a_row_than_one_may() {
    let (statistics, model, deltas) = two_groups();
    let popularity_after = |ids: std::ops::Range<u8>| {
        let (mut statistics, mut model) = (statistics.clone(), model.clone());
        let mut window = Window::new();
        for id in ids {
            window.admit(&Delta { id: DeltaId([id; 16]), ..deltas[0].clone() }, 7, &[]);
        }
        model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).unwrap();
        (0..20).map(|row| model.popularity(row)).collect::<Vec<_>>()
    };
    let mentions_max = statistics.hyperparameters().bounds.repeats_max as u8;
    assert_ne!(popularity_after(0..1), popularity_after(0..mentions_max));
    assert_eq!(popularity_after(0..mentions_max), popularity_after(0..100));
}

#[test]
fn what_waits_too_long_is_dropped_and_the_row_begins_anew() {
    let (mut statistics, _, deltas) = two_groups();
    let on_day = |day| Threshold { day, wait_days: 7, ..Threshold::of_devices(3) };
    let mut window = Window::new();
    let mut visit = |device: usize, day| {
        admit_from(&mut window, std::iter::once((device, &deltas[0])));
        statistics.publish(&mut window, on_day(day))
    };
    let began = visit(0, 100);
    assert!(began.waiting > 0 && began.dropped_by_age == 0);
    assert_eq!(visit(1, 106).dropped_by_age, 0);
    let late = visit(1, 107);
    assert_eq!((late.dropped_by_age, late.waiting), (began.waiting, 0), "the seventh day has passed");
    visit(0, 108);
    assert!(visit(1, 108).changed.is_empty(), "two devices since it began anew");
    assert!(!visit(2, 108).changed.is_empty());
}

#[test]
fn what_waits_takes_no_more_memory_than_allowed_and_the_rows_nearest_to_k_stay() {
    let (statistics, _, deltas) = two_groups();
    let publish = |bytes| {
        let mut statistics = statistics.clone();
        let threshold = Threshold { waiting_bytes_max: bytes, ..Threshold::of_devices(10) };
        let mut window = Window::new();
        // Nine devices on the items of one group, and then one on those of the other.
        admit_from(&mut window, deltas.iter().enumerate().step_by(2).take(9));
        statistics.publish(&mut window, threshold);
        admit_from(&mut window, std::iter::once((1, &deltas[1])));
        let publication = statistics.publish(&mut window, threshold);
        let even = statistics.waiting_rows().filter(|row| row % 2 == 0).count();
        (publication.dropped_by_bytes, statistics.waiting_rows().count(), even)
    };
    assert_eq!(publish(u64::MAX), (0, 18, 10));
    let mut budgets = (1..100).rev().map(|limit| publish(limit * 500));
    let (dropped, waiting, even) = budgets.find(|(dropped, ..)| *dropped > 0).unwrap();
    assert!(dropped < 8, "{dropped} rows at once");
    assert_eq!((waiting, even), (18 - dropped, 10));
    let (_, waiting, _) = publish(0);
    assert_eq!(waiting, 0);
}

#[test]
fn rows_that_wait_are_in_the_statistics_file_without_any_delta_s_id() {
    let (mut statistics, _, deltas) = two_groups();
    let mut window = Window::new();
    let ids: Vec<Delta> =
        (0..4).map(|at| Delta { id: DeltaId([200 + at; 16]), ..deltas[at as usize].clone() }).collect();
    admit_from(&mut window, ids.iter().enumerate());
    assert!(statistics.publish(&mut window, Threshold::of_devices(10)).waiting > 0);
    assert!(window.is_empty());
    let bytes = statistics.to_bytes();
    let mut restored = Statistics::from_bytes(&bytes).unwrap();
    assert_eq!(restored.waiting_rows().collect::<Vec<_>>(), statistics.waiting_rows().collect::<Vec<_>>());
    assert!(ids.iter().all(|delta| !bytes.windows(16).any(|part| part == delta.id.0)));
    for statistics in [&mut statistics, &mut restored] {
        let mut window = Window::new();
        admit_from(&mut window, deltas.iter().enumerate().skip(4));
        statistics.publish(&mut window, Threshold::of_devices(10));
    }
    assert_eq!(restored.to_bytes(), statistics.to_bytes());
}

#[test]
fn a_dismissal_is_not_the_newest_item_that_a_person_wanted() {
    let (mut statistics, mut model, deltas) = two_groups();
    let mut window = Window::new();
    admit_from(&mut window, deltas.iter().enumerate());
    model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).unwrap();
    let mut person = UserState::new();
    let mut workspace = Workspace::new();
    let mut newest = |kind, item, time_ms| {
        person.learn(&model, &Event::new(kind, item, time_ms), time_ms).unwrap();
        person.features(&model, &mut workspace).0[2].clone()
    };
    let viewed = newest(Kind::View, "i3", NOW);
    assert!(viewed.is_some());
    assert_eq!(newest(Kind::Dismiss, "i14", NOW + 1), viewed);
    assert_ne!(newest(Kind::View, "i14", NOW + 2), viewed);
}

fn refusal(change: impl FnOnce(&mut Delta)) -> String {
    let (statistics, _, deltas) = two_groups();
    let mut delta = deltas[0].clone();
    assert_eq!(statistics.policy(ModelVersion(1)).check(&delta), Ok(()));
    change(&mut delta);
    statistics.policy(ModelVersion(1)).check(&delta).unwrap_err().to_string()
}

#[test]
fn refusals_name_the_field_and_the_limit() {
    insta::assert_snapshot!([
        refusal(|delta| delta.lineage = Lineage(2)),
        refusal(|delta| delta.base_version = ModelVersion(0)),
        refusal(|delta| delta.base_version = ModelVersion(9)),
        refusal(|delta| delta.factor.truncate(3)),
        refusal(|delta| delta.factor_scale = f32::NAN),
        refusal(|delta| delta.factor_scale = 1.0),
        refusal(|delta| delta.items.clear()),
        refusal(|delta| delta.items.extend([Touch::new(0, 1, false); 40])),
        refusal(|delta| delta.items[0] = Touch::new(20, 1, true)),
        refusal(|delta| delta.items = vec![Touch::new(0, 1, false); 17]),
        refusal(|delta| delta.items[0].kind = 5),
        refusal(|delta| delta.share = 5000),
        refusal(|delta| delta.metrics = vec![VersionMetrics { version: ModelVersion(1), bins: [600, 0, 0, 0, 0] }]),
    ]
    .join("\n"), @r"
    delta is of lineage 0000000000000002, the current one is 0000000000000001
    delta is based on model 0, but the oldest model kept is 1
    delta is based on model 9, the latest is 1
    factor has 3 numbers, the model has 8
    factor_scale is not a finite positive number
    factor has norm 120.14991, the limit is 8
    delta has 0 items, the limit is 1 to 32
    delta has 48 items, the limit is 1 to 32
    delta names row 20, the catalogue has 20
    delta names row 0 17 times, the limit is 16
    delta names kind 5, which does not enter a history
    share is 1.2207031, it must be above 0 and at most 1
    rank bins add up to 600, the limit is 512
    ");
}

#[test]
fn foreign_and_truncated_models_are_refused() {
    let (_, model) = taught();
    let pack = model.to_pack();
    assert_eq!(Model::load(b"PK\x03\x04").unwrap_err(), PackError::Foreign);
    for len in 0..pack.len() {
        assert!(Model::load(&pack[..len]).is_err(), "{len} of {} bytes were taken for a model", pack.len());
    }
    let mut damaged = pack.clone();
    let middle = pack.len() / 2;
    damaged[middle] ^= 0x10;
    assert_eq!(Model::load(&damaged).unwrap_err(), PackError::Checksum);
    let longer = [&pack[..], &[0]].concat();
    assert_eq!(Model::load(&longer).unwrap_err().reason(), "length");
}

#[test]
fn a_pack_may_arrive_in_pieces_of_any_length() {
    let (_, model) = taught();
    let pack = model.to_pack();
    assert_eq!(model.pack_ref(), FileRef::of(&pack));
    for length in [1, 7, 64, 1000, pack.len()] {
        let mut arriving = Arriving::new(pack.len() as u64);
        pack.chunks(length).for_each(|piece| arriving.push(piece).unwrap());
        assert_eq!(arriving.file(), FileRef::of(&pack));
        assert_eq!(arriving.finish().unwrap(), model);
        // One that breaks off, and one that goes on.
        let mut arriving = Arriving::new(pack.len() as u64);
        pack[..pack.len() - 1].chunks(length).for_each(|piece| arriving.push(piece).unwrap());
        assert_eq!(arriving.finish().unwrap_err().reason(), "length");
        let mut arriving = Arriving::new(pack.len() as u64);
        pack.chunks(length).for_each(|piece| arriving.push(piece).unwrap());
        assert_eq!(arriving.push(&[0]).unwrap_err().reason(), "length");
    }
}

#[test]
fn a_patch_that_does_not_fit_leaves_the_model_as_it_was() {
    let (mut statistics, mut model) = taught();
    let before = model.to_pack();
    let first = statistics.publish(&mut Window::new(), Threshold::NONE).patch;
    let second = statistics.publish(&mut Window::new(), Threshold::NONE).patch;
    assert_eq!(
        model.apply(&second).unwrap_err().to_string(),
        "patch starts at version 3, the model held is 2"
    );
    assert_eq!(model.apply(&first[..first.len() - 3]).unwrap_err().reason(), "damaged");
    assert_eq!(model.to_pack(), before);
    model.apply(&first).unwrap();
    model.apply(&second).unwrap();
    assert_eq!(model.version(), ModelVersion(4));
}

const DAY_MS: u64 = 86_400_000;

fn manifest(lineage: Lineage, version: u64, pack: &[u8]) -> Manifest {
    Manifest {
        site: "shop".into(),
        lineage,
        issued_ms: NOW,
        not_after_ms: NOW + 1000,
        stable: Slot { version: ModelVersion(version), pack: FileRef::of(pack), patches: vec![] },
        canary: None,
        canary_share: 0,
        keys: vec![],
        root_signature: vec![],
        extensions: vec![],
    }
}

/// Signs a manifest and reads it as a client does that has this model.
fn offered(manifest: &Manifest, held: Option<Held>, now_ms: u64) -> Result<Update, ManifestError> {
    let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
    let bytes = manifest::sign(manifest, &key);
    Update::read(&bytes, "shop", held, now_ms, manifest::signed_by(key.verifying_key().as_bytes()))
}

#[test]
fn manifests_are_refused_for_each_attack() {
    let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
    let public = key.verifying_key().to_bytes();
    let good = manifest(Lineage(1), 7, b"pack");
    let bytes = manifest::sign(&good, &key);
    let verify = |bytes: &[u8], site: &str, version: u64, now: u64| {
        let held = Held { lineage: Lineage(1), version: ModelVersion(version), issued_ms: NOW };
        let update = Update::read(bytes, site, Some(held), now, manifest::signed_by(&public));
        update.map(|update| update.manifest().clone())
    };
    assert_eq!(verify(&bytes, "shop", 7, NOW), Ok(good.clone()));
    assert_eq!(verify(&bytes, "shop", 8, NOW).unwrap_err().reason(), "rollback");
    assert_eq!(verify(&bytes, "other", 7, NOW).unwrap_err().reason(), "wrong_site");
    assert_eq!(verify(&bytes, "shop", 7, NOW + 1001).unwrap_err().reason(), "expired");
    for place in 0..bytes.len() {
        let mut forged = bytes.clone();
        forged[place] ^= 1;
        assert!(verify(&forged, "shop", 7, NOW).is_err(), "byte {place} is not covered");
        assert!(verify(&bytes[..place], "shop", 7, NOW).is_err());
    }
    assert_eq!(good.stable.pack.check(b"pack"), Ok(()));
    assert_eq!(good.stable.pack.check(b"pick"), Err(ManifestError::Hash));
    assert_eq!(good.stable.pack.check(b"pac").unwrap_err().reason(), "length");
}

#[test]
fn a_host_that_checks_signatures_itself_passes_its_verdict() {
    let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
    let bytes = manifest::sign(&manifest(Lineage(1), 7, b"pack"), &key);
    let signed = Signed::read(&bytes).unwrap();
    let verdict = manifest::signed_by(key.verifying_key().as_bytes())(signed.message, signed.signature);
    assert!(Update::read(&bytes, "shop", None, NOW, |_, _| verdict).is_ok());
    let refused = Update::read(&bytes, "shop", None, NOW, |_, _| Err(ManifestError::BadSignature));
    assert_eq!(refused, Err(ManifestError::BadSignature));
}

#[test]
fn an_unexpired_manifest_of_another_lineage_that_is_older_is_refused() {
    let held = Held { lineage: Lineage(2), version: ModelVersion(9), issued_ms: NOW };
    let older = Manifest { issued_ms: NOW - 1, not_after_ms: NOW + DAY_MS, ..manifest(Lineage(1), 7, b"") };
    assert_eq!(offered(&older, Some(held), NOW).unwrap_err().reason(), "older");
    // The same at the same time or later is a new training: its versions begin anew.
    let newer = Manifest { issued_ms: NOW, ..older };
    assert!(offered(&newer, Some(held), NOW).is_ok());
}

#[test]
fn the_life_of_a_manifest_is_capped() {
    let holds = |ms| offered(&Manifest { not_after_ms: NOW + ms, ..manifest(Lineage(1), 7, b"") }, None, NOW);
    assert!(holds(30 * DAY_MS).is_ok());
    assert_eq!(holds(30 * DAY_MS + 1).unwrap_err().reason(), "too_long");
    assert_eq!(holds(u64::MAX - NOW).unwrap_err().reason(), "too_long");
}

#[test]
fn a_clock_that_jumps_400_days_freezes_nobody() {
    let at =
        |issued_ms| Manifest { issued_ms, not_after_ms: issued_ms + DAY_MS, ..manifest(Lineage(1), 7, b"") };
    let far = NOW + 400 * DAY_MS;
    // Central's clock is ahead: its manifests are refused, and those after the clock was set right are not.
    let held = Held { lineage: Lineage(1), version: ModelVersion(7), issued_ms: NOW };
    assert_eq!(offered(&at(far), Some(held), NOW).unwrap_err().reason(), "in_the_future");
    assert!(offered(&at(NOW + 1), Some(held), NOW + 1).is_ok());
    // The client's is ahead: what it refuses meanwhile it takes afterwards.
    assert_eq!(offered(&at(NOW + 1), Some(held), far).unwrap_err().reason(), "expired");
    // Both were ahead: what was accepted then does not stand in the way.
    assert!(offered(&at(far), Some(held), far).is_ok());
    let held = Held { issued_ms: far, ..held };
    assert!(offered(&at(NOW + 2), Some(held), NOW + 3).is_ok());
    // An hour is no such jump.
    let held = Held { issued_ms: NOW + DAY_MS / 24, ..held };
    assert_eq!(offered(&at(NOW), Some(held), NOW).unwrap_err().reason(), "older");
}

#[test]
fn an_update_goes_by_the_shortest_patch_or_by_the_pack_and_ends_at_what_was_signed() {
    let (mut statistics, mut model, deltas) = two_groups();
    let first = model.clone();
    let mut window = Window::new();
    window.admit(&deltas[0], 1, &[]);
    let second = statistics.publish(&mut window, Threshold::NONE);
    model.apply(&second.patch).unwrap();
    let middle = model.clone();
    window.admit(&deltas[1], 1, &[]);
    let third = statistics.publish(&mut window, Threshold::NONE);
    model.apply(&third.patch).unwrap();
    let (pack, lineage) = (model.to_pack(), model.lineage());
    let rows = statistics.row_versions();
    let from = first.version();
    let long = Patch::between(&model, from, rows.rows_at(from), &rows.changed_since(from));
    let patches = vec![(from, FileRef::of(&long)), (middle.version(), FileRef::of(&third.patch))];
    let mut good = manifest(lineage, model.version().0, &pack);
    good.stable.patches = patches.clone();
    let update = offered(&good, None, NOW).unwrap();
    let step = |version| update.step(lineage, ModelVersion(version));
    let at = |at: usize| Step::Patch { from: patches[at].0, file: patches[at].1 };

    assert_eq!(step(model.version().0), Step::Done);
    assert_eq!((step(middle.version().0), step(from.0)), (at(1), at(0)));
    assert_eq!(step(from.0 - 1), Step::Pack);
    assert_eq!(update.step(Lineage(0), model.version()), Step::Pack);
    for (start, at, patch) in [(&first, 0, &long), (&middle, 0, &long), (&middle, 1, &third.patch)] {
        let updated = update.patched(start.clone(), &patches[at].1, patch).unwrap();
        assert_eq!((&updated, updated.to_pack() == pack), (&model, true));
    }
    let loaded = update.loaded(&pack).unwrap();
    assert_eq!((loaded.version(), loaded.to_pack()), (model.version(), pack.clone()));

    let wrong = update.patched(first.clone(), &patches[1].1, &third.patch).unwrap_err();
    assert!(matches!(wrong, UpdateError::Patch(PatchError::WrongVersion { .. })), "{wrong}");
    let wrong = update.patched(middle.clone(), &patches[1].1, &long).unwrap_err();
    assert!(matches!(wrong, UpdateError::Manifest(ManifestError::Length { .. })), "{wrong}");
    // A signed patch whose model is not the signed pack, and a signed pack of another version.
    let short = Manifest { stable: Slot { pack: FileRef::of(b""), ..good.stable.clone() }, ..good.clone() };
    let wrong = offered(&short, None, NOW).unwrap().patched(middle, &patches[1].1, &third.patch).unwrap_err();
    assert_eq!(wrong, UpdateError::Manifest(ManifestError::Patched));
    let other = manifest(lineage, model.version().0 + 1, &pack);
    let wrong = offered(&other, None, NOW).unwrap().loaded(&pack).unwrap_err();
    assert!(matches!(wrong, UpdateError::Manifest(ManifestError::OtherModel { .. })), "{wrong}");
}

#[test]
fn bad_sync_bodies_are_refused_before_they_are_parsed() {
    let request = SyncRequest { site: "s".into(), token: vec![], deltas: vec![], extensions: vec![] };
    let bytes = encode_request(&request).unwrap();
    assert_eq!(decode_request(&vec![0; 70_000]).unwrap_err().reason(), "too_large");
    assert_eq!(decode_request(b"{}").unwrap_err(), DecodeError::Foreign);
    let mut unknown = bytes.clone();
    unknown[4] = 9;
    assert_eq!(decode_request(&unknown).unwrap_err(), DecodeError::UnknownFormat { found: 9, known: 2 });
    let mut trailing = bytes.clone();
    trailing.push(0);
    assert_eq!(decode_request(&trailing).unwrap_err(), DecodeError::Malformed);
    // The site's length 1 written in two bytes: the same value, not the one way to write it.
    let mut long = bytes[..6].to_vec();
    long.extend([0x81, 0x00]);
    long.extend(&bytes[7..]);
    assert_eq!(decode_request(&long).unwrap_err(), DecodeError::NotCanonical);
}

#[test]
fn replies_come_back_as_they_were() {
    let refused = Outcome::Refused(Refusal::Stale { base: ModelVersion(1), oldest: ModelVersion(4) });
    let reply = SyncReply {
        results: vec![(DeltaId([1; 16]), Outcome::Acknowledged), (DeltaId([2; 16]), refused)],
        lineage: Lineage(3),
        version: ModelVersion(5),
        extensions: vec![],
    };
    assert_eq!(decode_reply(&encode_reply(&reply)).unwrap(), reply);
}

#[test]
fn the_golden_digest_is_the_recorded_one() {
    let recorded = include_str!("../../tests/golden/digest.txt");
    assert_eq!(golden::digest(), recorded.trim(), "if the change is meant, record the new digest");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_order_of_deltas_gives_the_same_model(order in Just((0..40usize).collect::<Vec<_>>()).prop_shuffle()) {
        let (statistics, model, deltas) = two_groups();
        let publish = |order: &[usize]| {
            let (mut statistics, mut model) = (statistics.clone(), model.clone());
            let mut window = Window::new();
            order.iter().for_each(|at| window.admit(&deltas[*at], *at as u64, &[]));
            model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).unwrap();
            (model.to_pack(), statistics.to_bytes())
        };
        let plain: Vec<usize> = (0..40).collect();
        prop_assert_eq!(publish(&order), publish(&plain));
    }

    #[test]
    fn what_waits_is_the_same_in_any_order(
        order in Just((0..40usize).collect::<Vec<_>>()).prop_shuffle(), cut in 0usize..=40
    ) {
        let (statistics, _, deltas) = two_groups();
        let after = |order: &[usize]| {
            let mut statistics = statistics.clone();
            for second in [false, true] {
                let mut window = Window::new();
                let part = order.iter().filter(|at| (**at >= cut) == second);
                admit_from(&mut window, part.map(|at| (*at, &deltas[*at])));
                statistics.publish(&mut window, Threshold::of_devices(14));
            }
            statistics.to_bytes()
        };
        let plain: Vec<usize> = (0..40).collect();
        prop_assert_eq!(after(&plain), after(&order));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), magic in 0usize..6) {
        let magics: [&[u8]; 6] = [b"NFSY\x02\0", b"NFSR\x02\0", b"NFPK\x02\0", b"NFPT\x02\0", b"NFUS\x02\0", b"NFMF\x01\0"];
        bytes.splice(0..0, magics[magic].iter().copied());
        let _decoded = (
            decode_request(&bytes), decode_reply(&bytes), Model::load(&bytes), Patch::load(&bytes),
            UserState::from_bytes(&bytes), Statistics::from_bytes(&bytes),
            Update::read(&bytes, "s", None, 0, |_, _| Ok(())),
        );
    }
}

/// The list by its definition: every row's score, filtered, sorted; ties to the lower row.
fn by_brute_force(person: &mut UserState, model: &Model, request: &Request) -> Vec<(u32, u32)> {
    let mut scores = Vec::new();
    person.scores(model, request.scenario, &mut Workspace::new(), &mut scores);
    let seen: Vec<Option<u32>> = person.history().map(|entry| model.row(entry.key)).collect();
    let mut ranked: Vec<(u32, f32)> = (0..model.len() as u32).zip(scores).collect();
    ranked.retain(|(row, _)| {
        !model.is_withdrawn(*row)
            && !request.deny.contains(row)
            && request.allow.as_ref().is_none_or(|allow| allow.contains(row))
            && (request.scenario == Scenario::Continue || !seen.contains(&Some(*row)))
    });
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked.truncate(request.count as usize);
    ranked.into_iter().map(|(row, score)| (row, score.to_bits())).collect()
}

#[test]
fn the_list_is_what_scoring_every_row_gives_through_patches_and_filters() {
    const ITEMS: u64 = 700;
    let mut seed = 7u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for dim in [5, 16, 40] {
        let mut hyper = Hyperparameters::starting_point();
        hyper.bounds.step_max = f32::INFINITY;
        let blend = &mut hyper.blend;
        for weight in blend.by_scenario.iter_mut().flatten().flatten() {
            *weight = random(200) as f32 / 100.0 - 0.5;
        }
        let mut statistics = Statistics::new(Lineage(9), dim, 6, hyper);
        for item in 0..ITEMS {
            statistics.register(&format!("item-{item}")).unwrap();
        }
        let mut window = Window::new();
        let mut model = statistics.empty_model();
        model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).unwrap();
        let mut people: Vec<UserState> = (0..12).map(|_| UserState::new()).collect();
        for round in 0..6u64 {
            for number in 0..120u64 {
                let items = (0..8).map(|at| {
                    let skewed = random(ITEMS).min(random(ITEMS)).min(random(ITEMS));
                    nearfield_engine::Touch::new(skewed as u32, 1, at == 0)
                });
                let delta = nearfield_engine::Delta {
                    id: DeltaId(u128::from(round * 1000 + number).to_le_bytes()),
                    lineage: model.lineage(),
                    base_version: model.version(),
                    factor_scale: 0.01,
                    items: items.collect(),
                    factor: (0..dim).map(|_| (random(255) as i16 - 127) as i8).collect(),
                    share: 4096,
                    metrics: vec![],
                };
                window.admit(&delta, number, &[]);
            }
            statistics.withdraw(&format!("item-{}", random(ITEMS))).unwrap();
            statistics.register(&format!("new-{round}")).unwrap();
            model.apply(&statistics.publish(&mut window, Threshold::NONE).patch).unwrap();
            for (number, person) in people.iter_mut().enumerate() {
                for step in 0..number as u64 {
                    let item = format!("item-{}", random(ITEMS).min(random(ITEMS)));
                    person.learn(&model, &Event::new(Kind::Click, item, 1 + step), 1_000_000).unwrap();
                    let mut request = Request { count: 1 + random(30) as u32, ..Request::default() };
                    if random(2) == 0 {
                        request.scenario = Scenario::Continue;
                    }
                    if random(3) == 0 {
                        request.deny = (0..40).map(|_| random(ITEMS) as u32).collect();
                    }
                    if random(4) == 0 {
                        request.allow = Some((0..random(300)).map(|_| random(ITEMS) as u32).collect());
                    }
                    let expected = by_brute_force(person, &model, &request);
                    let list = person.recommend(&model, &request, &mut Workspace::new());
                    let found: Vec<_> = list.iter().map(|item| (item.row, item.score.to_bits())).collect();
                    assert_eq!(found, expected, "d = {dim}, round {round}, {request:?}");
                }
            }
        }
    }
}

#[test]
fn a_choice_from_a_list_of_another_lineage_is_not_counted() {
    let (large, (_, small)) = (golden::model(), taught());
    let mut person = UserState::new();
    person.recommend(&large, &Request::default(), &mut Workspace::new());
    click(&mut person, &small, "i0", NOW);
    assert_eq!(person.quality().total(), 0, "rows of another lineage are other items");
}

#[test]
fn a_list_on_a_new_lineage_with_fewer_rows_owes_nothing_to_the_list_before() {
    let (large, (_, small)) = (golden::model(), taught());
    let request = Request { count: 20, ..Request::default() };
    let mut workspace = Workspace::new();
    let mut person = UserState::new();
    click(&mut person, &large, "item-199", NOW);
    let shown = person.recommend(&large, &request, &mut workspace);
    assert!(shown.iter().any(|item| item.row as usize >= small.len()), "rows that the small model lacks");
    let list = person.recommend(&small, &request, &mut workspace);
    let mut fresh = UserState::from_bytes(&person.to_bytes()).unwrap();
    assert_eq!(list, fresh.recommend(&small, &request, &mut Workspace::new()));
    // And back, with the same workspace.
    let list = person.recommend(&large, &request, &mut workspace);
    assert_eq!(list, fresh.recommend(&large, &request, &mut Workspace::new()));
}

#[test]
fn a_choice_is_counted_for_the_version_that_listed_it() {
    let (mut statistics, mut model) = taught();
    let mut workspace = Workspace::new();
    let mut person = UserState::new();
    click(&mut person, &model, "i0", NOW);
    let first = person.recommend(&model, &Request::default(), &mut workspace)[0];
    let listed_by = model.version();
    let chosen = model.item_id(first.row).to_owned();
    statistics.register("later").unwrap();
    model.apply(&statistics.publish(&mut Window::new(), Threshold::NONE).patch).unwrap();
    click(&mut person, &model, &chosen, NOW);
    let delta = person.preview_delta(&model, &mut workspace).unwrap();
    assert_eq!(delta.metrics, [VersionMetrics { version: listed_by, bins: [1, 0, 0, 0, 0] }]);
}

#[test]
fn a_delta_after_many_choices_offline_is_admitted() {
    let (statistics, model) = taught();
    let mut workspace = Workspace::new();
    let mut person = UserState::new();
    let mut list = Vec::new();
    for turn in 0..600 {
        let event = Event::new(Kind::Click, format!("i{}", turn % 20), NOW + turn);
        let request = Request { scenario: Scenario::Continue, ..Request::default() };
        person.observe(&model, &event, NOW + turn, &request, &mut workspace, &mut list).unwrap();
    }
    assert!(person.quality().total() > 512, "{:?}", person.quality());
    let delta = person.take_delta(&model, DeltaId([1; 16]), &mut workspace).unwrap();
    assert_eq!(statistics.policy(ModelVersion(0)).check(delta), Ok(()));
    let told: u32 = delta.metrics.iter().flat_map(|metrics| metrics.bins).map(u32::from).sum();
    assert!((500..=512).contains(&told), "{told} of the 512 that a delta may hold");
}

#[test]
fn a_new_items_first_events_wait_until_a_version_brings_its_row() {
    let (mut statistics, mut model) = taught();
    let mut workspace = Workspace::new();
    let mut person = UserState::new();
    click(&mut person, &model, "new", NOW);
    click(&mut person, &model, "i0", NOW + 1);
    click(&mut person, &model, "new", NOW + 2);
    click(&mut person, &model, "i2", NOW + 3);
    let delta = person.take_delta(&model, DeltaId([1; 16]), &mut workspace).unwrap().clone();
    assert_eq!(delta.items.len(), 2, "what has rows goes at once");
    assert_eq!(person.unsent(), 0);
    assert_eq!(person.take_delta(&model, DeltaId([2; 16]), &mut workspace), None, "the rest waits");

    // The wait outlives storage.
    let mut person = UserState::from_bytes(&person.to_bytes()).unwrap();
    let row = statistics.register("new").unwrap();
    model.apply(&statistics.publish(&mut Window::new(), Threshold::NONE).patch).unwrap();
    click(&mut person, &model, "i4", NOW + 4);
    let waited = person.take_delta(&model, DeltaId([3; 16]), &mut workspace).unwrap().clone();
    let rows: Vec<(Row, bool)> =
        waited.items.iter().map(|item| (item.row(), item.starts_session())).collect();
    assert_eq!(rows, [(row, true), (row, false)]);
    let fresh = person.take_delta(&model, DeltaId([4; 16]), &mut workspace).unwrap();
    assert_eq!(fresh.items.iter().map(|item| item.row()).collect::<Vec<_>>(), [4]);
    assert_eq!(person.take_delta(&model, DeltaId([5; 16]), &mut workspace), None, "each is told once");
}

#[test]
fn events_that_waited_in_different_sessions_go_in_different_deltas() {
    let (mut statistics, mut model) = taught();
    let mut workspace = Workspace::new();
    let mut person = UserState::new();
    let hour = 60 * 60 * 1000;
    for (number, item) in ["new-a", "new-b", "i0"].into_iter().enumerate() {
        click(&mut person, &model, item, NOW + number as u64 * hour);
    }
    person.take_delta(&model, DeltaId([1; 16]), &mut workspace).unwrap();
    let rows = ["new-a", "new-b"].map(|id| statistics.register(id).unwrap());
    model.apply(&statistics.publish(&mut Window::new(), Threshold::NONE).patch).unwrap();
    for (number, row) in rows.into_iter().enumerate() {
        let delta = person.take_delta(&model, DeltaId([2 + number as u8; 16]), &mut workspace).unwrap();
        assert_eq!(delta.items.iter().map(|item| item.row()).collect::<Vec<_>>(), [row]);
    }
}

#[test]
fn a_state_of_every_older_schema_is_read() {
    // Four events sent, three unsent of which one has no row, one delta in the outbox, six choices counted.
    let model = golden::model();
    let bytes = include_bytes!("states/schema-1.bin");
    let mut person = UserState::from_bytes(bytes).unwrap();
    assert_eq!((person.len(), person.unsent(), person.outbox().len()), (7, 3, 1));
    assert_eq!(person.quality().bins, [0, 0, 0, 1, 5]);
    assert_eq!(person.history().map(|entry| entry.kind()).nth(4), Some(Kind::Purchase));
    let delta = person.take_delta(&model, DeltaId([8; 16]), &mut Workspace::new()).unwrap();
    assert_eq!(delta.items.len(), 2);
    let event = Event { event_id: Some("e2".into()), ..Event::new(Kind::Click, "item-21", NOW) };
    assert_eq!(person.learn(&model, &event, NOW), Ok(Learned::Duplicate), "event ids are remembered");
    assert_eq!(UserState::from_bytes(&person.to_bytes()).unwrap().to_bytes(), person.to_bytes());
}

#[test]
fn only_a_higher_schema_is_newer() {
    let with_schema = |schema: u16| {
        let mut bytes = include_bytes!("states/schema-1.bin").to_vec();
        bytes[4..6].copy_from_slice(&schema.to_le_bytes());
        UserState::from_bytes(&bytes).err().map(|error| error.reason())
    };
    assert_eq!(with_schema(u16::MAX), Some("newer_schema"));
    assert_eq!(with_schema(0), Some("damaged"), "there never was a schema 0");
}

/// Puts a byte before the checksum at the end of a file, and makes the checksum right again.
fn with_a_byte_more(file: &[u8]) -> Vec<u8> {
    let mut bytes = file[..file.len() - 8].to_vec();
    bytes.push(0);
    let checksum = nearfield_engine::ids::short_hash(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

#[test]
fn files_with_bytes_after_their_end_are_refused() {
    let (mut statistics, model) = taught();
    statistics.register("more").unwrap();
    let patch = statistics.publish(&mut Window::new(), Threshold::NONE).patch;
    let mut patched = model.clone();
    assert_eq!(patched.apply(&with_a_byte_more(&patch)).unwrap_err().reason(), "damaged");
    assert_eq!(patched, model);
    patched.apply(&patch).unwrap();
    let pack = model.to_pack();
    assert_eq!(Model::load(&with_a_byte_more(&pack)).unwrap_err().reason(), "length");
    // A byte more in the header, with the header's length raised to match.
    let head = u32::from_le_bytes(pack[6..10].try_into().unwrap()) as usize;
    let mut longer = pack[..10 + head].to_vec();
    longer[6..10].copy_from_slice(&(head as u32 + 1).to_le_bytes());
    longer.push(0);
    longer.extend(&pack[10 + head..pack.len() - 8]);
    longer.extend(nearfield_engine::ids::short_hash(&longer).to_le_bytes());
    assert_eq!(Model::load(&longer).unwrap_err().reason(), "field");
    assert!(Statistics::from_bytes(&with_a_byte_more(&statistics.to_bytes())).is_err());
    let mut state = UserState::new().to_bytes();
    state.push(0);
    assert_eq!(UserState::from_bytes(&state).unwrap_err().reason(), "damaged");
}

#[test]
fn negative_scales_are_refused_in_pack_and_patch() {
    let (mut statistics, model) = taught();
    let pack = model.to_pack();
    let head = u32::from_le_bytes(pack[6..10].try_into().unwrap()) as usize;
    // Factors come before, in whole blocks of 32 rows.
    let scales = 10 + head + model.len().next_multiple_of(32) * model.dim();
    for bad in [-0.5f32, f32::NAN, f32::INFINITY] {
        let mut bytes = pack[..pack.len() - 8].to_vec();
        bytes[scales..scales + 4].copy_from_slice(&bad.to_le_bytes());
        bytes.extend(nearfield_engine::ids::short_hash(&bytes).to_le_bytes());
        assert_eq!(Model::load(&bytes).unwrap_err().reason(), "field", "scale {bad}");
    }
    statistics.withdraw("i2").unwrap();
    let patch = statistics.publish(&mut Window::new(), Threshold::NONE).patch;
    let (_, scale) = model.factors(2);
    let at = patch.windows(4).position(|bytes| bytes == scale.to_le_bytes()).expect("the scale of row 2");
    for bad in [-0.5f32, f32::NAN, f32::INFINITY] {
        let mut bytes = patch[..patch.len() - 8].to_vec();
        bytes[at..at + 4].copy_from_slice(&bad.to_le_bytes());
        bytes.extend(nearfield_engine::ids::short_hash(&bytes).to_le_bytes());
        assert_eq!(model.clone().apply(&bytes).unwrap_err().reason(), "damaged", "scale {bad}");
    }
}
