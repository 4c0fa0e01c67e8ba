// Builds dist/: one ES module, the same as a plain script, declarations, and the core beside them.
// `cargo xtask wasm` runs it after wasm-bindgen has written pkg/.

import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

process.chdir(fileURLToPath(new URL('.', import.meta.url)));
if (!existsSync('pkg/nearfield_bg.wasm')) {
  console.error('wasm-pkg/pkg/nearfield_bg.wasm is missing: run `cargo xtask wasm`');
  process.exit(1);
}
rmSync('dist', { recursive: true, force: true });
mkdirSync('dist');
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '--project', 'tsconfig.json'], { stdio: 'inherit' });
/** Leaves a script of ours where it is, beside the one that is built. */
const beside = (name) => ({
  name: 'beside',
  setup: ({ onResolve }) => onResolve({ filter: new RegExp(`/${name}$`) }, () => ({ path: `./${name}`, external: true })),
});
const shared = { bundle: true, target: 'es2022', minify: true, sourcemap: true, logLevel: 'warning' };
const index = { ...shared, entryPoints: ['js/index.ts'], plugins: [beside('ed25519.js')] };
await build({ ...index, outfile: 'dist/index.js', format: 'esm' });
// Fetched only where the host cannot check a signature.
await build({ ...shared, entryPoints: ['js/ed25519.ts'], outfile: 'dist/ed25519.js', format: 'esm' });
await build({
  ...shared,
  entryPoints: ['js/react.ts'],
  outfile: 'dist/react.js',
  format: 'esm',
  external: ['react'],
  plugins: [beside('index.js')],
});
// For pages without modules: everything hangs on one global, and the core lies beside the script.
await build({
  ...index,
  outfile: 'dist/nearfield.global.js',
  format: 'iife',
  globalName: 'nearfield',
  define: { 'import.meta.url': 'nearfieldScript' },
  banner: { js: 'var nearfieldScript = document.currentScript.src;' },
});
cpSync('pkg/nearfield_bg.wasm', 'dist/nearfield_bg.wasm');
// What the tarball carries besides; the text of the licence is the repository's.
cpSync('../LICENSE', 'LICENSE');
