"""From the bytes of a record to an event, as the contract in schemas/ says: Avro and Protobuf in Confluent's wire
format, JSON without a schema. What is no event is refused with the same reasons as by the edge."""

import io
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import fastavro
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from .messages import Context, Event

VALUE_BYTES_MAX = 16 * 1024
USER_BYTES_MAX = 128
ITEM_BYTES_MAX = 128
EVENT_ID_BYTES_MAX = 128
QUERY_BYTES_MAX = 512
DEVICE_BYTES_MAX = 64
REFERRER_BYTES_MAX = 2048
CATEGORY_BYTES_MAX = 128
UTC_OFFSET_MINUTES_MAX = 18 * 60
PRICE_MAX = 1e9
#: The largest finite number of 32 bits.
F32_MAX = (2 - 2**-23) * 2.0**127
FUTURE_MS_MAX = 24 * 60 * 60 * 1000

KINDS = ("view", "click", "cart", "uncart", "purchase", "impression", "dismiss", "search")
GA4 = {
    "view_item": "view",
    "select_item": "click",
    "add_to_cart": "cart",
    "remove_from_cart": "uncart",
    "view_item_list": "impression",
}


_CONTEXT_TYPES = {"utc_offset_minutes": int, "device": str, "referrer": str, "price": float, "category": str}


class Refusal(Exception):
    """A record that is no event: ``reason`` is a word of a small set, the message names field and limit."""

    def __init__(self, reason, message):
        super().__init__(message)
        self.reason = reason


@dataclass
class StreamEvent:
    """Something that a person did, and what was known around it."""

    user_id: str
    event: Event
    query: str | None
    context: Context


class Released:
    """The released schemas, which are part of this package: 1 is Avro, 2 Protobuf."""

    def schema(self, schema_id):
        if schema_id == 1:
            return "AVRO", (files(__package__) / "schemas" / "event.avsc").read_text()
        if schema_id == 2:
            return "PROTOBUF", None
        return None


class Decoder:
    """Reads records of a topic. ``framing`` is ``confluent`` or ``json``; a registry answers type and text of a schema
    by its id, or ``None``."""

    def __init__(self, framing="confluent", registry=None):
        self.framing, self.registry, self._known = framing, registry or Released(), {}

    def decode(self, key, value, now_ms):
        """Returns the event of a record; raises ``Refusal``."""
        if len(value) > VALUE_BYTES_MAX:
            raise Refusal("too_large", f"{len(value)} bytes, the limit is {VALUE_BYTES_MAX}")
        if self.framing == "json":
            event = _json(value)
        else:
            if len(value) < 5 or value[0] != 0:
                raise Refusal("frame", "the value does not begin with a zero byte and a schema id")
            read = self._reader(int.from_bytes(value[1:5], "big"))
            event = read(value[5:])
        _check(event, now_ms)
        if key is None or key != event.user_id.encode():
            raise Refusal("key", "there is no key" if key is None else "the key is not the event's user_id")
        return event

    def _reader(self, schema_id):
        if schema_id not in self._known:
            found = self.registry.schema(schema_id)
            if found is None:
                raise Refusal("unknown_schema", f"the registry has no schema {schema_id} in Avro or Protobuf")
            kind, text = found
            self._known[schema_id] = _protobuf if kind == "PROTOBUF" else _avro_reader(text)
        return self._known[schema_id]


@cache
def _ours():
    return fastavro.parse_schema(json.loads((files(__package__) / "schemas" / "event.avsc").read_text()))


def _avro_reader(text):
    writer, ours = fastavro.parse_schema(json.loads(text)), _ours()

    def read(data):
        stream = io.BytesIO(data)
        try:
            fields = fastavro.schemaless_reader(stream, writer, ours)
        except Exception as error:
            raise Refusal("malformed", f"{type(error).__name__}: {error}") from error
        if stream.read(1):
            raise Refusal("malformed", "bytes follow the event")
        kind = fields.pop("kind").lower()
        if kind == "unspecified":
            raise Refusal("unknown_kind", "kind is none that this version knows")
        return _event(kind, fields)

    return read


def _json(data):
    try:
        fields = json.loads(data, parse_constant=_no_json)
        kind = fields.pop("kind")
        kind = GA4.get(kind, kind)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise Refusal("malformed", f"{type(error).__name__}: {error}") from error
    if not isinstance(kind, str):
        raise Refusal("malformed", f"kind is {kind!r}, not a text")
    if kind not in KINDS:
        raise Refusal("unknown_kind", f"kind {kind!r} is unknown")
    context = fields.get("context")
    if context is not None:
        fields["context"] = _typed(context, _CONTEXT_TYPES)
    texts = dict.fromkeys(("user_id", "item_id", "event_id", "session_id", "query"), str)
    return _event(kind, _typed(fields, {**texts, "time_ms": int, "value": float}))


def _no_json(word):
    """Python reads NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{word} is no JSON")


def _typed(fields, types):
    """Returns fields of JSON, which has no types of its own, with each one's type seen to."""
    if not isinstance(fields, dict):
        raise Refusal("malformed", f"{fields!r} is no object")
    for name, kind in types.items():
        value = fields.get(name)
        if value is None:
            continue
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            fields[name] = float(value)
        elif not isinstance(value, kind) or isinstance(value, bool):
            raise Refusal("malformed", f"{name} is {value!r}, not {kind.__name__}")
    return fields


