// Edge workers: bundled as their tools do it, and run by workerd and by Vercel's edge runtime.

import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { build } from 'esbuild';

/** Bundles a worker; each `.wasm` is kept apart. Returns the script and the files of the modules that it imports. */
async function bundled(entry, conditions, { golden } = {}) {
  const modules = new Map();
  const wasm = {
    name: 'wasm',
    setup({ onResolve }) {
      onResolve({ filter: /\.wasm(\?module)?$/ }, async ({ path, importer }) => {
        const file = path.replace('?module', '').replace(/^golden/, golden);
        const found = file.startsWith('/') ? file : resolve(dirname(importer), file);
        const name = `./module-${modules.size}.wasm`;
        modules.set(name, found);
        return { path: name, external: true };
      });
    },
  };
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2024',
    conditions,
    external: ['cloudflare:*', 'node:*'],
    alias: golden ? { golden } : {},
    plugins: [wasm],
    logLevel: 'error',
  });
  return { script: outputFiles[0].text, modules };
}

/** A worker in workerd, as wrangler bundles it; `more` are further settings of miniflare. */
export async function workerd(entry, bindings, options, more = {}) {
  const { Miniflare } = await import('miniflare');
  const { script, modules } = await bundled(entry, ['workerd', 'worker', 'browser'], options);
  return new Miniflare({
    modules: [
      { type: 'ESModule', path: 'worker.js', contents: script },
      ...[...modules].map(([path, file]) => ({ type: 'CompiledWasm', path: path.slice(2), contents: readFileSync(file) })),
    ],
    compatibilityDate: '2026-01-01',
    bindings,
    ...more,
  });
}

/** What a worker in workerd answers, as JSON. */
export async function inWorkerd(entry, bindings, options) {
  const worker = await workerd(entry, bindings, options);
  try {
    return await answerOf(await worker.dispatchFetch('http://worker.example/'));
  } finally {
    await worker.dispose();
  }
}

async function answerOf(response) {
  const text = await response.text();
  if (!response.ok) throw new Error(`the worker answered ${response.status}: ${text.slice(0, 2000)}`);
  return JSON.parse(text);
}

/** What a worker in Vercel's edge runtime answers, as JSON. */
export async function inEdgeLight(entry, bindings) {
  const { EdgeVM } = await import('@edge-runtime/vm');
  const { script, modules } = await bundled(entry, ['edge-light', 'worker', 'browser']);
  // As Next.js does it: an import with `?module` is a compiled module.
  let code = script;
  const context = {};
  for (const [name, file] of modules) {
    const global = `module_${Object.keys(context).length}`;
    context[global] = file;
    code = code.replace(new RegExp(`import (\\w+) from "${name.replaceAll('.', '\\.')}";`), `const $1 = globalThis.${global};`);
  }
  code = code.replace(/export \{\s*(\w+) as default\s*\};?/, 'globalThis.worker = $1;').replaceAll('import.meta.url', '"http://edge.example/"');
  const vm = new EdgeVM();
  const compile = vm.evaluate('(bytes) => new WebAssembly.Module(bytes)');
  for (const [global, file] of Object.entries(context)) vm.context[global] = compile(readFileSync(file));
  vm.evaluate(code);
  const response = await vm.evaluate('globalThis.worker').fetch(new Request('http://edge.example/'), bindings);
  return answerOf(response);
}
