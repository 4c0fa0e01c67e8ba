// Opening: the storage, the consent, and a model from storage or from central.

import { Central, type Download } from './central/central.js';
import { receive } from './central/update.js';
import { init } from './core/binding.js';
import { verifyManifest } from './core/manifest.js';
import { Model } from './core/model.js';
import { hex } from './core/packed.js';
import { checkSignature, offeredVersion } from './core/signature.js';
import { User, randomId } from './core/user.js';
import type { Emitter } from './emitter.js';
import { NearfieldError, asNearfieldError } from './error.js';
import type { OpenOptions } from './options.js';
import { NO_CONSENT, changed, decodeConsent, same, type Consent } from './person/consent.js';
import { loadStored, type Sourced } from './person/chain.js';
import { Device } from './person/device.js';
import { memoryStorage } from './storage/adapter.js';
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
  const loading = init();
  // Waited for below, when what it is needed for is at hand.
  loading.catch(() => undefined);
  const { site, lasting } = storageOf(options, snapshot !== undefined);
  const central = options.endpoint === undefined ? undefined : new Central(options.endpoint);
  const ownsModel = !(options.model instanceof Model);
  const kept = (key: 'consent') =>
    site.get(key).catch((thrown: unknown) => void emitter.report(thrown, 'storage.failed'));
  let user: User | undefined;
  let begun: Begun | undefined;
  try {
    const { given, remembered } = await consentOf(options, kept);
    if (snapshot) {
      await loading;
      user = User.fromBytes(snapshot);
    }
    begun = await beginModel(options, central, given.personalise ? site : undefined, lasting && given.personalise, loading, emitter);
    const { model, chain, manifest, modelIsNew } = begun;
    const device = new Device(
      {
        tab: hex(randomId()),
        site,
        lasting,
        given,
        hasCentral: central !== undefined,
        model,
        chain,
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
type Kept = (key: 'consent') => Promise<Uint8Array | undefined>;

/** What was given, now or at an earlier visit, and whether storage remembers all of it. */
async function consentOf({ consent }: OpenOptions, kept: Kept): Promise<{ given: Consent; remembered: boolean }> {
  // Whoever refuses to have anything kept has nothing read, either.
  if (consent?.personalise === false) return { given: changed(NO_CONSENT, consent), remembered: true };
  const stored = decodeConsent(await kept('consent'));
  const given = changed(stored, consent);
  return { given, remembered: same(given, stored) };
}

/** A model to begin with. */
export interface Begun extends Sourced {
  /** The manifest that was accepted last. */
  manifest: Uint8Array | undefined;
  modelIsNew: boolean;
}

/**
 * The model to begin with: the one given or the stored one, whichever is newer, or else central's, of which the pack is
 * kept where `keeps`. What there is to fetch or to read is on its way while the core is `loading`.
 */
export async function beginModel(
  options: OpenOptions,
  central: Central | undefined,
  site: SiteStorage | undefined,
  keeps: boolean,
  loading: Promise<void>,
  emitter: Emitter,
): Promise<Begun> {
  const failed = (thrown: unknown) => void emitter.report(thrown, 'storage.failed');
  let manifest = await site?.get('manifest').catch(failed);
  if (options.model instanceof Model) {
    await loading;
    return { model: options.model, chain: undefined, manifest, modelIsNew: false };
  }
  const foreign = manifest !== undefined && (await isForeign(manifest, options));
  if (foreign) manifest = undefined;
  // Nothing is kept, so that central's is wanted.
  const ahead = manifest === undefined && !options.model && central ? offered(options, central) : undefined;
  ahead?.catch(() => undefined);
  await loading;
  const handed = options.model && Model.load(options.model);
  const stored = foreign || !site ? undefined : await loadStored(site, emitter).catch(failed);
  if (handed) {
    const newer = stored?.model.lineage === handed.lineage && stored.model.version > handed.version;
    if (newer) handed.free();
    else stored?.model.free();
    return { ...(newer ? stored : { model: handed, chain: undefined }), manifest, modelIsNew: !newer };
  }
  if (stored) {
    ahead?.then(({ pack }) => pack.cancel()).catch(() => undefined);
    return { ...stored, manifest, modelIsNew: false };
  }
  if (!central) throw new NearfieldError('options.model', 'without an endpoint a model must be given', { field: 'model' });
  return { ...(await begin(options, await (ahead ?? offered(options, central)), keeps)), modelIsNew: true };
}

/** Whether what is stored was signed by another key: the operator has begun anew. */
async function isForeign(manifest: Uint8Array, { publicKey }: OpenOptions): Promise<boolean> {
  if (publicKey === undefined) return false;
  return checkSignature(manifest, publicKey).then(
    () => false,
    (thrown: unknown) => asNearfieldError(thrown, '').code === 'manifest.bad_signature',
  );
}

/** A manifest that central signed, and the pack that it offers, which is on its way. */
interface Offered {
  manifest: Uint8Array;
  pack: Download;
}

/** Fetches the newest manifest, and what it offers; it takes no core. */
async function offered({ publicKey = '' }: OpenOptions, central: Central): Promise<Offered> {
  const manifest = await central.manifest();
  await checkSignature(manifest, publicKey);
  return { manifest, pack: central.pack(offeredVersion(manifest)) };
}

/** Takes what is offered as the first model. */
async function begin(options: OpenOptions, { manifest: signed, pack }: Offered, keeps: boolean): Promise<Omit<Begun, 'modelIsNew'>> {
  const now = (options.now ?? Date.now)();
  try {
    const manifest = await verifyManifest(signed, options.publicKey ?? '', options.site, undefined, now);
    try {
      return { ...(await receive(pack, manifest, keeps)), manifest: signed };
    } finally {
      manifest.free();
    }
  } finally {
    pack.cancel();
  }
}
