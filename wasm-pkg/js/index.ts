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
export { type NearfieldEvents } from './emitter.js';
export { verifyManifest, type HeldModel, type Manifest } from './manifest.js';
export { Model } from './model.js';
export { Nearfield, type Inspection } from './nearfield.js';
export { type OpenOptions } from './options.js';
export { Ranking, type Recommendation, type RecommendRequest } from './ranking.js';
export { indexedDbStorage, memoryStorage, type StorageAdapter, type StorageKey } from './storage.js';
export { type SentDelta, type SyncReport } from './reports.js';
export {
  User,
  type DeltaPreview,
  type HistoryEntry,
  type OutboxEntry,
  type Quality,
  type Settled,
  type SyncAnswer,
  type Tracked,
} from './user.js';
