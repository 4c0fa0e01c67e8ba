// A central for the tests: files, manifests and sync answers that the engine itself wrote.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
execFileSync('cargo', ['build', '--quiet', '--package', 'nearfield-wasm', '--example', 'fixture'], {
  cwd: root,
  stdio: ['ignore', 'inherit', 'inherit'],
});
const fixture = join(process.env.CARGO_TARGET_DIR ?? join(root, 'target'), 'debug/examples/fixture');
const directory = mkdtempSync(join(tmpdir(), 'nearfield-'));
execFileSync(fixture, ['make', directory]);

/** The bytes of a file that the engine wrote. */
export function file(name) {
  return new Uint8Array(readFileSync(join(directory, name)));
}

export const publicKey = readFileSync(join(directory, 'public-key'), 'utf8');

/** A sync answer to `body` by the engine: `acknowledged`, `duplicate` or `refused`. */
export function answer(body, outcome = 'acknowledged', version = 2) {
  return execFileSync(fixture, ['reply', outcome, String(version)], { input: body });
}

/** The deltas of a sync body, as the engine reads them. */
export function deltas(body) {
  const lines = execFileSync(fixture, ['deltas'], { input: body, encoding: 'utf8' }).trim().split('\n');
  return lines.map((line) => {
    const [id, base, items, ...touches] = line.split(' ');
    return { id, base: Number(base), items: Number(items), touches };
  });
}

/**
 * Starts a central. `requests` records what came; `routes` may hold, by path, a function that
 * answers instead: `(request) => ({ status, headers, body })`, or null to break the connection, which `breaks` does after the body. What is
 * no path of central's is answered by `otherwise`.
 */
export async function central() {
  const state = { requests: [], routes: {}, manifest: '2.manifest', otherwise: () => ({ status: 404 }) };
  const server = createServer((message, response) => {
    const chunks = [];
    message.on('data', (chunk) => chunks.push(chunk));
    message.on('end', () => {
      const request = {
        method: message.method,
        path: message.url,
        headers: message.headers,
        body: Buffer.concat(chunks),
      };
      state.requests.push(request);
      const answered = (state.routes[request.path] ?? usual)(request, state);
      if (!answered) return void message.socket.destroy();
      response.writeHead(answered.status ?? 200, { 'access-control-allow-origin': '*', ...answered.headers });
      if (!answered.breaks) return void response.end(answered.body);
      response.write(answered.body, () => message.socket.destroy());
    });
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  state.endpoint = `http://127.0.0.1:${server.address().port}`;
  state.count = (path) => state.requests.filter((request) => request.path === path).length;
  state.close = () => {
    server.closeAllConnections();
    server.close();
  };
  return state;
}

function usual(request, state) {
  const { path, body } = request;
  if (path === '/v1/device') return { body: Buffer.from('token-1') };
  if (path === '/v1/sync') return { body: answer(body) };
  if (path === '/v1/model/latest') return { body: file(state.manifest) };
  const name = path.replace('/v1/model/', '');
  return ['2.pack', '3.pack', '4.pack', '2..3.patch', '3..4.patch'].includes(name) ? { body: file(name) } : state.otherwise(request);
}
