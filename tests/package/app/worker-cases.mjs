// A page whose core is in a worker, for what only such a page has: each case gives what it saw.

import { Nearfield, NearfieldError } from 'nearfield/worker';

const coded = (promise) => promise.then(() => 'nothing was thrown', (thrown) => `${thrown instanceof NearfieldError} ${thrown.code} ${thrown.field}`);

export async function cases(options) {
  const [nf, again] = await Promise.all([Nearfield.open(options), Nearfield.open(options)]);
  const reasons = [];
  const stop = nf.on('recommendations', ({ reason }) => reasons.push(reason));
  const [{ itemId }] = await nf.popular({ count: 1 });
  const before = nf.revision;
  const tracked = [
    // What a tag manager pushes: an element, a function, and something that holds itself.
    await nf.track('view_item', { items: [{ item_id: itemId }], 'gtm.element': document.body, callback() {} }),
    await nf.track('view_item', Object.assign([], { self: globalThis })),
  ];
  // A call sees all that was asked before it, whether or not that was awaited.
  void nf.track('click', itemId);
  const { history } = await nf.inspect();
  const allowed = await nf.recommend({ allow: new Set(['no-such-item', itemId]), scenario: 'continue' });
  const seen = {
    same: nf === again,
    tracked,
    history: history.map(({ kind }) => kind),
    allowed: allowed.map((item) => item.itemId === itemId),
    revisions: nf.revision - before,
    reasons,
    refused: [
      await coded(nf.recommend({ count: 0 })),
      await coded(nf.recommend({ allow: 'tent-1' })),
      await coded(Nearfield.open({ ...options, storage: { get() {}, put() {} } })),
      await coded(Nearfield.open({ ...options, now: () => 0 })),
      await coded(Nearfield.open({ ...options, site: 'other', model: [1, 2] })),
      await coded(Nearfield.open({ ...options, site: 'other', worker: new Worker('/no-such-script.js', { type: 'module' }) })),
    ],
  };
  stop();
  await again.close();
  seen.open = await coded(nf.peek());
  await nf.close();
  seen.closed = await coded(nf.peek());
  seen.trackedWhenClosed = await nf.track('click', itemId);
  // The next one has a worker of its own, and finds what this one kept.
  const next = await Nearfield.open(options);
  seen.kept = (await next.inspect()).history.length;
  await next.close();
  return seen;
}

/** Learns something, and goes to the next page at once, so many times; then says what is known. */
export async function leave({ times, ...options }) {
  const nf = await Nearfield.open(options);
  if (times === 0) {
    const { history } = await nf.inspect();
    return history.map(({ itemId }) => itemId);
  }
  const items = await nf.popular({ count: 3 });
  for (const { itemId } of items) void nf.track('click', itemId);
  const query = new URLSearchParams(location.search);
  query.set('options', JSON.stringify({ ...options, times: times - 1 }));
  location.assign(`?${query}`);
  return new Promise(() => {});
}

/** Learns something that is not sent yet. */
export async function learn(options) {
  const nf = await Nearfield.open(options);
  const [{ itemId }] = await nf.popular({ count: 1 });
  await nf.track('click', itemId);
  await nf.flush();
  return (await nf.inspect()).history.length;
}
