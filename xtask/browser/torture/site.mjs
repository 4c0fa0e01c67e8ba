// The site that is tortured: the package's files, a page, and a central that writes down what it is told.

import { existsSync, readFileSync } from 'node:fs';
import { extname, join, normalize } from 'node:path';
import { answer, central, deltas, publicKey } from '../../../wasm-pkg/tests/central.mjs';

const TYPES = { '.js': 'text/javascript', '.wasm': 'application/wasm' };
const TASTES = ['tent', 'lamp', 'shoe', 'book'];
const KINDS = ['view', 'click', 'cart', 'uncart', 'purchase', 'dismiss'];
/** Share of answers that get lost after central has counted what it was sent. */
const LOST_ANSWERS = 0.2;

/** The page, with the core in it (`index.js`) or in a worker (`worker.js`). */
const page = (entry) => `<!doctype html><title>torture</title><script type="module">
  import { Nearfield } from '/${entry}';
  window.Nearfield = Nearfield;
  window.options = {
    endpoint: location.origin, publicKey: '${publicKey}', site: 'test',
    syncEveryMs: 0, idleMs: 30, consent: { personalise: true, share: true },
  };
  // What a worker gives is a promise.
  window.history_ = async (nf) => (await nf.inspect()).history.map(({ itemId, kind }) => itemId + ':' + kind);
  window.post = (path, body) => fetch(path, { method: 'POST', body: JSON.stringify(body) });
  window.next = async () => (await fetch('/next', { method: 'POST' })).json();
  window.track = (nf, events) => {
    for (const event of events) { const [item, kind] = event.split(':'); nf.track(kind, item); }
  };
  window.pause = (ms) => new Promise((soon) => setTimeout(soon, ms));
  window.random = (below) => Math.floor(Math.random() * below);
  /** Sends until nothing is left to send. */
  window.tell = async (nf) => {
    for (let tries = 0; tries < 200; tries += 1) {
      await nf.sync().catch(() => {});
      if ((await nf.inspect()).outbox.length === 0 && (await nf.inspectDelta()) === null) return true;
      await pause(20);
    }
    return false;
  };
  window.turn = (visibilityState) => {
    Object.defineProperty(document, 'visibilityState', { value: visibilityState, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  };
  /** Gives why the browser threw its own database away, where it did: Chromium says so when it makes a new one. */
  window.watchDatabase = () => {
    let wiped;
    const { open } = IDBFactory.prototype;
    IDBFactory.prototype.open = function (...given) {
      const request = open.apply(this, given);
      request.addEventListener('upgradeneeded', ({ dataLoss, dataLossMessage }) => {
        if (dataLoss === 'total') wiped = dataLossMessage;
      });
      return request;
    };
    return () => wiped;
  };
  /** Opens, says what it found, and learns until the browser is killed. */
  window.live = async () => {
    const wiped = watchDatabase();
    const nf = await Nearfield.open(options);
    const errors = [];
    nf.on('error', ({ code, message }) => errors.push(code + ' ' + message));
    await post('/opened', { history: await history_(nf), role: (await nf.inspect()).role, errors, wiped: wiped() });
    for (;;) {
      const events = await next();
      track(nf, events);
      await nf.flush();
      await post('/confirmed', events);
      // At times long enough to be idle, so that what was learnt is sent; at times the page is hidden.
      await pause(random(80));
      if (random(3) === 0) {
        track(nf, await next());
        turn('hidden');
        await pause(random(10));
        turn('visible');
      }
    }
  };
  /** Opens, sends all, and says what it holds. */
  window.last = async () => {
    const wiped = watchDatabase();
    const nf = await Nearfield.open(options);
    const toldAll = await tell(nf);
    await post('/last', { toldAll, history: await history_(nf), wiped: wiped() });
  };
  if (location.search) window[location.search.slice(1)]().catch((thrown) => post('/failed', String(thrown.stack ?? thrown)));
  window.isReady = true;
</script>`;

/** The 240 events that can be told apart, as `ITEM:KIND`, in random order. */
export function distinctEvents() {
  const events = TASTES.flatMap((taste) => Array.from({ length: 10 }, (_, item) => `${taste}-${item}`)).flatMap((item) =>
    KINDS.map((kind) => `${item}:${kind}`),
  );
  for (let last = events.length - 1; last > 0; last -= 1) {
    const at = Math.floor(Math.random() * (last + 1));
    [events[last], events[at]] = [events[at], events[last]];
  }
  return events;
}

