// A consumer of the package, in a folder of its own: what npm publishes, unpacked where an install puts it.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
export const sources = fileURLToPath(new URL('../../wasm-pkg', import.meta.url));

/** Makes the consumer, and returns its folder and the tarball that it installed. */
export function consumer() {
  const folder = mkdtempSync(join(tmpdir(), 'nearfield-consumer-'));
  execFileSync('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], { cwd: sources });
  const [name] = readdirSync(folder);
  const tarball = join(folder, name);
  execFileSync('tar', ['xzf', tarball], { cwd: folder });
  const modules = join(folder, 'node_modules');
  mkdirSync(modules);
  renameSync(join(folder, 'package'), join(modules, 'nearfield'));
  cpSync(join(here, 'app'), folder, { recursive: true });
  cpSync(join(sources, 'examples'), join(folder, 'examples'), { recursive: true });
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module', dependencies: { nearfield: '*' } }));
  return { folder, tarball, package: join(modules, 'nearfield') };
}

/** Lets the consumer import what these checks have installed. */
export function lend(folder, ...names) {
  for (const name of names) symlinkSync(join(here, 'node_modules', name), join(folder, 'node_modules', name));
}
