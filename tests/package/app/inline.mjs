// The script of a page that carries the core in itself: exercises the package, and leaves what it saw where the test reads it.

import * as nearfield from 'nearfield/inline';
import { exercise } from './exercise.mjs';

exercise(nearfield, JSON.parse(new URLSearchParams(location.search).get('config')), 'indexeddb').then(
  (seen) => (globalThis.seen = { seen }),
  ({ name, code, message }) => (globalThis.seen = { thrown: `${name} ${code}: ${message}` }),
);
