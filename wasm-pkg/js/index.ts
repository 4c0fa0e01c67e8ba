/**
 * Nearfield in JavaScript: a person's recommender that learns in the page.
 *
 * Begin with {@link Nearfield}.open. {@link Model} and {@link User} are the parts below it, for
 * workers and servers that keep many users beside one model.
 *
 * @packageDocumentation
 */
export { init, initSync, goldenDigest, type WasmSource } from './binding.js';
export { type Consent } from './consent.js';
export { NearfieldError } from './error.js';
export { TRACK_ITEMS_MAX, type TrackItem, type TrackParameters } from './events.js';
export {
  Model,
  Ranking,
  User,
  verifyManifest,
  type DeltaPreview,
  type HistoryEntry,
  type Manifest,
  type OutboxEntry,
  type Quality,
  type Recommendation,
  type RecommendRequest,
  type Settled,
  type SyncAnswer,
  type Tracked,
} from './model.js';
export {
  Nearfield,
  type Inspection,
  type NearfieldEvents,
  type OpenOptions,
  type SentDelta,
  type SyncReport,
} from './nearfield.js';
export { indexedDbStorage, memoryStorage, type StorageAdapter, type StorageKey } from './storage.js';
