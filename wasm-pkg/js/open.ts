// Opening: the storage, the consent, and a model from storage or from central.

import { Central } from './central/central.js';
import { init } from './core/binding.js';
import { verifyManifest } from './core/manifest.js';
import { Model } from './core/model.js';
import { hex } from './core/packed.js';
import { checkSignature } from './core/signature.js';
import { User, randomId } from './core/user.js';
import type { Emitter } from './emitter.js';
import { NearfieldError, asNearfieldError } from './error.js';
import type { OpenOptions } from './options.js';
import { NO_CONSENT, changed, decodeConsent, same, type Consent } from './person/consent.js';
import { Device } from './person/device.js';
import { memoryStorage, type StorageKey } from './storage/adapter.js';
import { IndexedDb } from './storage/indexed-db.js';
import { sole, type SiteStorage } from './storage/site-storage.js';

/** What opening gives. */
export interface Opened {
  central: Central | undefined;
  device: Device;
  /** The model did not come from storage. */
  modelIsNew: boolean;
  /** Storage remembers the consent that was given. */
  remembered: boolean;
}

/** Prepares a device, with the state that `snapshot` holds where there is one; nothing is stored yet. */
export async function open(options: OpenOptions, emitter: Emitter, snapshot?: Uint8Array): Promise<Opened> {
  await init();
  const { site, lasting } = storageOf(options, snapshot !== undefined);
  const central = options.endpoint === undefined ? undefined : new Central(options.endpoint);
  const ownsModel = !(options.model instanceof Model);
  const kept = (key: StorageKey) =>
    site.get(key).catch((thrown: unknown) => void emitter.report(thrown, 'storage.failed'));
  let user: User | undefined;
  let begun: Begun | undefined;
  try {
    user = snapshot && User.fromBytes(snapshot);
    const { given, remembered } = await consentOf(options, kept);
    begun = await beginModel(options, central, given.personalise ? kept : async () => undefined, emitter);
    const { model, manifest, modelIsNew } = begun;
    const device = new Device(
      {
        tab: hex(randomId()),
        site,
        lasting,
        given,
        hasCentral: central !== undefined,
        model,
        ownsModel,
        manifest,
        snapshot: user,
      },
      emitter,
    );
    return { central, device, modelIsNew, remembered };
  } catch (thrown) {
    user?.free();
    if (ownsModel) begun?.model.free();
    site.close();
    throw thrown;
  }
}

/** The storage that the options ask for. */
function storageOf(options: OpenOptions, restores: boolean): { site: SiteStorage; lasting: boolean } {
  const { storage, site } = options;
  if (typeof storage === 'object') return { site: sole(storage), lasting: true };
  if (usesIndexedDb(options, restores)) return { site: new IndexedDb(site), lasting: true };
  return { site: sole(memoryStorage()), lasting: false };
}

/** Whether the options ask for IndexedDB, which tabs share. */
export function usesIndexedDb({ storage }: OpenOptions, restores = false): boolean {
  // A restored person is kept by whoever took the snapshot.
  const chosen = storage ?? (restores || !('indexedDB' in globalThis) ? 'memory' : 'indexeddb');
  return chosen === 'indexeddb';
}

/** Reads what is kept; what cannot be read is not there. */
export type Kept = (key: StorageKey) => Promise<Uint8Array | undefined>;

/** What was given, now or at an earlier visit, and whether storage remembers all of it. */
async function consentOf({ consent }: OpenOptions, kept: Kept): Promise<{ given: Consent; remembered: boolean }> {
  // Whoever refuses to have anything kept has nothing read, either.
  if (consent?.personalise === false) return { given: changed(NO_CONSENT, consent), remembered: true };
  const stored = decodeConsent(await kept('consent'));
  const given = changed(stored, consent);
  return { given, remembered: same(given, stored) };
}

/** A model to begin with. */
export interface Begun {
  model: Model;
  /** The manifest that was accepted last. */
  manifest: Uint8Array | undefined;
  modelIsNew: boolean;
}

/** The model to begin with: the one given or the stored one, whichever is newer, or else central's. */
export async function beginModel(options: OpenOptions, central: Central | undefined, kept: Kept, emitter: Emitter): Promise<Begun> {
  if (options.model instanceof Model) return { model: options.model, manifest: await kept('manifest'), modelIsNew: false };
  let manifest = await kept('manifest');
  const foreign = manifest !== undefined && (await isForeign(manifest, options));
  if (foreign) manifest = undefined;
  const handed = options.model && Model.load(options.model);
  const stored = foreign ? undefined : await storedModel(kept, emitter);
  if (handed) {
    const newer = stored?.lineage === handed.lineage && stored.version > handed.version;
    (newer ? handed : stored)?.free();
    return { model: newer ? stored : handed, manifest, modelIsNew: !newer };
  }
  if (stored) return { model: stored, manifest, modelIsNew: false };
  return { ...(await download(options, central)), modelIsNew: true };
}

/** Whether what is stored was signed by another key: the operator has begun anew. */
async function isForeign(manifest: Uint8Array, { publicKey }: OpenOptions): Promise<boolean> {
  if (publicKey === undefined) return false;
  return checkSignature(manifest, publicKey).then(
    () => false,
    (thrown: unknown) => asNearfieldError(thrown, '').code === 'manifest.bad_signature',
  );
}

async function storedModel(kept: Kept, emitter: Emitter): Promise<Model | undefined> {
  const pack = await kept('model');
  try {
    return pack && Model.load(pack);
  } catch (thrown) {
    return void emitter.report(thrown, 'pack.damaged');
  }
}

/** Downloads the newest model. */
async function download(options: OpenOptions, central: Central | undefined): Promise<Omit<Begun, 'modelIsNew'>> {
  if (!central) throw new NearfieldError('options.model', 'without an endpoint a model must be given', { field: 'model' });
  const now = (options.now ?? Date.now)();
  const bytes = await central.manifest();
  const manifest = await verifyManifest(bytes, options.publicKey ?? '', options.site, undefined, now);
  try {
    return { model: manifest.load(await central.pack(manifest.version)), manifest: bytes };
  } finally {
    manifest.free();
  }
}
