// A page that is rendered on the server, as Next.js and its like do it: what everybody gets is in the HTML, and the
// person's own list takes its place in the browser, where what they do stays.
//
//   npm install nearfield react react-dom esbuild
//   CENTRAL=https://central.example PUBLIC_KEY=… SITE=shop node server.mjs

import { mkdtempSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { sharedModel } from 'nearfield/server';

const { CENTRAL: endpoint, PUBLIC_KEY: publicKey, SITE: site, PORT = '8000' } = process.env;
if (!endpoint || !publicKey || !site) throw new Error('CENTRAL, PUBLIC_KEY and SITE must be set');

// What a framework's build would do: the page for the server, and the script of the browser.
const here = fileURLToPath(new URL('.', import.meta.url));
const built = mkdtempSync(join(here, '.built-'));
const shared = { bundle: true, format: 'esm', jsx: 'automatic', logLevel: 'error' };
await build({ ...shared, entryPoints: [join(here, 'page.jsx')], outfile: join(built, 'page.mjs'), platform: 'node', packages: 'external' });
await build({ ...shared, entryPoints: [join(here, 'client.jsx')], outfile: join(built, 'client.js'), minify: true });
const { Page } = await import(pathToFileURL(join(built, 'page.mjs')));

const newest = sharedModel({ endpoint, publicKey, site });
// The person agreed to both, say; without it the page is personal all the same, and nothing is kept or sent.
const options = { endpoint, publicKey, site, consent: { personalise: true, share: true } };

/** The whole page. `<` is escaped, so that no item's name can end the script. */
async function page() {
  const popular = (await newest()).popular(12).items();
  const props = { options, popular };
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Shop</title></head>
<body><div id="root">${renderToString(createElement(Page, props))}</div>
<script type="application/json" id="props">${JSON.stringify(props).replaceAll('<', '\\u003c')}</script>
<script type="module" src="/client.js"></script></body></html>`;
}

const FILES = {
  '/client.js': ['text/javascript', join(built, 'client.js')],
  // The script looks for the core beside itself.
  '/nearfield_bg.wasm': ['application/wasm', fileURLToPath(import.meta.resolve('nearfield/nearfield_bg.wasm'))],
};

const server = createServer(async (request, response) => {
  try {
    const [type, file] = FILES[request.url] ?? [];
    if (file) return void response.writeHead(200, { 'content-type': type }).end(await readFile(file));
    if (request.url.split('?')[0] !== '/') return void response.writeHead(404).end();
    const body = await page();
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(body);
  } catch (thrown) {
    console.error(thrown);
    response.writeHead(500).end();
  }
});
server.listen(Number(PORT), '127.0.0.1', () => console.log(`listening http://127.0.0.1:${server.address().port}`));

process.on('SIGTERM', async () => {
  server.closeAllConnections();
  server.close();
  await rm(built, { recursive: true });
});
