// The package as it is published, installed and exercised in every host, against a real central.
//
// `cargo xtask test --only package` runs it, with `--all` in every host: see CONFIG below for what it is given.

import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { central, deltas, publicKey } from '../../wasm-pkg/tests/central.mjs';
import { browser } from './browsers.mjs';
import { consumer, lend, sources } from './consumer.mjs';
import { installed, run, start } from './programs.mjs';
import { serve } from './serve.mjs';

/** Central's address and public key, and its site's name. */
const CONFIG = JSON.parse(process.env.NEARFIELD_SITE);
/** The folder of the module's test build, and the digest that it must give. */
const { NEARFIELD_GOLDEN: golden, NEARFIELD_DIGEST: digest } = process.env;
const all = process.env.NEARFIELD_ALL !== undefined;
const skip = all ? false : 'in every host only with --all';
const { NEARFIELD_CHROMIUM: chromium, NEARFIELD_FIREFOX: firefox } = process.env;
const withoutBrowser = (name) => ({ chromium, firefox })[name] === undefined && `without ${name}`;
const config = { CONFIG: JSON.stringify(CONFIG) };

let installation;
const browsers = new Map();

before(() => {
  installation = consumer();
  if (all) lend(installation.folder, 'esbuild', 'react', 'react-dom', 'scheduler');
});
after(async () => {
  for (const started of browsers.values()) await (await started).close();
  rmSync(installation.folder, { recursive: true, force: true });
});

/** The browser, started once. */
function inBrowser(name) {
  if (!browsers.has(name)) browsers.set(name, browser(name));
  return browsers.get(name);
}

/** Says whether what a host saw is what a person would expect. */
function check({ before, after, tracked, reasons, sent, history, consent, similar, lists, refused }) {
  assert.equal(new Set(before).size, 12);
  assert.deepEqual(tracked, { applied: 1, duplicate: 0, context: 0, ignored: 0 });
  assert.equal(new Set(after).size, 12);
  assert.notDeepEqual(after, before, 'what was tracked changes the list');
  assert.ok(!after.includes(before[11]), 'what was viewed is not discovered again');
  assert.ok(reasons.every((count) => count >= 1), 'every item has a reason');
  assert.deepEqual(sent, ['acknowledged']);
  assert.deepEqual(history, [`view ${before[11]}`, `cart ${before[10]}`]);
  assert.deepEqual(consent, { personalise: true, share: true });
  assert.ok(similar.length === 5 && !similar.includes(before[11]));
  assert.deepEqual(lists[1], lists[0], 'a restored person gets the same list');
  assert.deepEqual(refused, { name: 'NearfieldError', code: 'options.site', field: 'site' });
}

/** Checks what the script of a page left, in both browsers. */
async function checkPage(name, address) {
  const query = new URLSearchParams({ config: config.CONFIG });
  const { seen, thrown } = await (await inBrowser(name)).visit(`${address}/?${query}`, () => globalThis.seen);
  assert.equal(thrown, undefined);
  check(seen);
  assert.equal(seen.role, 'writer', 'a page keeps the person in IndexedDB');
}

/** The page of the package's README, as it stands there. */
function readmePage() {
  const readme = readFileSync(join(installation.package, 'README.md'), 'utf8');
  return /```html\n(<!doctype html>[\s\S]*?)```/.exec(readme)[1];
}

describe('programs', () => {
  test('Node', async () => check(JSON.parse(await run(process.execPath, ['main.mjs'], { cwd: installation.folder, env: config }))));

  test('Deno', { skip }, async () => {
    const flags = ['run', '--allow-net', '--allow-read', '--allow-env', '--no-remote', '--node-modules-dir=manual'];
    check(JSON.parse(await run(installed('deno'), [...flags, 'main.mjs'], { cwd: installation.folder, env: { ...config, NO_COLOR: '1' } })));
  });

  test('Bun', { skip }, async () => {
    check(JSON.parse(await run(installed('bun'), ['run', 'main.mjs'], { cwd: installation.folder, env: config })));
  });

  test('Bun, built into one program', { skip }, async () => {
    const program = join(installation.folder, 'program');
    await run(installed('bun'), ['build', '--compile', 'main.mjs', '--outfile', program], { cwd: installation.folder });
    check(JSON.parse(await run(program, [], { cwd: '/', env: config })));
  });
});

