// Numbers that the core takes as whole ones.

import { NearfieldError } from '../error.js';

/** Throws `….bad_number` where it is no time, version or count; what is behind the point is cut off. */
export function checkNumber(number: number, field: string, boundary = 'event'): void {
  const limit = Number.MAX_SAFE_INTEGER;
  // NaN is in no range.
  if (number >= 0 && number <= limit) return;
  throw new NearfieldError(`${boundary}.bad_number`, `${field} must be a whole number from 0 to ${limit}`, { field, limit });
}