/**
 * Starts a site. `told` holds what central was told, by the id of the delta; `post` may hold, by path, what
 * answers a page's message.
 */
export async function startSite(folder) {
  const state = await central();
  const site = {
    address: `${state.endpoint}/page`,
    origin: state.endpoint,
    told: new Map(),
    losesAnswers: true,
    /** Called when central has been told something, before it answers. */
    heard: undefined,
    post: {},
    close: state.close,
    /** Begins with a person of whom central has heard nothing; gives the events that the page has confirmed. */
    newPerson({ verdict, losesAnswers }) {
      const confirmed = new Set();
      site.told.clear();
      site.losesAnswers = losesAnswers;
      site.post = {
        '/confirmed': (events) => {
          for (const event of events) confirmed.add(event);
          verdict.confirmed += events.length;
        },
      };
      return confirmed;
    },
    /** Loads the page, on which nothing is open yet. */
    async load(page, entry = 'index.js') {
      await page.goto(`${site.address}/${entry}`);
      await page.waitForFunction(() => window.isReady);
    },
    /** How often each event was told. */
    counts() {
      const counts = new Map();
      for (const events of site.told.values()) for (const event of events) counts.set(event, (counts.get(event) ?? 0) + 1);
      return counts;
    },
  };
  state.routes['/v1/sync'] = ({ body }) => {
    for (const { id, touches } of deltas(body)) {
      const events = touches.map((touch) => {
        const [row, kind] = touch.split(':');
        return `${TASTES[Math.floor(row / 10)]}-${row % 10}:${kind}`;
      });
      // Central counts an id once, whatever comes under it later.
      if (!site.told.has(id)) site.told.set(id, events);
    }
    site.heard?.();
    return site.losesAnswers && Math.random() < LOST_ANSWERS ? null : { body: answer(body) };
  };
  state.otherwise = ({ path, body }) => {
    state.requests.length = 0;
    if (path.startsWith('/page')) return { headers: { 'content-type': 'text/html' }, body: page(path.endsWith('worker.js') ? 'worker.js' : 'index.js') };
    if (site.post[path]) return { body: JSON.stringify(site.post[path](body.length > 0 ? JSON.parse(body) : undefined) ?? null) };
    const file = join(folder, normalize(path));
    return existsSync(file)
      ? { headers: { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' }, body: readFileSync(file) }
      : { status: 404 };
  };
  return site;
}

/** Runs `oneRound` `count` times, each with a person of its own: a context of the browser that ends with it. */
export function rounds(oneRound) {
  return async ({ site, browser, count, verdict, progress }) => {
    for (let round = 0; round < count; round += 1) {
      const context = await browser.newContext();
      try {
        await oneRound({ site, context, verdict, round });
      } finally {
        await context.close();
      }
      progress(round + 1);
    }
  };
}

/** Adds up what went wrong, with the first few cases. */
export class Verdict {
  lost = 0;
  twice = 0;
  returned = 0;
  other = 0;
  confirmed = 0;
  refusals = 0;
  wiped = 0;
  cases = [];

  note(kind, count, what) {
    if (count === 0) return;
    this[kind] += count;
    if (this.cases.length < 10) this.cases.push(`${kind} ${count}: ${what}`);
  }

  /** Every confirmed event is in the history, and none is in it twice. */
  compare(confirmed, history, what) {
    const held = new Set(history);
    const lost = [...confirmed].filter((event) => !held.has(event));
    this.note('lost', lost.length, `${what}: ${lost.slice(0, 3)}`);
    this.note('twice', history.length - held.size, `${what}: in the history`);
  }

  /** No event was told twice, and every event of the history was told. */
  compareTold(site, history, what) {
    const counts = site.counts();
    const twice = [...counts].filter(([, count]) => count > 1);
    this.note('twice', twice.length, `${what}: told ${twice.slice(0, 3)}`);
    const untold = history.filter((event) => !counts.has(event));
    this.note('lost', untold.length, `${what}: never told ${untold.slice(0, 3)}`);
  }
}
