//! Events that say "not wanted" teach, and are never what a list should foresee.

use nearfield_engine::{Event, Kind, Request, UserState, Workspace};
use nearfield_trainer::evaluate::stream::stream;
use nearfield_trainer::event_log::EventLog;
use nearfield_trainer::progress::Silent;
use nearfield_trainer::replay::Flow;
use nearfield_trainer::train::{Options, Trained, train};

/// People go through a cycle of 24 items; after each view comes an impression of the next item and the
/// dismissal of one of four advertisements.
fn log() -> EventLog {
    let mut text = String::from("user,item,timestamp,event\n");
    for person in 0..80u64 {
        for step in 0..10 {
            let time = 1_700_000_000 + person * 4_000 + step * 20;
            let item = (person * 5 + step) % 24;
            text += &format!("p{person},i{item},{time},view\n");
            text += &format!("p{person},i{},{},impression\n", (item + 1) % 24, time + 1);
            text += &format!("p{person},ad{},{},dismiss\n", (person + step) % 4, time + 2);
        }
    }
    EventLog::read_csv(text.as_bytes()).unwrap()
}

fn trained(log: &EventLog, until: usize) -> Trained {
    let options = Options { dim: Some(8), sweeps: Some(6), ..Options::default() };
    train(log, until, &options, &Silent).unwrap()
}

#[test]
fn a_model_trained_on_many_dismissals_does_not_rank_them_first() {
    let log = log();
    let Trained { model, .. } = trained(&log, log.events.len());
    let now = 1_800_000_000_000;
    let mut workspace = Workspace::new();
    let mut person = UserState::new();
    let request = Request { count: 20, ..Request::default() };
    for item in ["i3", "i4", "i5"] {
        for item in person.recommend(&model, &request, &mut workspace) {
            assert!(
                !model.item_id(item.row).starts_with("ad"),
                "{} was always dismissed",
                model.item_id(item.row)
            );
        }
        person.learn(&model, &Event::new(Kind::View, item, now), now).unwrap();
    }
}

#[test]
fn only_what_people_want_is_a_target_and_an_impression_takes_no_novelty() {
    let log = log();
    let half = log.events.len() / 2;
    let Trained { model, statistics, .. } = trained(&log, half);
    let report = stream(&log, half, model, statistics, Flow::default(), |_| {});
    let views = log.events[half..].iter().filter(|event| event.kind == Kind::View).count() as u64;
    assert_eq!(report.all.n, views);
    assert_eq!(report.novel.n, views, "each person views each item once, after an impression of most");
}
