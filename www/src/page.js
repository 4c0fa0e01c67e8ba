// The page: one person, their lists, the shop, and what leaves the device.

import { Nearfield } from '/nearfield/index.js';
import { loadCatalogue } from './catalogue.js';
import { DevicePanels } from './device.js';
import { at, count } from './dom.js';
import { Fleet } from './fleet.js';
import { RankedList } from './ranked-list.js';
import { Shelf } from './shelf.js';
import { Stage } from './stage.js';
import { Streams } from './streams.js';

const LIST_LENGTH = 10;
// Choices for a demo that is watched; a shop keeps the defaults of a minute each.
const SYNC_EVERY_MS = 2_500;
const IDLE_MS = 4_000;

const demo = (window.nearfieldDemo = { nf: undefined, ready: undefined });
demo.ready = open().catch((thrown) => {
  tell(`The shop could not open: ${thrown.message}`, 'bad');
  throw thrown;
});

async function open() {
  const [config, catalogue] = await Promise.all([fetchJson('/config.json'), loadCatalogue()]);
  const shared = localStorage.getItem('share') !== 'off';
  const nf = await Nearfield.open({
    endpoint: config.endpoint,
    publicKey: config.publicKey,
    site: config.site,
    consent: { personalise: true, share: shared },
    syncEveryMs: SYNC_EVERY_MS,
    idleMs: IDLE_MS,
  });
  demo.nf = nf;
  // A shop that was made anew has other items and another key: what was learnt at the old one is about nothing.
  if (localStorage.getItem('shop') !== config.publicKey) {
    await nf.forget();
    localStorage.setItem('shop', config.publicKey);
  }
  if (nf.inspect().role === 'memory') tell('This window keeps nothing: what you teach the shop is forgotten when it closes.');
  if (!catalogue.named) {
    tell('These are real shop clicks. Their log holds no names, prices or pictures, so items show their ids, and marks made of the ids.');
  }

  const act = (kind, item) => {
    // Isolated pages have a clock of 5 µs; elsewhere the browser rounds it.
    const from = performance.now();
    nf.track(kind, { items: [{ item_id: item.id }] });
    const list = nf.recommend({ count: LIST_LENGTH });
    const took = performance.now() - from;
    at('latency').textContent = count(took * 1000);
    forYou.show(list);
    panels.show();
    streams?.newest();
    if (kind === 'select_item') stage.show(item);
    else stage.note(kind);
  };
  const choose = (item) => act('select_item', item);
  const forYou = new RankedList(at('for-you'), catalogue, choose);
  const popular = new RankedList(at('popular'), catalogue, choose);
  const panels = new DevicePanels(nf, catalogue);
  const stage = new Stage(at('stage'), nf, catalogue, choose, (item) => act('add_to_cart', item));
  const shelf = new Shelf(catalogue, choose, (item) => nf.model.row(item.id) !== undefined);

  const streams = config.streams ? new Streams(config.edge, nf, catalogue, LIST_LENGTH) : undefined;

  const refresh = () => {
    forYou.show(nf.recommend({ count: LIST_LENGTH }));
    popular.show(nf.popular({ count: LIST_LENGTH }));
    at('model-version').textContent = String(nf.inspect().version);
    at('for-you-note').textContent = nf.inspect().history.length > 0 ? 'ranked on this device' : 'popular, until you choose';
    panels.show();
  };
  nf.on('recommendations', ({ reason }) => {
    if (reason !== 'event') refresh();
    else at('for-you-note').textContent = 'ranked on this device';
  });
  nf.on('model', (arrived) => {
    panels.arrived(arrived);
    streams?.model();
    shelf.newcomers();
  });
  nf.on('sync', () => panels.show());
  nf.on('error', (error) => {
    if (error.code.startsWith('central.')) return;
    console.warn(`nearfield: ${error.code}: ${error.message}`);
    tell(`${error.message}. The last good model stays in use.`, 'bad');
  });
  watchCentral(config.endpoint);

  const share = at('share');
  share.checked = shared && nf.inspect().consent.share;
  share.addEventListener('change', async () => {
    localStorage.setItem('share', share.checked ? 'on' : 'off');
    await nf.consent({ share: share.checked });
    panels.show();
  });
  at('forget').addEventListener('click', async () => {
    await nf.forget();
    stage.welcome();
    refresh();
    streams?.forget();
  });

  refresh();
  stage.welcome();
  shelf.show();
  streams?.begin();
  demo.fleet = new Fleet(config, catalogue);
  at('foot').textContent = `${count(catalogue.items.length)} items · ${crossOriginIsolated ? 'cross-origin isolated: the microseconds are the browser’s finest clock' : 'not cross-origin isolated: the browser rounds its clock'} · every picture is drawn here, nothing is fetched`;
  return nf;
}

/** Shows whether central answers; the shop needs it for nothing but news. */
function watchCentral(endpoint) {
  const state = at('central');
  const look = async () => {
    let up = false;
    try {
      up = (await fetch(`${endpoint}/healthz`, { signal: AbortSignal.timeout(2_000), credentials: 'omit' })).ok;
    } catch {
      // Not reachable: that is the answer.
    }
    const next = up ? 'online' : 'offline';
    if (state.dataset.state !== next) {
      state.dataset.state = next;
      state.textContent = next;
      state.title = up ? 'Deltas are acknowledged and newer models arrive' : 'Ranking goes on here; deltas wait in the outbox';
    }
    setTimeout(look, 3_000);
  };
  void look();
}

async function fetchJson(path) {
  const reply = await fetch(path);
  if (!reply.ok) throw new Error(`${path} answered ${reply.status}`);
  return reply.json();
}

function tell(text, tone = 'plain') {
  const notice = at('notice');
  notice.textContent = text;
  notice.dataset.tone = tone;
  notice.hidden = false;
}