describe('edge workers', () => {
  test('workerd', { skip }, async () => {
    const { inWorkerd } = await import('./workers.mjs');
    check(await inWorkerd(join(installation.folder, 'worker.mjs'), { CONFIG }));
  });

  test('edge-light', { skip }, async () => {
    const { inEdgeLight } = await import('./workers.mjs');
    check(await inEdgeLight(join(installation.folder, 'worker.mjs'), { CONFIG }));
  });
});

/** Scripts of a page, with each bundler that is known to take them as they are. */
const PAGES = [
  ...['no bundler', 'vite, served', 'vite', 'webpack', 'esbuild'].map((bundler) => [bundler, 'page']),
  ...['no bundler', 'vite, served', 'vite', 'webpack'].map((bundler) => [bundler, 'in-worker']),
  ['esbuild', 'inline'],
];

describe('pages', () => {
  for (const name of ['chromium', 'firefox']) {
    test(`the page of the README personalises in ${name}`, { skip: withoutBrowser(name) }, async () => {
      const page = readmePage();
      assert.ok(page.trimEnd().split('\n').length <= 25, 'at most 25 lines');
      assert.equal(page, readFileSync(join(sources, 'examples/page/index.html'), 'utf8'));
      const filled = page
        .replace('https://central.example', CONFIG.endpoint)
        .replace('…64 hexadecimal digits…', CONFIG.publicKey)
        .replace("site: 'shop'", `site: '${CONFIG.site}'`);
      writeFileSync(join(installation.folder, 'index.html'), filled);
      const { address, stop } = await serve({ '/': installation.folder, '/nearfield/': join(installation.package, 'dist') });
      try {
        const [before, after] = await (await inBrowser(name)).visit(address, async () => {
          const ids = () => [...document.querySelectorAll('#list button')].map(({ textContent }) => textContent);
          const first = ids();
          if (first.length === 0) return undefined;
          document.querySelectorAll('#list button')[11].click();
          return [first, ids()];
        });
        assert.equal(before.length, 12);
        assert.notDeepEqual(after, before, 'a click changes the list');
        assert.ok(!after.includes(before[11]));
      } finally {
        stop();
      }
    });

    for (const [bundler, entry] of PAGES) {
      const unless = (bundler === 'no bundler' && name === 'chromium' ? false : skip) || withoutBrowser(name);
      test(`${entry} with ${bundler} in ${name}`, { skip: unless }, async () => {
        const { bundle } = await import('./bundlers.mjs');
        const { address, stop } = await bundle(bundler, installation.folder, entry);
        try {
          await checkPage(name, address);
        } finally {
          await stop();
        }
      });
    }
  }
});

