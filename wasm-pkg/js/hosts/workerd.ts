// Cloudflare's Workers: the module comes compiled with the script, since a worker must not compile any.

import module from '../nearfield_bg.wasm';
import { findModule } from '../index.js';

findModule(() => module);

export * from '../index.js';
