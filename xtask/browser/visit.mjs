// Visits the demo shop as a person would, with a real browser, and says line by line what it saw.
//
// `cargo xtask demo --check` runs it beside central, edge and shop, and starts central again when the visit
// has killed it. Exit code 0: everything was as it should be; 1: the line marked ✗ was not.

import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { FLAGS } from './chromium.mjs';

const config = JSON.parse(process.env.NEARFIELD_VISIT ?? 'null');
if (config === null) {
  console.error('run `cargo xtask demo --check`, which starts the demo and this visit');
  process.exit(2);
}

/** Longest wait for something that the page does by itself, in ms: an idle minute and a publish fit in. */
const BY_ITSELF_MS = 90_000;
/** Longest wait for the answer to a click, in ms. The ranking itself takes under one. */
const CLICK_MS = 3_000;

class Unmet extends Error {}

const saw = (text) => console.log(`  ✓ ${text}`);
const plural = (number, noun) => `${number} ${noun}${number === 1 ? '' : 's'}`;
const pause = (ms) => new Promise((soon) => setTimeout(soon, ms));

/** Asks until the answer holds, and returns it; fails with `what` when it never does. */
async function until(what, limitMs, ask) {
  const start = Date.now();
  for (;;) {
    let last;
    try {
      last = await ask();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() - start > limitMs) {
      throw new Unmet(`${what}: not within ${limitMs / 1000} s${last instanceof Error ? ` (${last.message})` : ''}`);
    }
    await pause(50);
  }
}

/** Asks a server, and returns nothing where it cannot be reached. */
const reach = (url, options) => fetch(url, { signal: AbortSignal.timeout(5_000), ...options }).catch(() => undefined);

rmSync(config.profile, { recursive: true, force: true });
mkdirSync(config.screenshots, { recursive: true });
const { init, User } = await import(pathToFileURL(join(config.package, 'node.js')));
await init();

const context = await chromium.launchPersistentContext(config.profile, {
  executablePath: config.chromium,
  args: FLAGS,
  viewport: { width: 1440, height: 1000 },
});
const page = context.pages()[0] ?? (await context.newPage());
const broken = [];
page.on('pageerror', (error) => broken.push(error.message));

/** Every sync that central acknowledged, byte for byte: the evidence for the replay after the crash. */
const acknowledged = [];
page.on('requestfinished', async (request) => {
  if (request.method() !== 'POST' || !request.url().endsWith('/v1/sync')) return;
  try {
    const body = request.postDataBuffer();
    const response = await request.response();
    if (body === null || response?.status() !== 200) return;
    const ids = outcomes(await response.body())
      .filter(({ outcome }) => outcome === 'acknowledged')
      .map(({ id }) => id);
    if (ids.length > 0) acknowledged.push({ body, ids });
  } catch (error) {
    console.log(`  - a sync could not be read back: ${error.message}`);
  }
});

/** What a reply of central says of each delta. */
function outcomes(reply) {
  const user = new User();
  try {
    return user.settle(new Uint8Array(reply)).results;
  } finally {
    user.free();
  }
}

const count = async (testId) => {
  const text = await page.getByTestId(testId).first().textContent();
  const digits = /\d[\d.,\u202f\u00a0 ]*/.exec(text ?? '')?.[0].replace(/\D/g, '');
  if (!digits) throw new Unmet(`${testId} shows "${text?.trim()}", not a number`);
  return Number(digits);
};
const forYou = () =>
  page.locator('[data-testid="for-you"] [data-item]').evaluateAll((items) => items.map((item) => item.dataset.item));
/** Takes a screenshot once the list has come to rest. */
async function picture(name) {
  await pause(800);
  await page.screenshot({ path: join(config.screenshots, `${name}.png`) });
}

/** Opens the page and waits for the first list. */
async function open(load) {
  await load();
  await page.waitForFunction(() => window.nearfieldDemo !== undefined, undefined, { timeout: 30_000 });
  await page.evaluate(() => window.nearfieldDemo.ready);
  await until('a list "for you"', 15_000, async () => (await forYou()).length > 0);
}

const clicked = new Set();

