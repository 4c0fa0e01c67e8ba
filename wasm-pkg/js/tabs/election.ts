// Which tab writes: the one that holds the site's Web Lock or, where there are none, its lease.

import type { SiteStorage } from '../storage/site-storage.js';

// Choices: a tab that dies is followed within seconds, and a slow timer does not lose the lease.
const LEASE_MS = 6_000;
const RENEW_MS = 2_000;

/** A tab's part in the election of the writer. */
export interface Election {
  /** Whether this tab was elected at once. It may be later: then `elected` is called. */
  readonly decided: Promise<boolean>;
  /** Milliseconds that a claim holds; 0 where the lock holds it. */
  readonly leaseMs: number;
  /** Lets another tab write. */
  resign(): Promise<void>;
}

/** Stands for election. `elected` is called when this tab may write after it could not at first. */
export function stand(site: string, storage: SiteStorage, tab: string, elected: () => void): Election {
  const { locks } = (globalThis as { navigator?: { locks?: LockManager } }).navigator ?? {};
  return locks ? standForLock(locks, site, elected) : standForLease(storage, tab, elected);
}

function standForLock(locks: LockManager, site: string, elected: () => void): Election {
  const name = `nearfield:${site}`;
  const ended = new AbortController();
  let release = () => {};
  const held = new Promise<void>((done) => (release = done));
  let requested: Promise<unknown> = Promise.resolve();
  const decided = new Promise<boolean>((decide, failed) => {
    requested = locks.request(name, { ifAvailable: true }, (lock) => {
      decide(lock !== null);
      return lock ? held : undefined;
    });
    requested.catch(failed);
  });
  decided
    .then((atOnce) => {
      if (atOnce || ended.signal.aborted) return;
      requested = locks.request(name, { signal: ended.signal }, () => {
        elected();
        return held;
      });
      return requested;
    })
    // It was given up while it waited.
    .catch(() => undefined);
  return {
    decided,
    leaseMs: 0,
    async resign() {
      ended.abort();
      release();
      // Until the lock is free, this very page could not have it again.
      await requested;
    },
  };
}

function standForLease(storage: SiteStorage, tab: string, elected: () => void): Election {
  let holds = false;
  let ended = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const claim = async () => {
    try {
      const before = holds;
      holds = (await storage.claim({ writer: tab, leaseMs: LEASE_MS, force: false })) !== undefined;
      if (holds && !before && !ended) elected();
    } catch {
      // Storage that fails reports it where it is written to; the next claim may succeed.
    }
    again();
  };
  const again = () => {
    if (ended) return;
    timer = setTimeout(() => void claim(), RENEW_MS);
    (timer as { unref?: () => void }).unref?.();
  };
  const decided = storage.claim({ writer: tab, leaseMs: LEASE_MS, force: false }).then((claimed) => {
    holds = claimed !== undefined;
    again();
    return holds;
  });
  return {
    decided,
    leaseMs: LEASE_MS,
    async resign() {
      ended = true;
      clearTimeout(timer);
      if (holds) await storage.release(tab);
    },
  };
}
