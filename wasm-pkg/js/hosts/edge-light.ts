// Vercel's edge functions: as in Cloudflare's Workers, but that the import says so.

import module from '../nearfield_bg.wasm?module';
import { findModule } from '../index.js';

findModule(() => module);

export * from '../index.js';
