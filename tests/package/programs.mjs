// Programs that the checks start: run to their end, or until they are stopped.

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ENDS_WITHIN_MS = 60_000;

/** The path of a program that these checks have installed. */
export function installed(name) {
  return join(fileURLToPath(new URL('node_modules/.bin', import.meta.url)), name);
}

/** Runs a program to its end, and gives what it printed. */
export function run(program, args, { cwd, env } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'], timeout: ENDS_WITHIN_MS });
    let [printed, said] = ['', ''];
    child.stdout.on('data', (chunk) => (printed += chunk));
    child.stderr.on('data', (chunk) => (said += chunk));
    child.on('error', reject);
    child.on('close', (status) => (status === 0 ? resolve(printed) : reject(new Error(`${program} ended with ${status}:\n${said.slice(-4000)}\n${printed.slice(-4000)}`))));
  });
}

/** Starts a server that prints the address at which it listens; gives that, and how to stop it. */
export function start(program, args, { cwd, env } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = new Promise((done) => child.on('close', done));
    // Resolves with the status.
    const stop = () => (child.kill(), ended);
    let said = '';
    const listen = (chunk) => {
      said += chunk;
      const address = /http:\/\/(?:localhost|127\.0\.0\.1|0\.0\.0\.0):(\d+)/.exec(said);
      if (address) resolve({ address: `http://127.0.0.1:${address[1]}`, stop });
    };
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    child.on('error', reject);
    ended.then((status) => reject(new Error(`${program} ended with ${status}:\n${said.slice(-4000)}`)));
    setTimeout(() => (child.kill(), reject(new Error(`${program} does not listen:\n${said.slice(-4000)}`))), ENDS_WITHIN_MS).unref();
  });
}
