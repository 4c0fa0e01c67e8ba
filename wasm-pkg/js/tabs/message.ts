// What the tabs of a site tell one another.

import type { SyncReport } from '../central/reports.js';
import type { Consent } from '../person/consent.js';
import type { Observation } from '../person/replica.js';

/** What went wrong in another tab. */
export interface ToldError {
  code: string;
  message: string;
}

/** What came of a sync in another tab. */
export interface SyncAnswer {
  report?: SyncReport;
  error?: ToldError;
}

/**
 * One message. Events go from a follower to the writer, and states come back: a state tells which events
 * of which tab it holds, so that each event is learnt once, however often it is told.
 */
export type Message =
  /** A tab is there and wants to know the state. */
  | { kind: 'join' }
  /** All that this tab has learnt and that no stored state is known to hold. */
  | { kind: 'events'; tab: string; generation: number; observations: Observation[] }
  /** The writer has stored this state. */
  | { kind: 'state'; generation: number; state: Uint8Array; heard: [string, number][] }
  /** The person was forgotten. */
  | { kind: 'forget'; generation: number }
  /** The person changed what they agree to. */
  | { kind: 'consent'; given: Consent }
  /** The writer has stored a newer model. */
  | { kind: 'model' }
  /** Central answered the writer. */
  | { kind: 'settled'; report: SyncReport }
  /** A follower asks the writer to sync now. */
  | { kind: 'sync'; request: string }
  /** What came of it. */
  | ({ kind: 'synced'; request: string } & SyncAnswer);
