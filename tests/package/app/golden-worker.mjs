// Answers with the digest of the module's test build.

import { goldenDigest, initSync } from 'golden/nearfield.js';
import module from 'golden/nearfield_bg.wasm';

export default {
  fetch() {
    initSync({ module });
    return Response.json({ digest: goldenDigest() });
  },
};
