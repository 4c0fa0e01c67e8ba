// A model brought up to what central signed: by the patch that fits, or else by the pack.

import type { Manifest } from '../core/manifest.js';
import type { Model } from '../core/model.js';
import type { Sourced } from '../person/chain.js';
import { Gathering } from '../storage/pieces.js';

/** Where patches and packs come from. */
export interface Source {
  patch(from: number, to: number): Promise<Uint8Array>;
  pack(version: number): AsyncIterable<Uint8Array>;
}

/** A patch that was applied to the model, or the model that takes its place. */
export type Brought = { patch: Uint8Array; model?: never } | (Sourced & { patch?: never });

/**
 * Brings a model to the signed one. Gives the patch that was applied to it, or the model that takes its place, of which
 * the pack is kept where `keeps`; nothing where it is that one already. `failed` is told of a patch that does not fit.
 */
export async function bringUp(
  source: Source,
  manifest: Manifest,
  model: Model,
  keeps: boolean,
  failed: (thrown: unknown) => void,
): Promise<Brought | undefined> {
  if (manifest.isOf(model)) return undefined;
  const from = manifest.patchFrom(model);
  if (from !== undefined) {
    try {
      const patch = await source.patch(from, manifest.version);
      // Whoever shares the model may have brought it up meanwhile.
      if (manifest.isOf(model)) return undefined;
      manifest.apply(model, patch);
      return { patch };
    } catch (thrown) {
      // The model is unchanged, and the whole pack is left to be had.
      failed(thrown);
    }
  }
  return receive(source.pack(manifest.version), manifest, keeps);
}

/** Takes the signed pack straight into the core, and where it is to be kept into a blob as well. */
export async function receive(
  pack: AsyncIterable<Uint8Array>,
  { lineage, version: base, packBytes: bytes, receive }: Manifest,
  keeps: boolean,
): Promise<Sourced> {
  const gathering = keeps ? new Gathering() : undefined;
  const model = await receive(gathering?.pass(pack) ?? pack);
  return { model, chain: gathering && { lineage, base, bytes, pack: gathering.blob, stored: false, patches: [] } };
}
