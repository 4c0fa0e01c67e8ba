// Runner in Chromium: `node chromium.mjs MODULE`, the browser from NEARFIELD_CHROMIUM. The page is
// isolated across origins, which makes its clock five microseconds fine.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { FLAGS } from '../../../xtask/browser/chromium.mjs';
import { serve } from './lines.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const TYPES = { '.mjs': 'text/javascript', '.js': 'text/javascript', '.wasm': 'application/wasm', '.html': 'text/html' };
let folder = here;
const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, 'http://localhost');
  const path = normalize(pathname);
  const file = path === '/module.wasm' ? process.argv[2]
    : path.startsWith('/case/') ? join(folder, path.slice(6)) : join(here, path);
  try {
    const body = path === '/' ? '<!doctype html><title>bench</title>' : await readFile(file);
    response.writeHead(200, {
      'Content-Type': path === '/' ? 'text/html' : TYPES[extname(path)] ?? 'application/octet-stream',
      'Cross-Origin-Opener-Policy': 'same-origin',
      'Cross-Origin-Embedder-Policy': 'require-corp',
    });
    response.end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const browser = await chromium.launch({ executablePath: process.env.NEARFIELD_CHROMIUM, args: FLAGS });
const page = await browser.newPage();
page.setDefaultTimeout(0);
await page.goto(`http://127.0.0.1:${server.address().port}/`);
await page.evaluate(async () => {
  const ort = await import('/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs');
  const { Runner } = await import('/runner.mjs');
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = '/node_modules/onnxruntime-web/dist/';
  const read = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());
  const wasm = await read('/module.wasm');
  globalThis.answer = async ({ do: action, ...request }) => {
    if (action === 'open') {
      globalThis.runner = new Runner((name) => read(`/case/${name}`), ort);
      return globalThis.runner.open(wasm, request);
    }
    return globalThis.runner[action](request);
  };
});
await serve((request) => {
  if (request.do === 'open') folder = request.folder;
  return page.evaluate((request) => globalThis.answer(request), request);
});
await browser.close();
server.close();