for (const name of ['chromium', 'firefox']) {
  describe(`a core in a worker, in ${name}`, () => {
    const skip = withoutBrowser(name);
    // An origin of its own for each, in which nothing is kept yet.
    let pages;
    let server;
    beforeEach(async () => {
      server = await central();
      pages = await serve({ '/': installation.folder, '/nearfield/': join(installation.package, 'dist') });
    });
    afterEach(() => (pages.stop(), server.close()));
    const visit = async (which, more) => {
      const options = { endpoint: server.endpoint, publicKey, site: 'test', syncEveryMs: 0, consent: { personalise: true, share: true }, ...more };
      const query = new URLSearchParams({ case: which, options: JSON.stringify(options) });
      const { seen, thrown } = await (await inBrowser(name)).visit(`${pages.address}/worker-cases.html?${query}`, () => globalThis.seen);
      assert.equal(thrown, undefined);
      return seen;
    };

    test(`is the same instance for all who open it, forgives and refuses`, { skip }, async () => {
      const seen = await visit('cases', { consent: { personalise: true } });
      const closed = 'true nearfield.closed undefined';
      assert.deepEqual(seen, {
        same: true,
        tracked: [{ applied: 1, duplicate: 0, context: 0, ignored: 0 }, { applied: 0, duplicate: 0, context: 0, ignored: 1 }],
        history: ['view', 'click'],
        allowed: [true],
        revisions: 2,
        reasons: ['event', 'event'],
        refused: [
          'true recommend.count count',
          'true recommend.allow allow',
          'true options.storage storage',
          'true options.now now',
          'true options.model model',
          'true worker.failed undefined',
        ],
        open: 'nothing was thrown',
        closed,
        trackedWhenClosed: { applied: 0, duplicate: 0, context: 0, ignored: 0 },
        kept: 2,
      });
    });

    test(`what is tracked as the page goes away is learnt, and counts once`, { skip }, async () => {
      const history = await visit('leave', { times: 8 });
      const counts = [...new Set(history)].map((itemId) => history.filter((other) => other === itemId).length);
      assert.deepEqual(counts, [8, 8, 8]);
    });

    test(`what a visit has left goes out at the next one`, { skip }, async () => {
      const sent = () => server.requests.filter(({ path }) => path === '/v1/sync').flatMap(({ body }) => deltas(body));
      await visit('learn');
      await visit('learn');
      for (const end = Date.now() + 5000; Date.now() < end && sent().length === 0; ) await new Promise((later) => setTimeout(later, 50));
      // However often it is sent, it is one delta.
      assert.equal(new Set(sent().map(({ id }) => id)).size, 1);
    });
  });
}

describe('examples', () => {
  /** What the servers at the edge have in common: a person by cookie, who is tracked and gets lists. */
  async function checkServer(ask) {
    const first = await ask('/recommend?count=12');
    const cookie = first.headers.get('set-cookie').split(';')[0];
    const { items: before } = await first.json();
    assert.equal(before.length, 12);
    const viewed = before[11].itemId;
    const tracked = await ask('/track', { method: 'POST', headers: { cookie }, body: JSON.stringify({ name: 'view_item', payload: { items: [{ item_id: viewed }] } }) });
    assert.deepEqual(await tracked.json(), { applied: 1, duplicate: 0, context: 0, ignored: 0 });
    const { items: after } = await (await ask('/recommend', { headers: { cookie } })).json();
    assert.ok(after.length === 12 && !after.some(({ itemId }) => itemId === viewed), 'what was viewed is not discovered again');
    assert.ok(after.some(({ reasons }) => reasons[0].itemId === viewed), 'and it is a reason for others');
    // Others are not touched by it.
    const { items: others } = await (await ask('/recommend')).json();
    assert.ok(others.some(({ itemId }) => itemId === viewed));
    const refused = await ask('/recommend?count=0', { headers: { cookie } });
    assert.deepEqual([refused.status, (await refused.json()).error.code], [400, 'recommend.count']);
    assert.equal((await ask('/nothing')).status, 404);
    return { cookie, viewed };
  }

  /** What was learnt is there after a restart. */
  async function checkKept(ask, { cookie, viewed }) {
    const { items } = await (await ask('/recommend', { headers: { cookie } })).json();
    assert.ok(!items.some(({ itemId }) => itemId === viewed));
  }

  const examples = () => join(installation.folder, 'examples');
  const environment = () => ({ CENTRAL: CONFIG.endpoint, PUBLIC_KEY: CONFIG.publicKey, SITE: CONFIG.site, PORT: '0', DATA: join(installation.folder, 'people') });

  test('Cloudflare, with a Durable Object for each person', { skip }, async () => {
    const { workerd } = await import('./workers.mjs');
    const wrangler = JSON.parse(readFileSync(join(examples(), 'cloudflare/wrangler.jsonc'), 'utf8').replace(/^\s*\/\/.*$/gm, ''));
    const { CENTRAL, PUBLIC_KEY, SITE } = environment();
    assert.deepEqual(Object.keys(wrangler.vars), ['CENTRAL', 'PUBLIC_KEY', 'SITE']);
    const [{ name, class_name: className }] = wrangler.durable_objects.bindings;
    assert.deepEqual(wrangler.migrations[0].new_sqlite_classes, [className]);
    const settings = {
      durableObjects: { [name]: { className, useSQLite: true } },
      durableObjectsPersist: join(installation.folder, 'objects'),
      compatibilityDate: wrangler.compatibility_date,
    };
    let seen;
    for (const visit of [checkServer, (ask) => checkKept(ask, seen)]) {
      const worker = await workerd(join(examples(), 'cloudflare', wrangler.main), { CENTRAL, PUBLIC_KEY, SITE }, {}, settings);
      try {
        seen = (await visit((path, request) => worker.dispatchFetch(`http://edge.example${path}`, request))) ?? seen;
      } finally {
        await worker.dispose();
      }
    }
  });

  for (const [name, program, args] of [
    ['Deno', 'deno', ['run', '--unstable-kv', '--allow-net', '--allow-read', '--allow-write', '--allow-env', '--no-remote', '--node-modules-dir=manual']],
    ['Bun', 'bun', ['run']],
  ]) {
    test(`a server in ${name}`, { skip }, async () => {
      const env = { ...environment(), DATA: join(installation.folder, `people.${program}`), NO_COLOR: '1' };
      let seen;
      for (const visit of [checkServer, (ask) => checkKept(ask, seen)]) {
        const { address, stop } = await start(installed(program), [...args, join(examples(), program, 'server.ts')], { cwd: installation.folder, env });
        try {
          seen = (await visit((path, request) => fetch(address + path, request))) ?? seen;
        } finally {
          assert.equal(await stop(), 0, 'it ends when it is asked to');
        }
      }
    });
  }

  for (const name of ['chromium', 'firefox']) {
    test(`a page that is rendered on the server goes on in ${name}`, { skip: skip || withoutBrowser(name) }, async () => {
      const { address, stop } = await start(process.execPath, [join(examples(), 'ssr/server.mjs')], { cwd: installation.folder, env: environment() });
      try {
        const html = await (await fetch(address)).text();
        assert.equal(html.match(/<li>/g).length, 12, 'the list is in the HTML');
        assert.ok(html.includes('Popular now'));
        const seen = await (await inBrowser(name)).visit(address, async () => {
          const ids = () => [...document.querySelectorAll('li button')].map(({ textContent }) => textContent);
          if (document.querySelector('h1')?.textContent !== 'For you') return undefined;
          const before = ids();
          document.querySelectorAll('li button')[11].click();
          await new Promise((later) => setTimeout(later, 200));
          return [before, ids()];
        });
        assert.equal(seen[0].length, 12);
        assert.notDeepEqual(seen[1], seen[0]);
        assert.ok(!seen[1].includes(seen[0][11]));
      } finally {
        await stop();
      }
    });
  }
});