/** Clicks a product that was not clicked before, and waits for another list. */
async function click() {
  const before = await forYou();
  const history = await count('history-count');
  const cards = page.locator('[data-testid="product"][data-item]:visible');
  const shown = await cards.evaluateAll((items) => items.map((item) => item.dataset.item));
  const item = shown.find((id) => !clicked.has(id));
  if (item === undefined) throw new Unmet('no product card is left to click');
  clicked.add(item);
  const start = Date.now();
  await cards.nth(shown.indexOf(item)).click();
  const after = await until(`another list after clicking ${item}`, CLICK_MS, async () => {
    const list = await forYou();
    return list.join() !== before.join() && list;
  });
  const took = Date.now() - start;
  await until(`the click on ${item} in the history`, CLICK_MS, async () => (await count('history-count')) > history);
  const fresh = after.filter((id) => !before.includes(id)).length;
  const moved = after.filter((id, place) => id !== before[place]).length;
  return `clicked ${item}: ${moved} of ${after.length} places changed, ${fresh} items are new (seen after ${took} ms)`;
}

/** Recommendations of the edge host for one user, after one more event. */
async function edge(item) {
  const user = `${config.edge}/v1/users/visitor`;
  const event = { item_id: item, kind: 'click', time_ms: Date.now() };
  const headers = { 'content-type': 'application/json' };
  const posted = await reach(`${user}/events`, { method: 'POST', headers, body: JSON.stringify(event) });
  if (posted?.status !== 200) throw new Unmet(`edge: event answered ${posted ? `${posted.status} ${await posted.text()}` : 'not at all'}`);
  const { applied, sent } = await posted.json();
  const asked = await reach(`${user}/recommendations?count=10`);
  if (asked?.status !== 200) {
    throw new Unmet(`edge: recommendations answered ${asked ? `${asked.status} ${await asked.text()}` : 'not at all'}`);
  }
  const { items, model_version: version } = await asked.json();
  // Through Kafka an event is sent, and applied later.
  const taken = config.kafka ? sent : applied;
  if (taken !== 1 || items.length === 0) throw new Unmet(`edge: ${taken} events taken, ${items.length} items`);
  return `${items.length} items under model ${version}, first ${items[0].item_id}`;
}

async function visit() {
  await open(() => page.goto(config.shop));
  if (!(await page.evaluate(() => window.crossOriginIsolated))) throw new Unmet('the page is not cross-origin isolated');
  const first = { items: (await forYou()).length, popular: await page.locator('[data-testid="popular"] [data-item]').count(), version: await count('model-version') };
  if (first.popular === 0) throw new Unmet('the list "popular" is empty');
  saw(`opened ${config.shop}: ${first.items} items for you, ${first.popular} popular, model ${first.version}, cross-origin isolated`);
  await picture('1-opened');

  for (let clicks = 0; clicks < 5; clicks += 1) saw(await click());
  await picture('2-five-clicks');
  if (config.kafka) await throughKafka();

  await acknowledgedMore(0);
  const newer = await until(`a model newer than ${first.version}`, BY_ITSELF_MS, async () => {
    const version = await count('model-version');
    return version > first.version && version;
  });
  saw(`model ${newer} was published and applied, after ${first.version}`);
  await picture('3-newer-model');

  const kept = { history: await count('history-count'), version: await count('model-version'), list: await forYou() };
  await open(() => page.reload());
  const history = await until('the history after the reload', CLICK_MS, async () => {
    const found = await count('history-count');
    return found >= kept.history && found;
  });
  const version = await count('model-version');
  if (version < kept.version) throw new Unmet(`model ${version} after the reload, ${kept.version} before`);
  const same = (await forYou()).filter((id) => kept.list.includes(id)).length;
  saw(`reloaded: ${history} events of history are there again, model ${version}, ${same} of ${kept.list.length} items as before`);
  saw(`edge: ${await edge([...clicked][0])}`);
  await picture('4-reloaded');

  await crash();
  if (broken.length > 0) throw new Unmet(`the page threw: ${broken.join('; ')}`);
  saw('the page threw no error');
}

