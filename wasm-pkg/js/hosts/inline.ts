// Any host that compiles: the module is in the script, so that there is no second file to serve.

import base64 from 'nearfield_bg.wasm.gz';
import { findModule } from '../index.js';

findModule(() => {
  const packed = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip')));
});

export * from '../index.js';
