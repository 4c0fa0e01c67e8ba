/**
 * Hooks for React 18 and newer. On a server they give what a page shows before anything is known: no
 * instance and an empty list.
 *
 * @packageDocumentation
 */
import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from 'react';
import { Nearfield, type NearfieldError, type OpenOptions, type Recommendation, type RecommendRequest } from 'nearfield';

/** What `useNearfield` gives. */
export interface UsedNearfield {
  /** The instance, once it is open. */
  nearfield: Nearfield | undefined;
  /** Why it could not be opened. */
  error: NearfieldError | undefined;
}

/**
 * Opens a site after the first render, in the browser only, and closes it when the component goes. Components
 * that open the same site share one instance. Other options than `site`, `endpoint` and `publicKey` count
 * when it opens; consent is changed by `nearfield.consent(…)`.
 */
export function useNearfield(options: OpenOptions): UsedNearfield {
  const [used, setUsed] = useState<UsedNearfield>(NOTHING);
  const current = useRef(options);
  current.current = options;
  const { site, endpoint, publicKey } = options;
  useEffect(() => {
    let ended = false;
    const opening = Nearfield.open(current.current);
    opening.then(
      (nearfield) => ended || setUsed({ nearfield, error: undefined }),
      (error: NearfieldError) => ended || setUsed({ nearfield: undefined, error }),
    );
    return () => {
      ended = true;
      setUsed(NOTHING);
      opening.then((nearfield) => nearfield.close()).catch(() => undefined);
    };
  }, [site, endpoint, publicKey]);
  return used;
}

/** The person's list, which follows what the person does; empty until there is an instance. */
export function useRecommendations(nearfield: Nearfield | undefined, request: RecommendRequest = {}): readonly Recommendation[] {
  const made = useRef<{ of: Nearfield; revision: number; key: string; list: readonly Recommendation[] }>(undefined);
  const key = JSON.stringify(request, listed);
  const subscribe = useCallback(
    (changed: () => void) => nearfield?.on('recommendations', changed) ?? (() => undefined),
    [nearfield],
  );
  const list = () => {
    if (!nearfield) return EMPTY;
    const before = made.current;
    // The same list must be the same object, or React would render for ever.
    if (before?.of === nearfield && before.revision === nearfield.revision && before.key === key) return before.list;
    let list = before?.list ?? EMPTY;
    try {
      list = nearfield.recommend(request);
    } catch (thrown) {
      // While the core begins again the last list stays; a mistake in the request is the page's to see.
      if (!WAITS.includes((thrown as NearfieldError).code)) throw thrown;
    }
    made.current = { of: nearfield, revision: nearfield.revision, key, list };
    return list;
  };
  return useSyncExternalStore(subscribe, list, () => EMPTY);
}

const NOTHING: UsedNearfield = { nearfield: undefined, error: undefined };
const EMPTY: readonly Recommendation[] = [];
const WAITS = ['core.lost', 'core.trapped', 'nearfield.closed'];

/** Sets and typed arrays as what is in them. */
function listed(_key: string, value: unknown): unknown {
  return typeof value === 'object' && value !== null && Symbol.iterator in value ? [...(value as Iterable<unknown>)] : value;
}
