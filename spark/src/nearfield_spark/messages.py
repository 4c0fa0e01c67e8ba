"""The messages between a host and the guest, as edge-host/guest/src/abi.rs has them.

Whoever changes a message there raises ``ABI_VERSION``; a guest of another version is refused.
"""

from dataclasses import dataclass, field

from .postcard import Reader, Writer

ABI_VERSION = 4

STATUSES = (
    "ok",
    "bad_message",
    "no_model",
    "pack",
    "patch",
    "state",
    "event",
    "wire",
    "unknown_item",
)
DEVICES = ("unknown", "desktop", "phone", "tablet", "tv", "other")
REFERRERS = ("direct", "search", "social", "mail", "site")
#: What a list is for, in the order of the engine's ``Scenario``.
SCENARIOS = ("discover", "continue")
#: The version of a state without a name.
NO_VERSION = bytes(16)


@dataclass
class Context:
    """What was known around an event; ``None`` for what was not."""

    utc_offset_minutes: int | None = None
    device: str | None = None
    referrer: str | None = None
    price: float | None = None
    category: str | None = None


@dataclass
class Event:
    """One event of one person."""

    kind: str
    item_id: str
    time_ms: int
    event_id: str | None = None
    value: float | None = None
    session_id: str | None = None


@dataclass
class Model:
    """Which model is loaded."""

    lineage: int
    version: int
    rows: int


@dataclass
class Item:
    """An item of a list; scores compare within one list only."""

    item_id: str
    score: float


@dataclass
class Stepped:
    """What became of a step."""

    state: bytes | None
    applied: int
    duplicate: int
    context_only: int
    features: list = field(default_factory=list)
    profile: bytes | None = None
    factor: list | None = None
    items: list | None = None
    model: Model | None = None


def step(*, now_ms, state=b"", events=(), contexts=(), profile=b"", count=0, scenario="discover", factor=False):
    """Returns ``Step`` as bytes: events to learn from, and a list of ``count`` items unless that is 0."""
    to = Writer()
    to.unsigned(now_ms)
    # The state has no name: see Core.
    to.unsigned(0)
    to.raw(NO_VERSION)
    to.raw(NO_VERSION)
    to.data(state)
    # No list was shown, and nothing is settled with central.
    to.bool(False)
    to.bool(False)
    to.many(events, lambda event: _event(to, event))
    to.many(contexts, lambda context: _context(to, context))
    to.data(profile)
    # No delta is asked for.
    to.bool(False)
    to.option(count or None, lambda count: _list_request(to, count, scenario))
    # Nothing is inspected.
    to.bool(False)
    to.bool(factor)
    return bytes(to.bytes)


def featuring(profile, events, contexts):
    """Returns ``Featuring`` as bytes."""
    to = Writer()
    to.data(profile)
    to.many(events, lambda event: _event(to, event))
    to.many(contexts, lambda context: _context(to, context))
    return bytes(to.bytes)


def number(value):
    """Returns a whole number as bytes."""
    to = Writer()
    to.unsigned(value)
    return bytes(to.bytes)


def _event(to, event):
    to.option(event.event_id, to.text)
    to.text(event.item_id)
    to.text(event.kind)
    to.unsigned(event.time_ms)
    to.option(event.value, to.f32)
    to.option(event.session_id, to.text)


def _context(to, context):
    to.option(context.utc_offset_minutes, to.signed)
    to.option(context.device, to.text)
    to.option(context.referrer, to.text)
    to.option(context.price, to.f64)
    to.option(context.category, to.text)


def _list_request(to, count, scenario):
    to.unsigned(count)
    to.unsigned(SCENARIOS.index(scenario))
    # No items alone, none left out, no diversity, no exploration and no seed of it, no reasons.
    to.bool(False)
    to.unsigned(0)
    to.f32(0.0)
    to.f32(0.0)
    to.unsigned(0)
    to.bool(False)


def read_stepped(data):
    """Reads ``Stepped``."""
    of = Reader(data)
    state = of.option(of.sized)
    applied, duplicate, context_only = of.unsigned(), of.unsigned(), of.unsigned()
    of.many(lambda: (of.unsigned(), of.u8()))
    features = of.many(lambda: of.option(lambda: _features(of)))
    profile = of.option(of.sized)
    factor = of.option(lambda: of.many(of.f32))
    if of.unsigned():
        raise ValueError("a step that settles nothing has outcomes")
    of.unsigned(), of.unsigned(), of.bool()
    of.option(of.sized)
    of.option(lambda: (of.unsigned(), of.unsigned(), of.many(of.unsigned)))
    listed = of.option(lambda: (_model(of), of.many(lambda: _item(of))))
    of.option(lambda: None)
    of.end()
    model, items = listed or (None, None)
    return Stepped(state, applied, duplicate, context_only, features, profile, factor, items, model)


def read_featured(data):
    """Reads ``Featured``: the features of each event, and the profile after them."""
    of = Reader(data)
    features = of.many(lambda: _features(of))
    profile = of.sized()
    of.end()
    return features, profile


def read_model(data):
    """Reads ``ModelInfo``."""
    of = Reader(data)
    model = _model(of)
    of.end()
    return model


def read_failure(data):
    """Reads ``Failure``: the engine's name of the reason, and the sentence."""
    of = Reader(data)
    failure = of.text(), of.text()
    of.end()
    return failure


def _model(of):
    return Model(of.unsigned(), of.unsigned(), of.unsigned())


def _item(of):
    of.unsigned()
    item = Item(of.text(), of.f32())
    if of.unsigned():
        raise ValueError("a list without reasons has reasons")
    return item


def _features(of):
    return {
        "new_session": of.bool(),
        "session_events": of.unsigned(),
        "session_seconds": of.unsigned(),
        "hour": of.option(of.u8),
        "weekday": of.option(of.u8),
        "seconds_since_event": of.option(of.unsigned),
        "seconds_since_item": of.option(of.unsigned),
        "seconds_since_purchase": of.option(of.unsigned),
        "history_events": of.unsigned(),
        "recent_views": of.u8(),
        "recent_carts": of.u8(),
        "recent_purchases": of.u8(),
        "recent_items": of.many(of.text),
        "price": of.option(of.f64),
        "price_affinity": of.option(of.f64),
        "category_affinity": of.option(of.f64),
        "device": DEVICES[of.unsigned()],
        "referrer": REFERRERS[of.unsigned()],
    }
