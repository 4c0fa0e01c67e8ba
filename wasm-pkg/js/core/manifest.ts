// The signed manifest of the core.

import { raw, type RawManifest } from './binding.js';
import { Handle, guarded } from './handle.js';
import { Model } from './model.js';

/** What a signed manifest offers, and the way to it. */
export interface Manifest {
  readonly lineage: string;
  readonly version: number;
  /** Bytes of the pack. */
  readonly packBytes: number;
  /** Whether the model is the one that was signed. */
  isOf(model: Model): boolean;
  /** The version at which the patch for a model starts, or undefined if it needs the pack. */
  patchFrom(model: Model): number | undefined;
  /** Bytes of the patch for a model. */
  patchBytes(model: Model): number | undefined;
  /**
   * Brings a model to the signed one by the patch that fits it. Throws `manifest.*` or `patch.*` and
   * changes nothing if that is not where it leads.
   */
  apply(model: Model, patch: Uint8Array): void;
  /** Reads the signed pack. Throws `manifest.*` or `pack.*` if the bytes are another one. */
  load(pack: Uint8Array): Model;
  free(): void;
}

/** The model that a client has, with the manifest that it accepted last, if it kept that. */
export interface HeldModel {
  lineage: string;
  version: number;
  manifest?: Uint8Array | undefined;
}

/**
 * Verifies a manifest's signature, site and times, and that it does not go back behind what is held.
 * Throws `manifest.*` if it does not hold. `publicKey` is 64 hexadecimal digits.
 */
export function verifyManifest(
  bytes: Uint8Array,
  publicKey: string,
  site: string,
  held: HeldModel | undefined,
  nowMs: number,
): Manifest {
  const signed: Handle<RawManifest> = new Handle(
    guarded(() => raw().Manifest.verify(bytes, publicKey, site, held?.lineage, held?.version, held?.manifest, nowMs)),
  );
  return {
    ...signed.use(({ lineage, version, packBytes }) => ({ lineage, version, packBytes })),
    isOf: (model) => signed.use((manifest) => manifest.isOf(model.raw)),
    patchFrom: (model) => signed.use((manifest) => manifest.patchFrom(model.raw)),
    patchBytes: (model) => signed.use((manifest) => manifest.patchBytes(model.raw)),
    apply: (model, patch) => signed.use((manifest) => manifest.apply(model.raw, patch)),
    load: (pack) => Model.of(signed.use((manifest) => manifest.load(pack))),
    free: () => signed.free(),
  };
}
