// Where a model came from: a pack as it was downloaded, and the patches that were applied to it since. So it is
// stored, too: an update writes its patch, not the model.

import type { Emitter } from '../emitter.js';
import { Model } from '../core/model.js';
import { piecesOf } from '../storage/pieces.js';
import type { SiteStorage } from '../storage/site-storage.js';

/** The pack of a model, and the patches since. */
export interface Chain {
  readonly lineage: string;
  /** The version of the pack. */
  readonly base: number;
  /** Bytes of the pack. */
  readonly bytes: number;
  /** The pack itself, until storage has it. */
  pack: Blob | undefined;
  stored: boolean;
  /** The patches, in the order in which they were applied. */
  readonly patches: Uint8Array[];
}

/** A model, and where it came from as far as that is known. */
export interface Sourced {
  model: Model;
  chain: Chain | undefined;
}

/**
 * Loads the stored model with its patches, as far as they are sound. Gives undefined where there is none; what is
 * damaged is reported.
 */
export async function loadStored(site: SiteStorage, emitter: Emitter): Promise<{ model: Model; chain: Chain } | undefined> {
  const pack = await site.pack();
  if (!pack) return undefined;
  const bytes = pack instanceof Uint8Array ? pack.length : pack.size;
  let model: Model;
  try {
    model = await Model.receive(piecesOf(pack), bytes);
  } catch (thrown) {
    return void emitter.report(thrown, 'pack.damaged');
  }
  const { lineage, version: base } = model;
  const chain: Chain = { lineage, base, bytes, pack: undefined, stored: true, patches: [] };
  const stored = decodePatches(await site.get('patches').catch(() => undefined));
  try {
    if (stored) applyRest(model, chain, stored);
  } catch (thrown) {
    // An older version serves as well, until central's patch to the newest comes.
    emitter.report(thrown, 'patch.damaged');
  }
  return { model, chain };
}

/**
 * Applies the stored patches that the model does not have yet, and gives their bytes; undefined where they belong to
 * another pack. Throws `patch.*` where one does not fit.
 */
export function applyRest(model: Model, chain: Chain, { lineage, base, patches }: StoredPatches): number | undefined {
  if (chain.lineage !== lineage || chain.base !== base) return undefined;
  let bytes = 0;
  for (const patch of patches.slice(chain.patches.length)) {
    model.apply(patch);
    chain.patches.push(patch);
    bytes += patch.length;
  }
  return bytes;
}

/** Patches as they are stored, with the pack that they begin at. */
export interface StoredPatches {
  readonly lineage: string;
  readonly base: number;
  readonly patches: readonly Uint8Array[];
}

const HEAD_BYTES = 8 + 8;

/** Patches as they are stored: lineage and version of the pack as big-endian 64-bit numbers, then each patch after its length. */
export function encodePatches({ lineage, base, patches }: StoredPatches): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES + patches.reduce((sum, patch) => sum + 4 + patch.length, 0));
  const numbers = new DataView(bytes.buffer);
  numbers.setBigUint64(0, BigInt(`0x${lineage}`));
  numbers.setBigUint64(8, BigInt(base));
  let at = HEAD_BYTES;
  for (const patch of patches) {
    numbers.setUint32(at, patch.length);
    bytes.set(patch, at + 4);
    at += 4 + patch.length;
  }
  return bytes;
}

/** Stored patches, or undefined where the bytes are none. */
export function decodePatches(bytes: Uint8Array | undefined): StoredPatches | undefined {
  if (!bytes || bytes.length < HEAD_BYTES) return undefined;
  const numbers = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const patches: Uint8Array[] = [];
  for (let at = HEAD_BYTES; at + 4 <= bytes.length; ) {
    const from = at + 4;
    at = from + numbers.getUint32(at);
    patches.push(bytes.slice(from, at));
  }
  const lineage = numbers.getBigUint64(0).toString(16).padStart(16, '0');
  return { lineage, base: Number(numbers.getBigUint64(8)), patches };
}
