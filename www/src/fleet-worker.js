// Simulated shoppers: visits of the log, each person with a state, a device token and deltas of their own.
//
// Everything that a real device does is done here by the same package; only the clock is the log's.

import { Model, User, init, verifyManifest } from '/nearfield/index.js';

const LIST = 10;
// More than anyone has seen, so that ten are always left.
const POPULAR = 400;
const WINDOW = 2_000;
// Choices of the demo. A browser keeps six connections to a host: two of them stay free for the page itself.
const REQUESTS_MAX = 4;
const WAITING_MAX = 60;
const POLL_MS = 1_000;
const REPORT_MS = 300;
const RETRY_MS = 2_000;
const IDLE_MS = 60_000;

let config;
let running = false;
let pace = 300;
let live;
let frozen;
let popular = [];
/** How many steps of the log are replayed, and what an earlier page had replayed into the same lineage. */
let place = 0;
let replayed;
const people = new Map();
const waiting = [];
let underWay = 0;
let pausedUntil = 0;
const totals = { events: 0, visits: 0, of: 0, sent: 0, acknowledged: 0, refused: 0, sentBytes: 0, arrivals: 0, arrivalHits: 0, offline: false };
const recent = { live: new Ring(), frozen: new Ring(), popular: new Ring() };

self.addEventListener('message', ({ data }) => {
  if (data.pace) pace = data.pace;
  if (data.run !== undefined) running = data.run;
  if (data.config) {
    config = data.config;
    replayed = data.replayed;
    start().catch((thrown) => self.postMessage({ failed: thrown.message }));
  }
});

async function start() {
  await init();
  const [shoppers, catalogue, newest] = await Promise.all([json('/data/shoppers.json'), json('/data/catalogue.json'), newestModel()]);
  live = newest;
  frozen = Model.load(newest.toPack());
  popular = live.popular(POPULAR).itemIds();
  totals.of = shoppers.sessions.length;
  const steps = timeline(shoppers);
  if (replayed?.lineage === live.lineage) place = Math.min(replayed.place, steps.length);
  totals.visits = steps.slice(0, place).filter(({ ends }) => ends).length;
  const newcomers = new Set(catalogue.items.filter((item) => item.new).map((item) => item.id));
  void poll();
  setInterval(() => report(), REPORT_MS);

  // The log's times are shifted to end now: a device must not live in the future.
  const shift = Date.now() - (shoppers.start_ms + steps.at(-1).at);
  let owed = 0;
  let last = performance.now();
  while (place < steps.length) {
    await pause(16);
    const now = performance.now();
    owed = Math.min(owed + ((now - last) / 1000) * pace, pace);
    last = now;
    if (!running) {
      owed = 0;
      continue;
    }
    // A frame's worth of work, then the requests get their turn.
    while (owed >= 1 && place < steps.length && waiting.length < WAITING_MAX && performance.now() - now < 40) {
      const step = steps[place];
      visit(step, catalogue.items[step.item].id, shoppers.start_ms + step.at + shift, shoppers.kinds[step.kind], newcomers);
      place += 1;
      owed -= 1;
    }
  }
  while (waiting.length + underWay > 0) await pause(200);
  report(true);
}

/** All steps of all visits in the order of their time, with where a visit and a person end. */
function timeline({ sessions }) {
  const steps = [];
  const lastVisit = new Map(sessions.map(([user], visit) => [user, visit]));
  sessions.forEach(([user, start, events], visit) => {
    events.forEach(([item, offset, kind], step) => {
      const ends = step === events.length - 1;
      steps.push({ user, item, kind, at: start + offset, ends, leaves: ends && lastVisit.get(user) === visit });
    });
  });
  // A stable sort: steps of one visit at one time keep their order.
  return steps.sort((a, b) => a.at - b.at);
}

function visit({ user, ends, leaves }, item_id, time_ms, kind, newcomers) {
  let person = people.get(user);
  if (!person) people.set(user, (person = { live: new User(), frozen: new User(), seen: new Set(), token: undefined, sending: false, leaves: false }));
  if (!person.seen.has(item_id)) {
    // The question comes before the answer: three lists, then the choice.
    const inLive = person.live.recommend(live, { count: LIST }).itemIds().includes(item_id);
    const inFrozen = person.frozen.recommend(frozen, { count: LIST }).itemIds().includes(item_id);
    let left = LIST;
    let inPopular = false;
    for (const id of popular) {
      if (left === 0) break;
      if (person.seen.has(id)) continue;
      inPopular ||= id === item_id;
      left -= 1;
    }
    recent.live.push(inLive);
    recent.frozen.push(inFrozen);
    recent.popular.push(inPopular);
    if (newcomers.has(item_id)) {
      totals.arrivals += 1;
      totals.arrivalHits += inLive;
    }
  }
  person.seen.add(item_id);
  const event = { kind, itemId: item_id, timeMs: time_ms };
  person.live.learn(live, event, time_ms);
  person.frozen.learn(frozen, event, time_ms);
  totals.events += 1;
  if (ends) totals.visits += 1;
  // After a visit the person is idle: a delta goes out a minute later, by their clock.
  if (person.live.deltaDue(time_ms + (ends ? IDLE_MS : 0)) && person.live.takeDelta(live)) send(person);
  if (leaves) {
    person.leaves = true;
    release(user, person);
  }
}

