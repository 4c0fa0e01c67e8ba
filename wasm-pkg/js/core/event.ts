// What the core learns from.

/** One event on one item. */
export interface Event {
  /** `view`, `click`, `cart`, `uncart`, `purchase`, `impression`, `dismiss` or `search`, or GA4's name of it. */
  kind: string;
  /** The operator's id of the item, as in the catalogue; up to 128 bytes. */
  itemId: string;
  /** When it happened, in Unix milliseconds; at most a little in the future. */
  timeMs: number;
  /** A number that goes with it, such as a price or a rating; finite. Ranking does not use it. */
  value?: number;
  /** An id of the event: the same id counts once. */
  eventId?: string;
  /** The session that the event belongs to; sessions break transitions. */
  sessionId?: string;
}