def _event(kind, fields):
    try:
        context = fields.get("context") or {}
        event = Event(
            kind=kind,
            item_id=fields.get("item_id") or "",
            time_ms=fields["time_ms"],
            event_id=fields.get("event_id"),
            value=fields.get("value"),
            session_id=fields.get("session_id"),
        )
        context = Context(**{name: context.get(name) for name in Context.__dataclass_fields__})
        return StreamEvent(fields["user_id"], event, fields.get("query"), context)
    except (KeyError, AttributeError, TypeError) as error:
        raise Refusal("malformed", f"{type(error).__name__}: {error}") from error


@cache
def _message():
    """The message of event.proto."""
    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="nearfield.event.v1", syntax="proto3")
    types = descriptor_pb2.FieldDescriptorProto

    def add(message, number, name, kind, optional=True, type_name=None):
        added = message.field.add(name=name, number=number, type=kind, label=types.LABEL_OPTIONAL)
        if type_name:
            added.type_name = type_name
        if optional:
            added.proto3_optional = True
            added.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")

    event = file.message_type.add(name="Event")
    add(event, 1, "user_id", types.TYPE_STRING, optional=False)
    add(event, 2, "kind", types.TYPE_INT32, optional=False)
    add(event, 3, "item_id", types.TYPE_STRING, optional=False)
    add(event, 4, "time_ms", types.TYPE_INT64, optional=False)
    add(event, 5, "event_id", types.TYPE_STRING)
    add(event, 6, "value", types.TYPE_FLOAT)
    add(event, 7, "session_id", types.TYPE_STRING)
    add(event, 8, "query", types.TYPE_STRING)
    add(event, 9, "context", types.TYPE_MESSAGE, type_name=".nearfield.event.v1.Context")
    context = file.message_type.add(name="Context")
    add(context, 1, "utc_offset_minutes", types.TYPE_INT32)
    add(context, 2, "device", types.TYPE_STRING)
    add(context, 3, "referrer", types.TYPE_STRING)
    add(context, 4, "price", types.TYPE_DOUBLE)
    add(context, 5, "category", types.TYPE_STRING)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("nearfield.event.v1.Event"))


def _protobuf(data):
    # Which message of the schema's file it is; the first one is written as a single 0.
    if data[:1] != b"\x00":
        raise Refusal("schema", "the message is not the first one of the schema's file")
    message = _message()()
    try:
        message.ParseFromString(data[1:])
    except DecodeError as error:
        raise Refusal("malformed", str(error)) from error
    if not 1 <= message.kind <= len(KINDS):
        raise Refusal("unknown_kind", f"kind {message.kind} is none that this version knows")

    def optional(of, name):
        return getattr(of, name) if of.HasField(name) else None

    fields = {name: optional(message, name) for name in ("event_id", "value", "session_id", "query")}
    fields |= {"user_id": message.user_id, "item_id": message.item_id, "time_ms": message.time_ms}
    fields["context"] = {name: optional(message.context, name) for name in Context.__dataclass_fields__}
    return _event(KINDS[message.kind - 1], fields)


def _check(stream_event, now_ms):
    event, context = stream_event.event, stream_event.context
    _text("user_id", stream_event.user_id, USER_BYTES_MAX, least=1)
    if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in stream_event.user_id):
        raise Refusal("field", "user_id holds a control character")
    _text("item_id", event.item_id, ITEM_BYTES_MAX, least=0 if event.kind == "search" else 1)
    texts = (
        ("event_id", event.event_id, EVENT_ID_BYTES_MAX),
        ("session_id", event.session_id, EVENT_ID_BYTES_MAX),
        ("query", stream_event.query, QUERY_BYTES_MAX),
        ("context.device", context.device, DEVICE_BYTES_MAX),
        ("context.referrer", context.referrer, REFERRER_BYTES_MAX),
        ("context.category", context.category, CATEGORY_BYTES_MAX),
    )
    for name, text, most in texts:
        if text is not None:
            _text(name, text, most)
    if event.value is not None and not abs(event.value) <= F32_MAX:
        raise Refusal("field", "value is not a finite number")
    if event.time_ms < 0:
        raise Refusal("field", f"time_ms is {event.time_ms}, the limit is 0")
    if event.time_ms > now_ms + FUTURE_MS_MAX:
        raise Refusal("future", f"time_ms {event.time_ms} lies more than a day ahead")
    offset, price = context.utc_offset_minutes, context.price
    if offset is not None and abs(offset) > UTC_OFFSET_MINUTES_MAX:
        raise Refusal("field", f"context.utc_offset_minutes is {offset}, the limit is {UTC_OFFSET_MINUTES_MAX}")
    if price is not None and not 0.0 <= price <= PRICE_MAX:
        raise Refusal("field", f"context.price is {price}, the limit is 0 to 1e9")


def _text(name, text, most, least=0):
    try:
        length = len(text.encode())
    except UnicodeEncodeError as error:
        # JSON can escape half of a pair of surrogates, which is no character.
        raise Refusal("malformed", f"{name}: {error}") from error
    if not least <= length <= most:
        raise Refusal("field", f"{name} has {length} bytes, the limit is {least} to {most}")
