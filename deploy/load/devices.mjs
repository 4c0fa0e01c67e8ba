// A fleet of devices towards central: each has the core, makes its own lists, chooses from them, and sends what it
// learnt as a delta. An open model: visits come at a rate, whether or not those before them have been answered.
//
//   npm install nearfield
//   node devices.mjs --central http://127.0.0.1:7801 --key HEX --site shop --devices 2000 --rate 50 --seconds 60
//
// --calls FILE     write the milliseconds of each visit, from when it was due, and why it failed, as CSV
// --package DIR    the package's folder, where it is not installed

import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    central: { type: 'string' },
    key: { type: 'string' },
    site: { type: 'string' },
    devices: { type: 'string', default: '2000' },
    rate: { type: 'string', default: '50' },
    seconds: { type: 'string', default: '60' },
    calls: { type: 'string' },
    package: { type: 'string' },
  },
});
const { central: endpoint, key: publicKey, site } = values;
const [count, rate, seconds] = ['devices', 'rate', 'seconds'].map((name) => {
  const number = Number(values[name]);
  if (!(number > 0)) throw new Error(`--${name} must be a number above 0`);
  return number;
});
for (const name of ['central', 'key', 'site']) if (!values[name]) throw new Error(`--${name} is missing`);

const entry = (name, file) => (values.package ? pathToFileURL(resolve(values.package, 'dist', file)).href : name);
const { Nearfield } = await import(entry('nearfield', 'node.js'));
const { sharedModel } = await import(entry('nearfield/server', 'server.js'));

// Choices of a visit, and devices that are opened at a time: each asks central for a token.
const LOOKS = 3;
const OPENED_AT_ONCE = 50;

const model = await sharedModel({ endpoint, publicKey, site })();
const consent = { personalise: true, share: true };
const open = () => Nearfield.open({ endpoint, site, model, consent, storage: 'memory', syncEveryMs: 0, idleMs: 3_600_000 });
const devices = [];
while (devices.length < count) {
  const some = Math.min(OPENED_AT_ONCE, count - devices.length);
  const opened = await Promise.all(Array.from({ length: some }, open));
  // The token is fetched by the first exchange, which has nothing to send yet.
  await Promise.all(opened.map((device) => device.sync()));
  devices.push(...opened);
}

/** Someone chooses from lists, mostly among the first, and the device sends what it learnt. */
async function visit(device) {
  for (let look = 0; look < LOOKS; look++) {
    const listed = device.recommend({ count: 20 });
    const chosen = listed[Math.min(Math.floor(exponential(2.5)), listed.length - 1)];
    device.track('select_item', { items: [{ item_id: chosen.itemId }] });
  }
  const { sent } = await device.sync();
  const refused = sent.find((delta) => delta.outcome !== 'acknowledged');
  if (refused || sent.length === 0) throw new Error(refused ? `${refused.outcome}: ${refused.reason}` : 'nothing was sent');
}

function exponential(mean) {
  return -mean * Math.log(1 - Math.random());
}

const calls = [];
const visits = [];
const from = performance.now();
for (let due = from, at = 0; ; at++) {
  due += exponential(1000 / rate);
  if (due > from + 1000 * seconds) break;
  if (due > performance.now()) await sleep(due - performance.now());
  // Each in turn, so that nobody visits twice at once.
  visits.push(
    visit(devices[at % devices.length])
      .catch((thrown) => String(thrown.message))
      .then((failure) => calls.push({ ms: performance.now() - due, failure })),
  );
}
await Promise.all(visits);

const failed = calls.filter(({ failure }) => failure !== undefined);
const sorted = calls.map(({ ms }) => ms).sort((a, b) => a - b);
const within = (share) => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)]?.toFixed(2);
console.log(`${calls.length} visits, ${failed.length} failed; p50 ${within(0.5)} ms, p99 ${within(0.99)} ms`);
if (failed.length > 0) console.error(failed[0].failure);
if (values.calls) {
  const lines = calls.map(({ ms, failure }) => `${ms.toFixed(3)},"${(failure ?? '').replaceAll('"', '""')}"`);
  writeFileSync(values.calls, ['ms,failure', ...lines, ''].join('\n'));
}
process.exit(failed.length > 0 ? 1 : 0);
