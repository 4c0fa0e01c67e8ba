// Bundlers, as a page's developer runs them, each with as little configuration as it can do with; and none.

import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { serve } from './serve.mjs';

/** Bundles and serves the page whose script is `entry`, from a folder of its own; gives the address and how to stop. */
export async function bundle(bundler, consumer, entry) {
  const name = `${bundler.replaceAll(/\W+/g, '-')}-${entry}`;
  const root = join(consumer, name);
  rmSync(root, { recursive: true, force: true });
  mkdirSync(root);
  for (const script of ['exercise.mjs', `${entry}.mjs`]) cpSync(join(consumer, script), join(root, script));
  return BUNDLERS[bundler](root, entry);
}

function writePage(root, script, imports = {}) {
  const map = `<script type="importmap">${JSON.stringify({ imports })}</script>`;
  writeFileSync(join(root, 'index.html'), `<!doctype html>\n<title>page</title>\n${map}\n<script type="module" src="${script}"></script>\n`);
}

const BUNDLERS = {
  async 'no bundler'(root, entry) {
    writePage(root, `/${entry}.mjs`, { nearfield: '/nearfield/index.js', 'nearfield/worker': '/nearfield/worker.js' });
    return serve({ '/': root, '/nearfield/': join(root, '../node_modules/nearfield/dist') });
  },
  async vite(root, entry) {
    const { build } = await import('vite');
    writePage(root, `/${entry}.mjs`);
    await build({ root, configFile: false, logLevel: 'warn' });
    return serve({ '/': join(root, 'dist') });
  },
  async 'vite, served'(root, entry) {
    const { createServer } = await import('vite');
    writePage(root, `/${entry}.mjs`);
    // The package is made ready anew, whatever an earlier run left.
    const server = await createServer({ root, configFile: false, logLevel: 'warn', cacheDir: join(root, '.vite'), server: { host: '127.0.0.1', port: 0 } });
    await server.listen();
    const { port } = server.httpServer.address();
    return { address: `http://127.0.0.1:${port}`, stop: () => server.close() };
  },
  async webpack(root, entry) {
    const { default: webpack } = await import('webpack');
    const out = join(root, 'dist');
    const stats = await new Promise((done, failed) =>
      webpack({ mode: 'production', context: root, entry: `./${entry}.mjs`, output: { path: out } }, (error, stats) => (error ? failed(error) : done(stats))),
    );
    if (stats.hasErrors()) throw new Error(stats.toString('errors-only'));
    writePage(out, '/main.js');
    return serve({ '/': out });
  },
  async esbuild(root, entry) {
    const { build } = await import('esbuild');
    const out = join(root, 'dist');
    await build({ entryPoints: [join(root, `${entry}.mjs`)], bundle: true, format: 'esm', outfile: join(out, 'main.js'), logLevel: 'error' });
    // esbuild leaves what a script fetches beside itself to whoever serves it.
    if (entry === 'page') cpSync(join(root, '../node_modules/nearfield/dist/nearfield_bg.wasm'), join(out, 'nearfield_bg.wasm'));
    writePage(out, '/main.js');
    return serve({ '/': out });
  },
};
