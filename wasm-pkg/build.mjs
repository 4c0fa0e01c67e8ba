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
const shared = { bundle: true, target: 'es2022', minify: true, sourcemap: true, logLevel: 'warning' };
await build({ ...shared, entryPoints: ['js/index.ts'], outfile: 'dist/index.js', format: 'esm' });
// Beside the package, not with a copy of it.
await build({
  ...shared,
  entryPoints: ['js/react.ts'],
  outfile: 'dist/react.js',
  format: 'esm',
  external: ['react'],
  plugins: [{ name: 'beside', setup: (bundle) => bundle.onResolve({ filter: /^\.\/index\.js$/ }, () => ({ path: './index.js', external: true })) }],
});
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
cpSync('pkg/nearfield_bg.wasm', 'dist/nearfield_bg.wasm');
// What the tarball carries besides; the text of the licence is the repository's.
cpSync('../LICENSE', 'LICENSE');
