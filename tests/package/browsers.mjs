// The browsers, driven alike: Chromium by playwright-core, Firefox by puppeteer-core over WebDriver BiDi.

import { FLAGS } from '../../xtask/browser/chromium.mjs';

const LOADS_WITHIN_MS = 60_000;

/** Starts a browser. `visit(address, read)` gives what `read` gives in the page as soon as that is something. */
export async function browser(name) {
  const started = name === 'chromium' ? await chromium() : await firefox();
  return {
    async visit(address, read) {
      const page = await started.newPage();
      const said = [];
      page.on('console', (message) => said.push(message.text()));
      page.on('pageerror', (error) => said.push(error.message));
      try {
        await page.goto(address);
        // Asked again and again, since the two drivers wait in different ways.
        for (const end = Date.now() + LOADS_WITHIN_MS; Date.now() < end; ) {
          // A page that goes to another one has nothing to say meanwhile.
          const value = await page.evaluate(read).catch(() => undefined);
          if (value !== undefined && value !== null) return value;
          await new Promise((later) => setTimeout(later, 100));
        }
        throw new Error(`nothing came of ${address} in ${name}:\n${said.join('\n')}`);
      } finally {
        // Left as a person leaves it, which a page that is closed by its driver is not.
        await page.goto('about:blank');
        await page.close();
      }
    },
    close: () => started.close(),
  };
}

async function chromium() {
  const { chromium } = await import('playwright-core');
  const started = await chromium.launch({ executablePath: process.env.NEARFIELD_CHROMIUM, args: FLAGS });
  // Pages of one person, who keeps what pages store.
  const person = await started.newContext();
  return { newPage: () => person.newPage(), close: () => started.close() };
}

async function firefox() {
  const { default: puppeteer } = await import('puppeteer-core');
  return puppeteer.launch({ browser: 'firefox', executablePath: process.env.NEARFIELD_FIREFOX, headless: true });
}
