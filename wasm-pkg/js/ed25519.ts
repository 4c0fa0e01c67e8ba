// The check of a signature for hosts whose WebCrypto has no Ed25519: fetched only there.

import { hashes, verify as verifyStrictly } from '@noble/ed25519';
import { sha512 } from '@noble/hashes/sha2.js';

hashes.sha512 = sha512;

/** Whether the key's owner signed the message. */
export function verify(key: Uint8Array, signature: Uint8Array, message: Uint8Array): boolean {
  try {
    return verifyStrictly(signature, message, key, { zip215: false });
  } catch {
    return false;
  }
}