/** Waits until the edge, which has the events from Kafka, shows the very list of the device. */
async function throughKafka() {
  const items = (testId) => page.locator(`[data-testid="${testId}"] li`).allTextContents();
  await until('the list of the edge like that of the device', BY_ITSELF_MS, async () => (await page.getByTestId('streams-state').textContent()) === 'equal');
  const [device, edge] = [await items('streams-device'), await items('streams-edge')];
  if (device.length === 0 || device.join() !== edge.join()) throw new Unmet(`the lists are not equal: ${device} and ${edge}`);
  saw(`through Kafka: the edge's ${edge.length} items are the device's, ${await count('streams-lag')} events behind`);
  await page.locator('#streams').scrollIntoViewIfNeeded();
  await picture('2-through-kafka');
}

/** Waits until the page has seen more deltas acknowledged than `before`. */
async function acknowledgedMore(before) {
  const start = Date.now();
  const acked = await until('an acknowledged delta', BY_ITSELF_MS, async () => {
    const now = await count('acked-count');
    return now > before && now;
  });
  await until('the sync on the wire', CLICK_MS, () => acknowledged.length > 0);
  const bytes = acknowledged.at(-1).body.length;
  saw(`${plural(acked, 'delta')} acknowledged after ${((Date.now() - start) / 1000).toFixed(1)} s; the last upload had ${bytes} bytes`);
  return acked;
}

/** Kills central as a crash would, and sees page and edge go on, then everything sync again. */
async function crash() {
  const pid = Number(readFileSync(config.centralPidFile, 'utf8'));
  const acked = await count('acked-count');
  const published = await count('model-version');
  const evidence = acknowledged.flatMap(({ ids }) => ids).length;
  process.kill(pid, 'SIGKILL');
  await until('central to be gone', CLICK_MS, async () => (await reach(`${config.central}/healthz`)) === undefined);
  saw(`killed central (process ${pid}) with SIGKILL; ${plural(evidence, 'acknowledged delta')} on record`);
  saw(`central is down, page: ${await click()}`);
  saw(`central is down, edge: ${await edge([...clicked][1])}`);
  if ((await reach(`${config.central}/healthz`)) !== undefined) throw new Unmet('central was back before page and edge were asked');
  await page.screenshot({ path: join(config.screenshots, '5-central-down.png') });

  await until('central to be back', 60_000, async () => (await reach(`${config.central}/readyz`))?.ok);
  saw(`central is back as process ${readFileSync(config.centralPidFile, 'utf8')}`);
  for (const { body, ids } of acknowledged.slice()) {
    const answer = await reach(`${config.central}/v1/sync`, {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream' },
      body,
    });
    if (answer?.status !== 200) throw new Unmet(`the replay was answered ${answer?.status ?? 'not at all'}`);
    const results = new Map(outcomes(await answer.arrayBuffer()).map(({ id, outcome }) => [id, outcome]));
    for (const id of ids) {
      // Central knows the id only from its durable log: had the delta been lost, this would be "acknowledged".
      if (results.get(id) !== 'duplicate') throw new Unmet(`delta ${id} was acknowledged before the crash and is ${results.get(id)} now: it was lost`);
    }
  }
  saw(`no acknowledged delta was lost: central still knows ${plural(evidence, 'delta')} from before the crash`);
  saw(await click());
  await acknowledgedMore(acked);
  const version = await until(`model ${published} or newer after the crash`, BY_ITSELF_MS, async () => {
    const now = await count('model-version');
    return now > published && now;
  });
  saw(`page syncs again by itself: model ${version}, after ${published} before the crash`);
  await picture('6-after-the-crash');
}

let failed = false;
try {
  console.log('The visit:');
  await visit();
} catch (error) {
  failed = true;
  console.log(`  ✗ ${error instanceof Unmet ? error.message : error.stack}`);
  for (const message of broken) console.log(`    the page threw: ${message}`);
  await picture('0-failed').catch(() => undefined);
} finally {
  await context.close();
}
console.log(failed ? 'the visit failed' : 'the visit saw everything that it should');
process.exit(failed ? 1 : 0);
