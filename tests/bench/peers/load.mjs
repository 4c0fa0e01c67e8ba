// How a page comes to its first list with a large catalogue: the time, the longest task of its main thread, and the
// memory, for the package as it is, with the core in a worker, and for another build of it where one is given.
//
//   node load.mjs ROUNDS ITEMS DIST FILES [NAME DIST FILES]      (the browser from NEARFIELD_CHROMIUM)
//
// DIST is a built package, FILES a folder with `manifest`, `2.pack` and `public-key`, as its own `fixture large` made them.

import { readFile, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { chromium } from 'playwright-core';
import { FLAGS } from '../../../xtask/browser/chromium.mjs';

const [rounds, items, dist, files, ...other] = process.argv.slice(2);
if (!files || (other.length !== 0 && other.length !== 3)) {
  console.error('usage: node load.mjs ROUNDS ITEMS DIST FILES [NAME DIST FILES]');
  process.exit(2);
}
const TYPES = { '.js': 'text/javascript', '.wasm': 'application/wasm' };
const packages = { now: { dist, files }, ...(other.length === 3 && { [other[0]]: { dist: other[1], files: other[2] } }) };
const variants = [
  // The floor of every first visit: nothing but the bytes.
  { name: 'the download alone', of: 'now' },
  { name: 'in the page', of: 'now', entry: 'index.js' },
  { name: 'in a worker', of: 'now', entry: 'worker.js' },
  ...(other.length === 3 ? [{ name: other[0], of: other[0], entry: 'index.js' }] : []),
];

const server = createServer(async (request, response) => {
  const path = normalize(new URL(request.url, 'http://localhost').pathname);
  const [, of, ...rest] = path.split('/');
  try {
    const { dist, files } = packages[of] ?? {};
    const model = rest.join('/').replace('v1/model/latest', 'manifest').replace('v1/model/', '');
    const file = rest[0] === 'v1' ? join(files, model) : join(dist ?? '', rest.join('/'));
    const body = path === '/' ? '<!doctype html><title>load</title>' : await readFile(file);
    response.writeHead(200, { 'Content-Type': path === '/' ? 'text/html' : (TYPES[extname(path)] ?? 'application/octet-stream') });
    response.end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const address = `http://127.0.0.1:${server.address().port}/`;

const browser = await chromium.launch({
  executablePath: process.env.NEARFIELD_CHROMIUM,
  // No process waits for a page to come.
  args: [...FLAGS, '--disable-features=SpareRendererForSitePerProcess'],
});
const control = await browser.newBrowserCDPSession();

/** The memory of the processes that run pages, by process: what each has now, and its peak since `forgetPeaks`. Linux tells. */
async function memory() {
  const { processInfo } = await control.send('SystemInfo.getProcessInfo');
  const renderers = processInfo.filter(({ type }) => type === 'renderer');
  return new Map(await Promise.all(renderers.map(async ({ id }) => {
    const status = await readFile(`/proc/${id}/status`, 'utf8');
    const bytes = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)[1]) * 1024;
    return [id, { now: bytes('VmRSS'), peak: bytes('VmHWM') }];
  })));
}
const forgetPeaks = async () => {
  for (const id of (await memory()).keys()) await writeFile(`/proc/${id}/clear_refs`, '5');
};

/** What the bytes of a pack take to come, in the page. */
async function download(url) {
  const start = performance.now();
  const reader = (await fetch(url)).body.getReader();
  while (!(await reader.read()).done);
  return { ms: performance.now() - start };
}

/** Opens a page of the person's and loads, with nothing in it but that; says what it took. */
async function load(person, { of, entry }) {
  const page = await person.newPage();
  try {
    await page.goto(address);
    await forgetPeaks();
    const before = await memory();
    if (!entry) return await page.evaluate(download, `${address}${of}/v1/model/2.pack`);
    const publicKey = await readFile(join(packages[of].files, 'public-key'), 'utf8');
    const seen = await page.evaluate(
      async ({ base, entry, publicKey }) => {
        // The core's memory: it never shrinks.
        let core = 0;
        const begin = WebAssembly.instantiateStreaming;
        WebAssembly.instantiateStreaming = async (...args) => {
          const begun = await begin.apply(WebAssembly, args);
          core = begun.instance.exports.memory;
          return begun;
        };
        const { Instance } = WebAssembly;
        WebAssembly.Instance = new Proxy(Instance, {
          construct(of, args) {
            const instance = new of(...args);
            core = instance.exports.memory;
            return instance;
          },
        });
        let longest = 0;
        const observer = new PerformanceObserver((list) => list.getEntries().forEach(({ duration }) => (longest = Math.max(longest, duration))));
        observer.observe({ type: 'longtask' });
        const start = performance.now();
        const { Nearfield } = await import(`${base}/${entry}`);
        const consent = { personalise: true, share: false };
        const nf = await Nearfield.open({ endpoint: base, publicKey, site: 'test', consent, syncEveryMs: 0 });
        const list = await nf.recommend({ count: 12 });
        const ms = performance.now() - start;
        if (list.length !== 12) throw new Error('there is no list');
        await nf.flush?.();
        // Until the model is stored, and the tasks of that are seen.
        await new Promise((later) => setTimeout(later, 2000));
        observer.disconnect();
        const bytes = core.buffer?.byteLength;
        setTimeout(() => nf.close());
        return { ms, longest, core: bytes };
      },
      { base: address + of, entry, publicKey },
    );
    const grown = [...(await memory())].map(([id, { peak }]) => peak - (before.get(id)?.now ?? 0));
    return { ...seen, peak: grown.reduce((sum, bytes) => sum + bytes, 0) };
  } finally {
    await page.close();
  }
}

const visitsOf = ({ entry }) => (entry ? ['first', 'next'] : ['first']);
const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
const samples = new Map();
for (let round = 0; round <= Number(rounds); round += 1) {
  for (const variant of variants) {
    const person = await browser.newContext();
    for (const visit of visitsOf(variant)) {
      const seen = await load(person, variant);
      // The first round warms caches.
      const key = `${variant.name}, ${visit}`;
      if (round > 0) samples.set(key, [...(samples.get(key) ?? []), seen]);
    }
    await person.close();
  }
  process.stderr.write(`\r  ${round}/${rounds} rounds`);
}
process.stderr.write('\n');
await browser.close();
server.close();

const packBytes = {};
for (const [of, { files }] of Object.entries(packages)) packBytes[of] = (await stat(join(files, '2.pack'))).size;
const megabytes = (bytes, of) => (bytes >= 0 ? `${(bytes / 1e6).toFixed(1)} MB (${(bytes / packBytes[of]).toFixed(2)})` : '');
console.log(`### A page that comes to its first list: ${items} items, a pack of ${(packBytes.now / 1e6).toFixed(1)} MB

Chromium, from the import of the script to the first list; the next visit reads what the first one stored. \`task\` is the
longest of the page's main thread, until the model is stored; the core's memory and that of the page's processes at their
peak are also given in packs. The download alone is the same file into the same page.

| what | visit | median ms | task | core's memory | page at its peak |
|---|---|--:|--:|--:|--:|`);
for (const { name, of, entry } of variants) {
  for (const visit of visitsOf({ entry })) {
    const seen = samples.get(`${name}, ${visit}`);
    const [ms, longest, core, peak] = ['ms', 'longest', 'core', 'peak'].map((field) => median(seen.map((one) => one[field])));
    const task = longest === undefined ? '' : longest === 0 ? 'under 50 ms' : `${longest.toFixed(0)} ms`;
    console.log(`| ${name} | ${visit} | ${ms.toFixed(0)} | ${task} | ${megabytes(core, of)} | ${megabytes(peak, of)} |`);
  }
}
