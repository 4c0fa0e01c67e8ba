// The signed manifest of the core.

import { raw, type RawManifest } from './binding.js';
import { guarded } from './error.js';

/** What a signed manifest offers, and the checks of the files it names. */
export interface Manifest {
  readonly lineage: string;
  readonly version: number;
  /** Bytes of the pack. */
  readonly packBytes: number;
  /** Bytes of the patch from a version, or undefined if none is listed. */
  patchBytes(from: number): number | undefined;
  /** Throws `manifest.length` or `manifest.hash` if the bytes are not the pack. */
  checkPack(pack: Uint8Array): void;
  /** Throws `manifest.length` or `manifest.hash` if the bytes are not the patch. */
  checkPatch(from: number, patch: Uint8Array): void;
  free(): void;
}

/**
 * Verifies a manifest's signature, site, expiry and that it does not go back behind what is held.
 * Throws `manifest.*` if it does not hold. `publicKey` is 64 hexadecimal digits.
 */
export function verifyManifest(
  bytes: Uint8Array,
  publicKey: string,
  site: string,
  held: { lineage: string; version: number } | undefined,
  now_ms: number,
): Manifest {
  const signed: RawManifest = guarded(() =>
    raw().Manifest.verify(bytes, publicKey, site, held?.lineage, held?.version, now_ms),
  );
  return {
    lineage: signed.lineage,
    version: signed.version,
    packBytes: signed.packBytes,
    patchBytes: (from) => signed.patchBytes(from),
    checkPack: (pack) => guarded(() => signed.checkPack(pack)),
    checkPatch: (from, patch) => guarded(() => signed.checkPatch(from, patch)),
    free: () => signed.free(),
  };
}
