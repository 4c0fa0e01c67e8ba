//! A Kafka starts, answers, and starts again where it was killed.

use nearfield_services::{Server, streams_are_off};

#[test]
fn a_broker_starts_and_comes_back_after_a_kill() {
    if streams_are_off() {
        return;
    }
    let mut broker = Server::kafka().unwrap_or_else(|error| panic!("{error}"));
    let endpoint = broker.endpoint();
    broker.kill();
    assert_eq!(broker.pid(), None);
    broker.up().expect("it finds what it kept");
    assert_eq!(broker.endpoint(), endpoint);
}
