"""The guest answers, or says what is wrong."""

import pytest

from nearfield_spark import Context, Core, CoreError, Event
from nearfield_spark.postcard import Malformed, Reader, Writer


def test_numbers_and_texts_come_back():
    to = Writer()
    for number in (0, 127, 128, 2**64 - 1):
        to.unsigned(number)
    for number in (0, -1, 1, -1080):
        to.signed(number)
    to.text("Zelt")
    to.option(None, to.text)
    to.f64(0.1)
    of = Reader(to.bytes)
    assert [of.unsigned() for _ in range(4)] == [0, 127, 128, 2**64 - 1]
    assert [of.unsigned() for _ in range(4)] == [0, 1, 2, 2159]
    assert (of.text(), of.option(of.text), of.f64()) == ("Zelt", None, 0.1)
    of.end()
    with pytest.raises(Malformed):
        Reader(b"\x80").unsigned()


def test_features_follow_from_the_events_before():
    core, time_ms = Core(), 1_700_000_000_000
    first, profile = core.features(b"", [Event("view", "a", time_ms)], [Context(device="tablet")])
    second, _ = core.features(profile, [Event("cart", "a", time_ms + 9_000)], [Context()])
    assert (first[0]["new_session"], first[0]["device"], first[0]["hour"]) == (True, "tablet", None)
    assert (second[0]["new_session"], second[0]["device"]) == (False, "tablet")
    assert (second[0]["seconds_since_item"], second[0]["recent_items"]) == (9, ["a"])


def test_what_the_guest_refuses_is_told():
    core = Core()
    with pytest.raises(CoreError, match="no model is loaded") as refused:
        core.step(now_ms=1)
    assert refused.value.status == "no_model"
    with pytest.raises(CoreError) as refused:
        core.features(b"\x09", [], [])
    assert refused.value.status == "state"
    with pytest.raises(CoreError, match="1 contexts for 0 events"):
        core.features(b"", [], [Context()])
