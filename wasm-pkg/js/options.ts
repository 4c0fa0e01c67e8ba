// How to open, and what is wrong with the options.

import type { Consent } from './person/consent.js';
import { NearfieldError } from './error.js';
import { Model } from './core/model.js';
import type { StorageAdapter } from './storage/adapter.js';

/** How to open. */
export interface OpenOptions {
  /** Address of central. Without one nothing is ever requested, and `model` must be given. */
  endpoint?: string;
  /** Central's public key, 64 hexadecimal digits. Needed with `endpoint` unless `model` is a `Model`. */
  publicKey?: string;
  /** The site's name, as central has it. */
  site: string;
  /** Where to keep what was learnt, once there is consent (default: IndexedDB where there is one, else memory). */
  storage?: 'indexeddb' | 'memory' | StorageAdapter;
  /**
   * What the person agreed to. What is left out is as it was given at an earlier visit, or else not
   * given: then nothing is stored and nothing is sent.
   */
  consent?: Partial<Consent>;
  /** A model to begin with: a pack, or a `Model` that many users share, which this never updates. */
  model?: Model | Uint8Array;
  /** Say on the console what is tracked, and what is left out and why (default false). */
  debug?: boolean;
  /** The clock, in Unix milliseconds (default: `Date.now`). */
  now?: () => number;
  /** Milliseconds between looks for a newer model (default 60000; 0: only when asked). */
  syncEveryMs?: number;
  /** Milliseconds without an event after which what was learnt goes out (default 60000). */
  idleMs?: number;
}

/** Throws `options.*` if an option is missing or has the wrong form. */
export function checkOptions(options: OpenOptions): void {
  const { endpoint, publicKey, site, model } = options;
  if (typeof site !== 'string' || site === '') {
    throw new NearfieldError('options.site', 'site must be a non-empty string', { field: 'site' });
  }
  if (endpoint !== undefined && !URL.canParse(endpoint)) {
    throw new NearfieldError('options.endpoint', 'endpoint must be an absolute URL', { field: 'endpoint' });
  }
  const needsKey = endpoint !== undefined && !(model instanceof Model);
  if (needsKey && !/^[0-9a-f]{64}$/i.test(publicKey ?? '')) {
    throw new NearfieldError('options.publicKey', 'publicKey must be 64 hexadecimal digits', { field: 'publicKey' });
  }
}
