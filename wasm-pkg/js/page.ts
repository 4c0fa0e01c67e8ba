// The page around the person: hidden, shown, left, kept for the back button, back online.

/** What is to be done as the page comes and goes. */
export interface PageListener {
  /** The page is hidden or left, perhaps for good. */
  leave(): void;
  /** It is shown or online again. */
  wake(): void;
  /** The browser keeps it, stopped, for the back button. */
  suspend(): void;
  /** It goes on after that. */
  resume(): void;
}

/** Watches the page, and returns how to stop that. */
export function watchPage(listener: PageListener): () => void {
  const { document } = globalThis;
  // Node and workers have no page.
  if (!document) return () => undefined;
  const turn = () => (document.visibilityState === 'hidden' ? listener.leave() : listener.wake());
  const hide = ({ persisted }: PageTransitionEvent) => {
    listener.leave();
    if (persisted) listener.suspend();
  };
  const show = ({ persisted }: PageTransitionEvent) => {
    if (persisted) listener.resume();
  };
  const wake = () => listener.wake();
  document.addEventListener('visibilitychange', turn);
  globalThis.addEventListener('pagehide', hide);
  globalThis.addEventListener('pageshow', show);
  globalThis.addEventListener('online', wake);
  return () => {
    document.removeEventListener('visibilitychange', turn);
    globalThis.removeEventListener('pagehide', hide);
    globalThis.removeEventListener('pageshow', show);
    globalThis.removeEventListener('online', wake);
  };
}
