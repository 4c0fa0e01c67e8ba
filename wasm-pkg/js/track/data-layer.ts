// The page's `dataLayer`, as Google Tag Manager and gtag.js have it.

/**
 * Gives what is in the layer, and what is pushed later, to `track`; returns how to stop that.
 *
 * Entries of Tag Manager are objects with `event` and `ecommerce`; those of gtag.js are its arguments:
 * `event`, a name and parameters. Others are passed over.
 */
export function follow(layer: unknown[], track: (name: unknown, payload: unknown) => void): () => void {
  const take = (entry: unknown) => {
    if (typeof entry !== 'object' || entry === null) return;
    const called = entry as ArrayLike<unknown> & { event?: unknown };
    if (called[0] === 'event') track(called[1], called[2]);
    // Tag Manager's own events, such as gtm.click, are about the page.
    else if (typeof called.event === 'string' && !called.event.startsWith('gtm.')) track(called.event, entry);
  };
  let following = true;
  const { push } = layer;
  layer.push = function (...entries: unknown[]) {
    const length = push.apply(this, entries);
    if (following) entries.forEach(take);
    return length;
  };
  [...layer].forEach(take);
  return () => {
    following = false;
  };
}