/** Frees whoever will not come back and has nothing left to send. */
function release(user, person) {
  if (!person.leaves || person.sending || person.live.outbox().length > 0) return;
  person.live.free();
  person.frozen.free();
  people.delete(user);
}

function send(person) {
  if (person.sending) return;
  person.sending = true;
  waiting.push(person);
  work();
}

function work() {
  while (underWay < REQUESTS_MAX && waiting.length > 0 && performance.now() >= pausedUntil) {
    const person = waiting.shift();
    underWay += 1;
    void deliver(person).finally(() => {
      underWay -= 1;
      work();
    });
  }
}

async function deliver(person) {
  try {
    while (person.live.outbox().length > 0) {
      person.token ??= await bytes('/v1/device', { method: 'POST' });
      const body = person.live.encodeSync(config.site, person.token);
      const headers = { 'content-type': 'text/plain' };
      const reply = await bytes('/v1/sync', { method: 'POST', body, headers }).catch((thrown) => {
        // The next try asks for a new one.
        if (thrown.status === 401) person.token = undefined;
        throw thrown;
      });
      const { results } = person.live.settle(reply);
      totals.sent += results.length;
      totals.sentBytes += body.length;
      for (const { outcome } of results) {
        if (outcome === 'refused') totals.refused += 1;
        else totals.acknowledged += 1;
      }
      if (results.length === 0) throw new Error('central answered none of the deltas');
    }
    totals.offline = false;
    person.sending = false;
    for (const [user, other] of people) if (other === person) release(user, person);
  } catch (thrown) {
    totals.offline = !thrown.retryAfterMs;
    // Nothing is lost: the delta keeps its id and waits.
    const wait = thrown.retryAfterMs ?? RETRY_MS;
    pausedUntil = Math.max(pausedUntil, performance.now() + wait);
    waiting.push(person);
    setTimeout(work, wait + 5);
  }
}

async function poll() {
  try {
    const manifest = await newestManifest({ model: live });
    try {
      if (!manifest.isOf(live)) await update(manifest);
    } finally {
      manifest.free();
    }
  } catch {
    // The model that is held stays in use; the next look may find central back.
  }
  setTimeout(poll, POLL_MS);
}

async function update(manifest) {
  if (!(await patched(manifest))) {
    const old = live;
    live = manifest.load(await bytes(`/v1/model/${manifest.version}.pack`));
    old.free();
  }
  popular = live.popular(POPULAR).itemIds();
}

/** Takes the short way, where there is one; a patch that does not fit changes nothing. */
async function patched(manifest) {
  const from = manifest.patchFrom(live);
  if (from === undefined) return false;
  try {
    manifest.apply(live, await bytes(`/v1/model/${from}..${manifest.version}.patch`));
    return true;
  } catch {
    return false;
  }
}

async function newestManifest(held) {
  const signed = await bytes('/v1/model/latest', { cache: 'no-cache' });
  return verifyManifest(signed, config.publicKey, config.site, held, Date.now());
}

async function newestModel() {
  const manifest = await newestManifest(undefined);
  try {
    return manifest.load(await bytes(`/v1/model/${manifest.version}.pack`));
  } finally {
    manifest.free();
  }
}

async function bytes(path, request) {
  return new Uint8Array(await (await ask(path, request)).arrayBuffer());
}

async function ask(path, request = {}) {
  const reply = await fetch(config.endpoint + path, { credentials: 'omit', signal: AbortSignal.timeout(15_000), ...request });
  if (reply.ok) return reply;
  const seconds = Number(reply.headers.get('retry-after') ?? NaN);
  const retryAfterMs = Number.isFinite(seconds) ? seconds * 1000 : undefined;
  throw Object.assign(new Error(`${path} answered ${reply.status}`), { status: reply.status, retryAfterMs });
}

async function json(path) {
  const reply = await fetch(path);
  if (!reply.ok) throw new Error(`${path} answered ${reply.status}`);
  return reply.json();
}

function report(done = false) {
  // Too few choices make a rate that says nothing.
  const rates = recent.live.length < 100 ? undefined : { live: recent.live.rate(), frozen: recent.frozen.rate(), popular: recent.popular.rate() };
  self.postMessage({ ...totals, version: live.version, lineage: live.lineage, place, rates, done });
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The last hits and misses, and their rate. */
function Ring() {
  const slots = new Uint8Array(WINDOW);
  let written = 0;
  let hits = 0;
  return {
    push(hit) {
      const slot = written % WINDOW;
      hits += Number(hit) - slots[slot];
      slots[slot] = Number(hit);
      written += 1;
    },
    rate: () => hits / Math.min(written, WINDOW),
    get length() {
      return Math.min(written, WINDOW);
    },
  };
}
