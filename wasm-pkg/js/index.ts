/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Nearfield in JavaScript: a person's recommender that learns in the page.
 *
 * Begin with {@link Nearfield}.open. {@link Model} and {@link User} are the parts below it, for
 * workers and servers that keep many users beside one model.
 *
 * @packageDocumentation
 */
/** @internal */
export { findModule } from './core/binding.js';
export { init, initSync, type WasmSource } from './core/binding.js';
export { type Consent, type ConsentInForce } from './person/consent.js';
export { NearfieldError } from './error.js';
export { type Event } from './core/event.js';
export { type NearfieldEvents } from './emitter.js';
export { verifyManifest, type HeldModel, type Manifest } from './core/manifest.js';
export { Model } from './core/model.js';
export { Nearfield, type Export, type Inspection, type Recommendation, type Tracked } from './nearfield.js';
export { type OpenOptions } from './options.js';
export { type Part, type Reason } from './core/reasons.js';
export { Ranking, type Ranked, type RecommendRequest } from './core/ranking.js';
export { memoryStorage, type PutOptions, type StorageAdapter, type StorageKey } from './storage/adapter.js';
export { TRACK_ITEMS_MAX, type Ignored, type TrackItem, type TrackPayload } from './track/read.js';
export { type SentDelta, type SyncReport } from './central/reports.js';
export {
  User,
  type DeltaPreview,
  type HistoryEntry,
  type OutboxEntry,
  type Quality,
  type Settled,
  type SyncAnswer,
  type Learned,
} from './core/user.js';
