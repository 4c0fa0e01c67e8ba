/**
 * Hooks for React 18 and newer. On a server they give what a page shows before anything is known: no
 * instance and an empty list.
 *
 * @packageDocumentation
 */
import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from 'react';
import { Nearfield, type NearfieldError, type OpenOptions, type Recommendation, type RecommendRequest } from 'nearfield';

/** What `useNearfield` gives. */
export interface UsedNearfield<Opened = Nearfield> {
  /** The instance, once it is open. */
  nearfield: Opened | undefined;
  /** Why it could not be opened. */
  error: NearfieldError | undefined;
}

/** What opens an instance: the class `Nearfield` of `nearfield`, or that of `nearfield/worker`. */
export interface Opener<Options, Opened> {
  open(options: Options): Promise<Opened>;
}

/**
 * Opens a site after the first render, in the browser only, and closes it when the component goes. Components
 * that open the same site share one instance. Other options than `site`, `endpoint` and `publicKey` count
 * when it opens; consent is changed by `nearfield.consent(…)`. With the `Nearfield` of `nearfield/worker` as
 * the second argument the core runs in a worker.
 */
export function useNearfield(options: OpenOptions): UsedNearfield;
export function useNearfield<Options extends Site, Opened extends Closable>(options: Options, from: Opener<Options, Opened>): UsedNearfield<Opened>;
export function useNearfield(options: Site, from: Opener<never, Closable> = Nearfield): UsedNearfield<Closable> {
  const [used, setUsed] = useState<UsedNearfield<Closable>>(NOTHING);
  const current = useRef(options);
  current.current = options;
  const { site, endpoint, publicKey } = options;
  useEffect(() => {
    let ended = false;
    const opening = from.open(current.current as never);
    opening.then(
      (nearfield) => ended || setUsed({ nearfield, error: undefined }),
      (error: NearfieldError) => ended || setUsed({ nearfield: undefined, error }),
    );
    return () => {
      ended = true;
      setUsed(NOTHING);
      opening.then((nearfield) => nearfield.close()).catch(() => undefined);
    };
  }, [site, endpoint, publicKey, from]);
  return used;
}

type Site = Pick<OpenOptions, 'site' | 'endpoint' | 'publicKey'>;
type Closable = { close(): Promise<void> };

/** What recommends: an instance in the page, or one in a worker, whose lists are promises. */
export interface Recommends {
  readonly revision: number;
  on(name: 'recommendations', listener: () => void): () => void;
  recommend(request: RecommendRequest): Recommendation[] | Promise<Recommendation[]>;
}

/** A list as it was made, or as it is being made. */
interface Made {
  of: Recommends;
  revision: number;
  key: string;
  list: readonly Recommendation[];
  /** Why there is no newer one: a mistake in the request. */
  thrown?: unknown;
}

/**
 * The person's list, which follows what the person does; empty until there is an instance. While a worker makes
 * the next one the last one stays.
 */
export function useRecommendations(nearfield: Recommends | undefined, request: RecommendRequest = {}): readonly Recommendation[] {
  const made = useRef<Made>(undefined);
  const arrived = useRef(() => {});
  const key = JSON.stringify(request, listed);
  const subscribe = useCallback(
    (changed: () => void) => {
      arrived.current = changed;
      return nearfield?.on('recommendations', changed) ?? (() => undefined);
    },
    [nearfield],
  );
  const list = () => {
    if (!nearfield) return EMPTY;
    const before = made.current;
    // The same list must be the same object, or React would render for ever.
    if (before?.of !== nearfield || before.revision !== nearfield.revision || before.key !== key) {
      made.current = make(nearfield, key, request, before?.list ?? EMPTY, () => arrived.current());
    }
    const now = made.current as Made;
    if (now.thrown !== undefined) throw now.thrown;
    return now.list;
  };
  return useSyncExternalStore(subscribe, list, () => EMPTY);
}

/** Makes a list; `last` stays in its place until it is there. */
function make(of: Recommends, key: string, request: RecommendRequest, last: readonly Recommendation[], arrived: () => void): Made {
  const made: Made = { of, revision: of.revision, key, list: last };
  const failed = (thrown: unknown) => {
    // While the core begins again the last list stays; a mistake in the request is the page's to see.
    if (!WAITS.includes((thrown as NearfieldError).code)) made.thrown = thrown;
  };
  try {
    const list = of.recommend(request);
    if (Array.isArray(list)) made.list = list;
    else list.then((list) => (made.list = list), failed).then(arrived);
  } catch (thrown) {
    failed(thrown);
  }
  return made;
}

const NOTHING: UsedNearfield<never> = { nearfield: undefined, error: undefined };
const EMPTY: readonly Recommendation[] = [];
const WAITS = ['core.lost', 'core.trapped', 'nearfield.closed'];

/** Sets and typed arrays as what is in them. */
function listed(_key: string, value: unknown): unknown {
  return typeof value === 'object' && value !== null && Symbol.iterator in value ? [...(value as Iterable<unknown>)] : value;
}
