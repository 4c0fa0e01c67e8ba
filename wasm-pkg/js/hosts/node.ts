// Node and Deno: the module is read from the disk.

import { readFile } from 'node:fs/promises';
import { findModule } from '../index.js';

findModule(() => readFile(new URL('./nearfield_bg.wasm', import.meta.url)));

export * from '../index.js';
