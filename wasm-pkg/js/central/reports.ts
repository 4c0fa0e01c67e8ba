// What the exchange with central reports.

import type { Settled } from '../core/user.js';

/** A delta that was sent in this page. */
export interface SentDelta extends Settled {
  bytes: number;
  items: number;
  timeMs: number;
}

/** What one sync did. */
export interface SyncReport {
  /** Deltas that were answered. */
  sent: SentDelta[];
  /** The version held now. */
  version: number;
  /** Whether the model changed. */
  updated: boolean;
}
