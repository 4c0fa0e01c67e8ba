// Bun: the module is read from where Bun has it, which is in the program itself after `bun build --compile`.

import { readFile } from 'node:fs/promises';
import file from '../nearfield_bg.wasm' with { type: 'file' };
import { findModule } from '../index.js';

findModule(() => readFile(file as unknown as string));

export * from '../index.js';
