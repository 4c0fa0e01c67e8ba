// What `track` is given, in GA4's words or plain ones, as single events of the core.

import { NearfieldError } from '../error.js';

/** One item of a GA4 `items` array. Other GA4 fields may be there and are not read. */
export interface TrackItem {
  /** The operator's id of the item, as in the catalogue. */
  item_id: string;
  /** A weight of this event for this item, where the site has one (such as a rating). */
  value?: number;
}

/** What `track` takes beside the name of the event. */
export interface TrackParameters {
  /** The items, as GA4 has them: each becomes one event. */
  items?: readonly TrackItem[];
  /** Short for `items: [{ item_id }]`. */
  item_id?: string;
  /** The value of the event; it counts only where the event has one item. */
  value?: number;
  /** An id of the event: the same id counts once. GA4's `transaction_id` serves as well. */
  event_id?: string;
  /** GA4's id of a purchase; taken as `event_id` where that is missing. */
  transaction_id?: string;
  /** The session that the event belongs to; sessions break transitions. */
  session_id?: string;
  /** When it happened, in Unix milliseconds; now, if left out. */
  time_ms?: number;
}

/** What the core learns from. */
export interface Event {
  kind: string;
  item_id: string;
  time_ms: number;
  value?: number;
  event_id?: string;
  session_id?: string;
}

/** Most items that one call of `track` may carry; GA4 itself allows 200. */
export const TRACK_ITEMS_MAX = 200;

/** Gives the events of one call of `track`; the names of kinds are checked by the core. */
export function toEvents(kind: string, given: TrackParameters | string, nowMs: number): Event[] {
  const parameters: TrackParameters = typeof given === 'string' ? { item_id: given } : (given ?? {});
  if (typeof kind !== 'string') {
    throw new NearfieldError('event.wrong_type', `event name must be a string, not ${typeof kind}`, { field: 'kind' });
  }
  if (typeof parameters !== 'object') {
    throw new NearfieldError('event.wrong_type', 'event parameters must be an object', { field: 'items' });
  }
  const time_ms = number(parameters.time_ms, 'time_ms') ?? nowMs;
  const session_id = text(parameters.session_id, 'session_id');
  const event_id = text(parameters.event_id ?? parameters.transaction_id, 'event_id');
  const shared = { kind, time_ms, ...(session_id !== undefined && { session_id }) };

  // A search names no item: it is context only.
  if (kind === 'search') return [{ ...shared, item_id: '', ...(event_id !== undefined && { event_id }) }];

  const items = parameters.items ?? (parameters.item_id === undefined ? [] : [{ item_id: parameters.item_id }]);
  if (!Array.isArray(items) || items.length === 0) {
    throw new NearfieldError('event.no_items', `${kind} needs items: [{ item_id }]`, { field: 'items' });
  }
  if (items.length > TRACK_ITEMS_MAX) {
    throw new NearfieldError('event.too_many_items', `${kind} has ${items.length} items, but at most ${TRACK_ITEMS_MAX} are allowed`, {
      field: 'items',
      limit: TRACK_ITEMS_MAX,
    });
  }
  return items.map((item: TrackItem, index) => {
    const item_id = text(item?.item_id, 'item_id');
    if (item_id === undefined) {
      throw new NearfieldError('event.empty_item_id', `items[${index}] of ${kind} has no item_id`, { field: 'item_id' });
    }
    const value = number(item.value, 'value') ?? (items.length === 1 ? number(parameters.value, 'value') : undefined);
    return {
      ...shared,
      item_id,
      ...(value !== undefined && { value }),
      // Each item is an event of its own, so each needs an id of its own.
      ...(event_id !== undefined && { event_id: index === 0 ? event_id : `${event_id}#${index}` }),
    };
  });
}

function text(value: unknown, field: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') {
    throw new NearfieldError('event.wrong_type', `${field} must be a string, not ${typeof value}`, { field });
  }
  return value;
}

function number(value: unknown, field: string): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number' || !Number.isFinite(value)) {
    throw new NearfieldError('event.non_finite_value', `${field} must be a finite number`, { field });
  }
  return value;
}
