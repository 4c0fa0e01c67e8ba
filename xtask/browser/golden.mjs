// Compares the golden digest of a test build of the package's module with the engine's own, in Node or in Chromium.
//
//   node golden.mjs node|chromium EXPECTED_HEX      (NEARFIELD_PACKAGE: the folder of the test build)

import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { pathToFileURL } from 'node:url';

const TYPES = { '.js': 'text/javascript', '.wasm': 'application/wasm', '.html': 'text/html' };

const [runtime, expected] = process.argv.slice(2);
const folder = process.env.NEARFIELD_PACKAGE;
if (!['node', 'chromium'].includes(runtime) || !/^[0-9a-f]{64}$/.test(expected ?? '') || !folder) {
  console.error('usage: NEARFIELD_PACKAGE=DIR node golden.mjs node|chromium EXPECTED_HEX (64 digits)');
  process.exit(2);
}

const digest = runtime === 'node' ? await inNode() : await inChromium();
if (digest !== expected) {
  console.error(`${runtime}: ${digest}\nnative: ${expected}\nthe two must be the same`);
  process.exit(1);
}
console.log(`golden digest in ${runtime}: ${digest}, as native`);

async function inNode() {
  const { initSync, goldenDigest } = await import(pathToFileURL(join(folder, 'nearfield.js')));
  initSync({ module: readFileSync(join(folder, 'nearfield_bg.wasm')) });
  return goldenDigest();
}

async function inChromium() {
  const { chromium } = await import('playwright-core');
  const { FLAGS } = await import('./chromium.mjs');
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url, 'http://localhost').pathname);
    const file = join(folder, path);
    if (path === '/') {
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end('<!doctype html><title>golden digest</title>');
    } else if (existsSync(file)) {
      response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' });
      createReadStream(file).pipe(response);
    } else {
      response.writeHead(404).end();
    }
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const browser = await chromium.launch({ executablePath: process.env.NEARFIELD_CHROMIUM, args: FLAGS });
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    return await page.evaluate(async () => {
      const { default: init, goldenDigest } = await import('/nearfield.js');
      await init({ module_or_path: '/nearfield_bg.wasm' });
      return goldenDigest();
    });
  } finally {
    await browser.close();
    server.close();
  }
}
