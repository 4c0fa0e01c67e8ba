// The page around the person: hidden, shown, left, back online.

/** Calls `leave` when the page is hidden or left and `wake` when it is back; returns how to stop that. */
export function watchPage(leave: () => void, wake: () => void): () => void {
  const { document } = globalThis;
  // Node and workers have no page.
  if (!document) return () => undefined;
  const turn = () => (document.visibilityState === 'hidden' ? leave() : wake());
  document.addEventListener('visibilitychange', turn);
  globalThis.addEventListener('pagehide', leave);
  globalThis.addEventListener('online', wake);
  return () => {
    document.removeEventListener('visibilitychange', turn);
    globalThis.removeEventListener('pagehide', leave);
    globalThis.removeEventListener('online', wake);
  };
}
