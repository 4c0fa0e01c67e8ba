// The device token, as far as a device may read it: when it expires.

// Number of the key, 16 random bytes, the expiry, and what central signs them with.
const TOKEN_BYTES = 41;
const EXPIRY_AT = 17;

// A choice: a token that would expire on the way is renewed before.
const MARGIN_MS = 60_000;

/** Whether a token has expired, or will before a request arrives. One of an unknown form never does. */
export function hasExpired(token: Uint8Array, nowMs: number): boolean {
  if (token.length !== TOKEN_BYTES) return false;
  const numbers = new DataView(token.buffer, token.byteOffset);
  return Number(numbers.getBigUint64(EXPIRY_AT, true)) - MARGIN_MS <= nowMs;
}