describe('types', () => {
  test('are what the files export, as arethetypeswrong sees it', { skip }, async () => {
    // An ES module in every way: whoever resolves as Node did before 2019, or requires it, is out of its range.
    await run(installed('attw'), [installation.tarball, '--profile', 'esm-only', '--exclude-entrypoints', './global', './worker-thread', './nearfield_bg.wasm', '--no-color', '--no-emoji']);
  });
});

describe('golden digest', () => {
  test('Deno', { skip }, async () => {
    const printed = await run(installed('deno'), ['run', '--allow-read', '--no-remote', 'golden.mjs', golden], { cwd: installation.folder });
    assert.equal(printed.trim(), digest);
  });

  test('Bun', { skip }, async () => {
    assert.equal((await run(installed('bun'), ['run', 'golden.mjs', golden], { cwd: installation.folder })).trim(), digest);
  });

  test('workerd', { skip }, async () => {
    const { inWorkerd } = await import('./workers.mjs');
    assert.deepEqual(await inWorkerd(join(installation.folder, 'golden-worker.mjs'), {}, { golden }), { digest });
  });

  test('Firefox', { skip: skip || withoutBrowser('firefox') }, async () => {
    const { address, stop } = await serve({ '/': golden, '/page/': installation.folder });
    try {
      assert.equal(await (await inBrowser('firefox')).visit(`${address}/page/golden.html`, () => globalThis.digest), digest);
    } finally {
      stop();
    }
  });
});
