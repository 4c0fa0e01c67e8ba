// Opening: storage, the person's state, and a model from storage or from central.

import { init } from './binding.js';
import { Central } from './central.js';
import { consentFrom, type Consent } from './consent.js';
import { decodeName, type DeltaName } from './delta-name.js';
import { NearfieldError, asNearfieldError } from './error.js';
import { verifyManifest } from './manifest.js';
import { Model } from './model.js';
import { checkOptions, type OpenOptions } from './options.js';
import { indexedDbStorage, memoryStorage, type StorageAdapter, type StorageKey } from './storage.js';
import { User } from './user.js';

/** What opening found. */
export interface Opened {
  central: Central | undefined;
  storage: StorageAdapter;
  consent: Consent;
  model: Model;
  /** The model did not come from storage. */
  modelIsNew: boolean;
  user: User;
  /** The name that the last visit may have sent what it left unsent under. */
  nextName: DeltaName | undefined;
  token: Uint8Array | undefined;
  /** The manifest that was accepted last. */
  manifest: Uint8Array | undefined;
  /** What failed on the way without stopping it. */
  errors: NearfieldError[];
}

/** Opens with a stored state, or with the one that `snapshot` holds. */
export async function open(options: OpenOptions, snapshot?: Uint8Array): Promise<Opened> {
  checkOptions(options);
  await init();
  const errors: NearfieldError[] = [];
  const consent = consentFrom(options.consent);
  const central = options.endpoint === undefined ? undefined : new Central(options.endpoint);
  const storage = consent.personalise ? await openStorage(options, errors) : memoryStorage();
  const kept = async (key: StorageKey) => {
    try {
      return await storage.get(key);
    } catch (thrown) {
      errors.push(asNearfieldError(thrown, 'storage.failed'));
      return undefined;
    }
  };

  const stored = snapshot ? undefined : await kept('state');
  let user: User;
  try {
    user = new User(snapshot ?? stored);
  } catch (thrown) {
    if (snapshot) throw thrown;
    // A damaged state is worth less than a shop that opens; an event reports it.
    errors.push(asNearfieldError(thrown, 'state.damaged'));
    user = new User();
  }

  let modelIsNew = false;
  let manifest: Uint8Array | undefined;
  let model: Model | undefined = options.model instanceof Model ? options.model : undefined;
  const pack = model ? undefined : await kept('model');
  if (pack) {
    try {
      model = Model.load(pack);
    } catch (thrown) {
      errors.push(asNearfieldError(thrown, 'pack.damaged'));
    }
  }
  if (model) {
    manifest = await kept('manifest');
  } else {
    if (options.model instanceof Uint8Array) model = Model.load(options.model);
    else ({ model, manifest } = await download(options, central));
    modelIsNew = true;
  }
  const token = await kept('token');
  const nextName = stored && decodeName(await kept('next'));
  return { central, storage, consent, model, modelIsNew, user, nextName, token, manifest, errors };
}

/** Downloads the newest model. */
async function download(options: OpenOptions, central: Central | undefined): Promise<Pick<Opened, 'model' | 'manifest'>> {
  if (!central) throw new NearfieldError('options.model', 'without an endpoint a model must be given', { field: 'model' });
  const now = (options.now ?? Date.now)();
  const bytes = await central.manifest();
  const manifest = verifyManifest(bytes, options.publicKey ?? '', options.site, undefined, now);
  try {
    return { model: manifest.load(await central.pack(manifest.version)), manifest: bytes };
  } finally {
    manifest.free();
  }
}

/** Opens the storage that was asked for; where a browser refuses it, memory, and `errors` says why. */
export async function openStorage({ storage, site }: OpenOptions, errors: NearfieldError[]): Promise<StorageAdapter> {
  if (typeof storage === 'object') return storage;
  if (storage === 'memory' || (storage === undefined && !('indexedDB' in globalThis))) return memoryStorage();
  try {
    return await indexedDbStorage(site);
  } catch (thrown) {
    // Private windows may refuse a database: the visit continues in memory, and an event says so.
    errors.push(asNearfieldError(thrown, 'storage.unavailable'));
    return memoryStorage();
  }
}
