// What storages throw, with codes of ours.

import { asNearfieldError, type NearfieldError } from '../error.js';

/** Gives what a storage threw as `storage.quota` where there is no room, else under `code`. */
export function asStorageError(thrown: unknown, code = 'storage.failed'): NearfieldError {
  const full = (thrown as Error | undefined)?.name === 'QuotaExceededError';
  return asNearfieldError(thrown, full ? 'storage.quota' : code);
}
