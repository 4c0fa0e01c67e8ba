// What a page tracks, in the words of GA4, of Segment, or plain ones, as events of the core.
//
// Nothing is thrown here: a page's analytics must not break its click handlers. What cannot be used is left
// out and counted by reason.

import type { Event } from '../core/event.js';
import { KINDS } from './kinds.js';

/** One item as GA4, Segment or a page names it: an id, or an object that has one. */
export type TrackItem = string | number | Readonly<Record<string, unknown>>;

/**
 * What `track` takes beside the name: an item's id, or the payload as GA4 or Segment have it.
 *
 * Read are the items (`items`, `products`, or one item in the payload itself), the id of the event
 * (`eventId`, `transactionId`, `orderId`, `messageId`), the session (`sessionId`, `ga_session_id`), the time
 * (`timeMs`, `timestamp`) and `value`, each also in GA4's and Segment's own spelling. All else may be there.
 */
export type TrackPayload = TrackItem | readonly TrackItem[];

/** Why something was left out. */
export type Ignored =
  /** The name is none of GA4's, Segment's or the plain ones. */
  | 'unknown_name'
  /** The name is known, and says nothing about the taste for an item. */
  | 'no_signal'
  /** There is no item, or an item has no id. */
  | 'no_item'
  /** An item's id is over 128 bytes. */
  | 'item_id_too_long'
  /** There are more than 200 items. */
  | 'too_many_items'
  /** The core refused it. */
  | 'refused';

/** The events of one call, and what was left out. */
export interface Reading {
  events: Event[];
  ignored: Ignored[];
}

/** Most items that one call may carry; GA4 itself allows 200. */
export const TRACK_ITEMS_MAX = 200;
const ID_BYTES_MAX = 128;
const UTF8 = new TextEncoder();

// GA4's, Segment's, and this package's own spelling, the most specific first.
const ITEM_ID = ['itemId', 'item_id', 'productId', 'product_id', 'id', 'sku'];
const EVENT_ID = ['eventId', 'event_id', 'transactionId', 'transaction_id', 'orderId', 'order_id', 'messageId'];
const SESSION_ID = ['sessionId', 'session_id', 'ga_session_id'];
const TIME_MS = ['timeMs', 'time_ms', 'timestamp'];

/**
 * Reads one call of `track`. What the payload does not say itself, its events have from the call: the time, and
 * perhaps an id.
 */
export function read(name: unknown, payload: unknown, nowMs: number, id?: string): Reading {
  const kind = typeof name === 'string' ? KINDS.get(name.trim().toLowerCase()) : undefined;
  if (kind === undefined) return { events: [], ignored: ['unknown_name'] };
  if (kind === null) return { events: [], ignored: ['no_signal'] };
  const fields = fieldsOf(payload);
  const sessionId = textOf(fields, SESSION_ID);
  const eventId = textOf(fields, EVENT_ID) ?? id;
  const shared = { kind, timeMs: timeOf(fields, nowMs), ...(sessionId !== undefined && { sessionId }) };
  // A search names no item: it is context only.
  if (kind === 'search') return { events: [{ ...shared, itemId: '', ...(eventId !== undefined && { eventId }) }], ignored: [] };

  const items = itemsOf(payload, fields);
  const ignored: Ignored[] = items.length === 0 ? ['no_item'] : [];
  const events: Event[] = [];
  items.forEach((item, index) => {
    if (index >= TRACK_ITEMS_MAX) return void ignored.push('too_many_items');
    const itemId = idOf(item);
    if (itemId === undefined) return void ignored.push('no_item');
    if (UTF8.encode(itemId).length > ID_BYTES_MAX) return void ignored.push('item_id_too_long');
    const value = valueOf(fieldsOf(item)) ?? (items.length === 1 ? valueOf(fields) : undefined);
    events.push({
      ...shared,
      itemId,
      ...(value !== undefined && { value }),
      // Each item is an event of its own, so each needs an id of its own.
      ...(eventId !== undefined && { eventId: index === 0 ? eventId : `${eventId}#${index}` }),
    });
  });
  return { events, ignored };
}

type Fields = Readonly<Record<string, unknown>>;

/** The fields of a payload; those that GTM nests in `ecommerce`, and Segment in `properties`, beside the rest. */
function fieldsOf(payload: unknown): Fields {
  if (!isObject(payload)) return {};
  const { ecommerce, properties } = payload;
  return { ...payload, ...(isObject(ecommerce) && ecommerce), ...(isObject(properties) && properties) };
}

function itemsOf(payload: unknown, fields: Fields): readonly unknown[] {
  if (Array.isArray(payload)) return payload;
  for (const items of [fields['items'], fields['products']]) {
    if (Array.isArray(items)) return items;
  }
  return idOf(isObject(payload) ? fields : payload) === undefined ? [] : [isObject(payload) ? fields : payload];
}

function idOf(item: unknown): string | undefined {
  return isObject(item) ? textOf(item, ITEM_ID) : text(item);
}

function textOf(fields: Fields, names: readonly string[]): string | undefined {
  for (const name of names) {
    const value = text(fields[name]);
    if (value !== undefined) return value;
  }
  return undefined;
}

/** Shops have numbers for ids, too. */
function text(value: unknown): string | undefined {
  if (typeof value === 'string') return value === '' ? undefined : value;
  return typeof value === 'bigint' || (typeof value === 'number' && Number.isFinite(value)) ? String(value) : undefined;
}

function valueOf({ value }: Fields): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}

/** When it happened: milliseconds, a date, or text that names one; now, where none of them is in the past. */
function timeOf(fields: Fields, nowMs: number): number {
  for (const name of TIME_MS) {
    const given = fields[name];
    const ms = given instanceof Date ? given.getTime() : typeof given === 'string' ? Date.parse(given) : given;
    if (typeof ms === 'number' && ms >= 0 && ms <= nowMs) return Math.floor(ms);
  }
  return nowMs;
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}
