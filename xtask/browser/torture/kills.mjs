// Kills the whole browser in mid-write, again and again, and looks at what the next one finds.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FLAGS } from '../chromium.mjs';
import { distinctEvents } from './site.mjs';

/** How often one profile is killed before it is looked at in peace. */
const LIVES = 10;
const EVENTS_A_LIFE = 24;
const OPEN_MS_MAX = 60_000;
const LIVE_MS = 600;

/** Runs until the browser was killed `kills` times. */
export async function kills({ site, chromium, count, verdict, progress }) {
  for (let killed = 0; killed < count; ) {
    const profile = mkdtempSync(join(tmpdir(), 'nearfield-profile-'));
    try {
      killed += await onePerson({ site, chromium, lives: Math.min(LIVES, count - killed), profile, verdict });
    } finally {
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    }
    progress(killed);
  }
}

async function onePerson({ site, chromium, lives, profile, verdict }) {
  const events = distinctEvents();
  const confirmed = site.newPerson({ verdict, losesAnswers: true });
  let left = 0;
  let said;
  const heard = (path) => new Promise((done) => (said = { path, done }));
  const hear = (path, body) => {
    if (path === '/failed') throw new Error(`the page failed: ${body}`);
    if (said?.path === path) said.done(body);
  };
  Object.assign(site.post, {
    '/next': () => {
      const some = events.splice(0, Math.min(left, 1 + Math.floor(Math.random() * 3)));
      left -= some.length;
      return some;
    },
    '/opened': (history) => hear('/opened', history),
    '/last': (report) => hear('/last', report),
    '/failed': (why) => hear('/failed', why),
  });
  // What the browser itself threw away is nobody's to keep; it is counted apart.
  const forgetWiped = (why) => {
    verdict.wiped += 1;
    verdict.wipedWhy = why;
    confirmed.clear();
  };
  for (let life = 0; life < lives; life += 1) {
    left = EVENTS_A_LIFE;
    const opened = heard('/opened');
    const browser = start(chromium, profile, `${site.address}?live`);
    const before = new Set(confirmed);
    const { history, role, errors, wiped } = await within(opened, 'the page to open');
    if (wiped) forgetWiped(wiped);
    else verdict.compare(before, history, `after kill ${life}, as ${role}, ${errors.length > 0 ? errors : 'without an error'}`);
    // At any moment, and as often at the worst: when central has been told, and the page not yet answered.
    await new Promise((now) => {
      setTimeout(now, Math.random() * LIVE_MS);
      if (life % 2 === 0) site.heard = now;
    });
    site.heard = undefined;
    await kill(browser);
  }
  site.losesAnswers = false;
  const last = heard('/last');
  const browser = start(chromium, profile, `${site.address}?last`);
  const { toldAll, history, wiped } = await within(last, 'the last report');
  await kill(browser);
  if (wiped) forgetWiped(wiped);
  verdict.compare(confirmed, history, 'at the end');
  verdict.compareTold(site, history, 'at the end');
  if (!toldAll) verdict.note('other', 1, 'something could not be sent');
  return lives;
}

/** The browser that runs: it must not outlive a scenario that fails. */
let running;
process.on('exit', () => running && process.kill(-running.pid, 'SIGKILL'));

function start(chromium, profile, address) {
  // A group of its own, so that all of its processes can be killed at once.
  running = spawn(chromium, [...FLAGS, `--user-data-dir=${profile}`, address], { detached: true, stdio: 'ignore' });
  return running;
}

async function kill(browser) {
  running = undefined;
  const ended = new Promise((done) => browser.once('exit', done));
  process.kill(-browser.pid, 'SIGKILL');
  await ended;
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, failed) => (timer = setTimeout(() => failed(new Error(`waited too long for ${what}`)), OPEN_MS_MAX)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
