// The script of a page whose core is in a worker: exercises the package, and leaves what it saw where the test reads it.

import * as nearfield from 'nearfield/worker';
import { exercise } from './exercise.mjs';

exercise(nearfield, JSON.parse(new URLSearchParams(location.search).get('config')), 'indexeddb').then(
  (seen) => (globalThis.seen = { seen }),
  ({ name, code, message }) => (globalThis.seen = { thrown: `${name} ${code}: ${message}` }),
);
