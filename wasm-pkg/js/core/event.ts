// What the core learns from.

import { NearfieldError } from '../error.js';
import { checkNumber } from './number.js';

/** One event on one item. */
export interface Event {
  /** `view`, `click`, `cart`, `uncart`, `purchase`, `impression`, `dismiss` or `search`. */
  kind: string;
  /** The operator's id of the item, as in the catalogue; up to 128 bytes. */
  itemId: string;
  /** When it happened, in Unix milliseconds; at most a little in the future. */
  timeMs: number;
  /** A number that goes with it, such as a price or a rating; finite. Ranking does not use it, and it is not kept. */
  value?: number;
  /** An id of the event: the same id counts once. */
  eventId?: string;
  /** The session that the event belongs to; sessions break transitions. */
  sessionId?: string;
}

/** The kinds, as the core numbers them. */
export const KINDS: readonly string[] = ['view', 'click', 'cart', 'uncart', 'purchase', 'impression', 'dismiss', 'search'];

/** Gives an event's fields as the core takes them. Throws `event.*` for what the core does not check. */
export function checkEvent({ kind, itemId, timeMs, value, eventId, sessionId }: Event, nowMs: number) {
  const index = KINDS.indexOf(kind);
  if (index < 0) throw new NearfieldError('event.unknown_kind', `kind must be one of ${KINDS.join(', ')}`, { field: 'kind' });
  checkNumber(timeMs, 'timeMs');
  checkNumber(nowMs, 'nowMs');
  if (value !== undefined && !Number.isFinite(Math.fround(value))) throw new NearfieldError('event.non_finite_value', 'value must be finite', { field: 'value' });
  return [index, itemId, timeMs, eventId, sessionId, nowMs] as const;
}
