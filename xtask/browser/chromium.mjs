// How the checks start Chromium: without a sandbox, since they may run as root in a container, and without
// the browser's own traffic, since a check must depend on nothing but this machine.

export const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
