// Builds dist/: the package as an ES module, the small entries of each host around it, the same as a plain
// script, declarations, and the core beside them. `cargo xtask wasm` runs it after wasm-bindgen has written pkg/.

import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const CORE = 'pkg/nearfield_bg.wasm';

process.chdir(fileURLToPath(new URL('.', import.meta.url)));
if (!existsSync(CORE)) {
  console.error(`wasm-pkg/${CORE} is missing: run \`cargo xtask wasm\``);
  process.exit(1);
}
rmSync('dist', { recursive: true, force: true });
mkdirSync('dist');
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '--project', 'tsconfig.json'], { stdio: 'inherit' });
// Every entry of a host has the declarations of index.js.
rmSync('dist/hosts', { recursive: true });

/** Leaves what lies in dist/ where it is, beside the script that is built. */
const beside = {
  name: 'beside',
  setup: ({ onResolve }) =>
    onResolve({ filter: /\/(index\.js|ed25519\.js|nearfield_bg\.wasm(\?module)?)$/ }, ({ path }) => ({
      path: path.replace(/^.*\//, './'),
      external: true,
    })),
};
/** Gives the core's bytes to the entry that carries them. */
const inlined = {
  name: 'inlined',
  setup: ({ onResolve, onLoad }) => {
    onResolve({ filter: /^nearfield_bg\.wasm\.gz$/ }, ({ path }) => ({ path, namespace: 'inlined' }));
    onLoad({ filter: /.*/, namespace: 'inlined' }, () => {
      const packed = gzipSync(readFileSync(CORE), { level: 9 }).toString('base64');
      return { contents: `export default ${JSON.stringify(packed)}` };
    });
  },
};
const shared = { bundle: true, target: 'es2022', minify: true, sourcemap: true, logLevel: 'warning', plugins: [beside, inlined] };
const module = (name, entry, more) => build({ ...shared, entryPoints: [entry], outfile: `dist/${name}.js`, format: 'esm', ...more });

await module('index', 'js/index.ts');
// Fetched only where the host cannot check a signature.
await module('ed25519', 'js/ed25519.ts');
// The banner tells frameworks with server components where the hooks run.
await module('react', 'js/react.ts', { external: ['react', 'nearfield'], banner: { js: "'use client';" } });
for (const host of ['node', 'bun', 'workerd', 'edge-light', 'inline']) {
  await module(host, `js/hosts/${host}.ts`, { external: ['node:fs/promises'], supported: { 'import-attributes': true } });
}
await module('server', 'js/server.ts', { external: ['nearfield'] });
// The core in a worker: what the page loads, and what the worker runs.
await module('worker', 'js/worker/page.ts');
await module('worker-thread', 'js/worker/thread.ts');
// For pages without modules: everything hangs on one global, and the core lies beside the script.
await build({
  ...shared,
  entryPoints: ['js/index.ts'],
  outfile: 'dist/nearfield.global.js',
  format: 'iife',
  globalName: 'nearfield',
  define: { 'import.meta.url': 'nearfieldScript' },
  banner: { js: 'var nearfieldScript = document.currentScript.src;' },
});
cpSync(CORE, 'dist/nearfield_bg.wasm');
// What the tarball carries besides; the text of the licence is the repository's.
cpSync('../LICENSE', 'LICENSE');
