// The signed manifest of the core.

import * as core from '../../pkg/nearfield.js';
import { Handle } from './handle.js';
import { Model } from './model.js';
import { checkNumber } from './number.js';
import { receive, take } from './pack.js';
import { digits } from './packed.js';
import { checkSignature } from './signature.js';

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
  /** @internal The same of a pack that comes piece by piece. */
  receive(pieces: AsyncIterable<Uint8Array>): Promise<Model>;
  free(): void;
}

/** The model that a client has, with the manifest that it accepted last, if it kept that. */
export interface HeldModel {
  model: Model;
  manifest?: Uint8Array | undefined;
}

const NONE = new Uint8Array(0);

/**
 * Verifies a manifest's signature, site and times, and that it does not go back behind what is held.
 * Throws `manifest.*` if it does not hold. `publicKey` is 64 hexadecimal digits.
 */
export async function verifyManifest(
  bytes: Uint8Array,
  publicKey: string,
  site: string,
  held: HeldModel | undefined,
  nowMs: number,
): Promise<Manifest> {
  await checkSignature(bytes, publicKey);
  checkNumber(nowMs, 'nowMs', 'manifest');
  const update = new Handle(core.updateFree, () => core.updateRead(bytes, site, held?.model.number, held?.manifest ?? NONE, nowMs));
  const stepOf = (model: Model) => update.use((number) => core.updateStep(number, model.number));
  const [version = 0, packBytes = 0] = update.use((number) => core.updateStable(number));
  return {
    lineage: digits(update.use((number) => core.updateLineage(number))),
    version,
    packBytes,
    isOf: (model) => stepOf(model) === undefined,
    patchFrom: (model) => stepOf(model)?.[0],
    patchBytes: (model) => stepOf(model)?.[1],
    apply: (model, patch) => update.use((number) => core.updateApply(number, model.number, patch)),
    load: (pack) => {
      const { number } = update;
      return new Model(() => take(pack, () => core.updatePack(number, pack.length), (arriving) => core.updateReceived(number, arriving)));
    },
    receive: (pieces) =>
      receive(
        pieces,
        () => update.use((number) => core.updatePack(number, packBytes)),
        (arriving) => core.updateReceived(update.number, arriving),
        (make) => new Model(make),
      ),
    free: () => update.free(),
  };
}
