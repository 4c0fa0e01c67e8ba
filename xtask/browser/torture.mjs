// Tortures the built npm package in Chromium, and prints what came of it.
//
//   node torture.mjs KILLS [SCENARIO]      (NEARFIELD_PACKAGE: the built package's folder, NEARFIELD_CHROMIUM)
//
// KILLS is how often the browser is killed; the other scenarios run in proportion. Exit code 0: nothing that
// was confirmed is lost, nothing is counted twice, nothing returns after it was forgotten.

import { chromium } from 'playwright-core';
import { FLAGS } from './chromium.mjs';
import { consent } from './torture/consent.mjs';
import { full } from './torture/full.mjs';
import { kills } from './torture/kills.mjs';
import { refused } from './torture/refused.mjs';
import { Verdict, startSite } from './torture/site.mjs';
import { tabs, workers } from './torture/tabs.mjs';
import { versions } from './torture/versions.mjs';

const count = Number(process.argv[2]);
const only = process.argv[3];
const { NEARFIELD_PACKAGE: folder, NEARFIELD_CHROMIUM: executablePath } = process.env;
if (!(count >= 1) || !folder || !executablePath) {
  console.error('usage: NEARFIELD_PACKAGE=DIR NEARFIELD_CHROMIUM=FILE node torture.mjs KILLS [SCENARIO]');
  process.exit(2);
}

const SCENARIOS = [
  ['kills', 'browser kills in mid-write', kills, count],
  ['tabs', 'rounds of 8 tabs and one that forgets', tabs, Math.ceil(count / 10)],
  ['workers', 'rounds of 8 tabs with workers and one that forgets', workers, Math.ceil(count / 10)],
  ['full', 'rounds without room on the disk', full, Math.ceil(count / 10)],
  ['refused', 'windows without a database, channel or locks', refused, Math.max(Math.ceil(count / 10), 5)],
  ['versions', 'downgrades and upgrades', versions, Math.ceil(count / 10)],
  ['consent', 'rounds of consent flipped at random', consent, Math.ceil(count / 10)],
];

const site = await startSite(folder);
const browser = await chromium.launch({ executablePath, args: FLAGS });
let failed = false;
try {
  for (const [name, what, scenario, rounds] of SCENARIOS) {
    if (only !== undefined && name !== only) continue;
    const verdict = new Verdict();
    await scenario({ site, browser, chromium: executablePath, count: rounds, verdict, progress: bar(what, rounds) });
    const { confirmed, lost, twice, returned, other, refusals, wiped, wipedWhy, cases } = verdict;
    console.log(`${rounds} ${what}: ${confirmed} events confirmed, ${refusals > 0 ? `${refusals} writes refused, ` : ''}${lost} lost, ${twice} counted twice, ${returned} returned${other > 0 ? `, ${other} other faults` : ''}`);
    if (wiped > 0) console.log(`  the browser itself threw its database away ${wiped} times: ${wipedWhy}`);
    for (const line of cases) console.log(`  ${line}`);
    failed ||= lost + twice + returned + other > 0;
  }
} finally {
  await browser.close();
  site.close();
}
process.exit(failed ? 1 : 0);

/** Shows how far a scenario is, where somebody watches. */
function bar(what, rounds) {
  const width = 30;
  return (done) => {
    if (!process.stderr.isTTY) return;
    const filled = Math.round((width * done) / rounds);
    process.stderr.write(`\r${'█'.repeat(filled)}${'░'.repeat(width - filled)} ${done} of ${rounds} ${what}${done === rounds ? '\r\x1b[K' : ''}`);
  };
}
