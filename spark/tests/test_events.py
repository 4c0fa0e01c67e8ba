"""Records are read, or refused, as by the edge."""

import io
import json
from importlib.resources import files

import fastavro
import pytest

from nearfield_spark.events import Decoder, Refusal, _message

NOW = 1_700_000_000_000
FIELDS = {"user_id": "ann", "kind": "view", "item_id": "tent-1", "time_ms": NOW}
SCHEMA = fastavro.parse_schema(
    json.loads((files("nearfield_spark") / "schemas" / "event.avsc").read_text())
)


def as_json(**fields):
    return json.dumps(FIELDS | fields).encode()


def as_avro(**fields):
    out = io.BytesIO()
    fields = FIELDS | fields
    fastavro.schemaless_writer(out, SCHEMA, fields | {"kind": fields["kind"].upper()})
    return b"\x00\x00\x00\x00\x01" + out.getvalue()


def as_protobuf(kind=1, **fields):
    message = _message()(**{**FIELDS, "kind": kind, **fields})
    return b"\x00\x00\x00\x00\x02\x00" + message.SerializeToString()


def test_all_formats_mean_the_same():
    context = {"price": 9.5, "device": "phone", "utc_offset_minutes": -60, "referrer": None, "category": "tents"}
    known = {name: value for name, value in context.items() if value is not None}
    read = [
        Decoder("json").decode(b"ann", as_json(session_id="s", value=2.5, context=context), NOW),
        Decoder().decode(b"ann", as_avro(session_id="s", value=2.5, context=context), NOW),
        Decoder().decode(b"ann", as_protobuf(session_id="s", value=2.5, context=known), NOW),
    ]
    assert read[0] == read[1] == read[2]
    assert (read[0].event.kind, read[0].context.price, read[0].query) == ("view", 9.5, None)
    assert Decoder("json").decode(b"ann", as_json(kind="add_to_cart"), NOW).event.kind == "cart"


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (b"ann", b"{}", "frame"),
        (b"ann", as_avro()[:-1], "malformed"),
        (b"ann", as_avro() + b"\x00", "malformed"),
        (b"ann", b"\x00\x00\x00\x00\x63" + as_avro()[5:], "unknown_schema"),
        (b"ann", as_protobuf()[:-1], "malformed"),
        (b"ann", as_protobuf(kind=42), "unknown_kind"),
        (b"ann", as_protobuf(kind=0), "unknown_kind"),
        (b"ann", b"\x00\x00\x00\x00\x02\x02" + as_protobuf()[6:], "schema"),
        (b"ann", b"\x00" * 20_000, "too_large"),
        (b"ann", as_avro(time_ms=NOW + 2 * 86_400_000), "future"),
        (b"ann", as_avro(time_ms=-1), "field"),
        (b"ann", as_avro(item_id=""), "field"),
        (b"ann", as_avro(item_id="x" * 129), "field"),
        (b"ann", as_avro(value=float("nan")), "field"),
        (b"ann", as_avro(context={"price": -1.0}), "field"),
        (b"ann", as_avro(context={"utc_offset_minutes": 2000}), "field"),
        (b"bob", as_avro(), "key"),
        (None, as_avro(), "key"),
    ],
)
def test_what_is_no_event_is_refused_with_its_reason(key, value, reason):
    with pytest.raises(Refusal) as refused:
        Decoder().decode(key, value, NOW)
    assert refused.value.reason == reason
    assert str(refused.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"[1]", "malformed"),
        (b"{", "malformed"),
        (as_json(kind="poke"), "unknown_kind"),
        (as_json(kind=7), "malformed"),
        (as_json(time_ms="now"), "malformed"),
        (as_json(user_id=7), "malformed"),
        (as_json(context={"price": "cheap"}), "malformed"),
        (as_json(user_id="\ud800"), "malformed"),
        (b"[" * 16_000, "malformed"),
        (b'{"user_id": "ann", "kind": "view", "item_id": "a", "time_ms": 1, "value": NaN}', "malformed"),
        (as_json(value=1e300), "field"),
        (as_json(time_ms=10**30), "future"),
    ],
)
def test_json_of_other_types_is_refused(value, reason):
    with pytest.raises(Refusal) as refused:
        Decoder("json").decode(b"ann", value, NOW)
    assert refused.value.reason == reason
