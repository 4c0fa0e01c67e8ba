// What stays, what would be sent, what was sent, and what arrives.

import { hueOf, picture } from './art.js';
import { nameOf } from './catalogue.js';
import { ago, at, bytes, count, h } from './dom.js';

const HISTORY_ROWS = 6;
const LOG_ROWS = 6;
const ITEMS_SHOWN = 10;

/** The four panels about the device. */
export class DevicePanels {
  #nf;
  #catalogue;
  #versions = [];
  #arrivals = 0;

  constructor(nf, catalogue) {
    this.#nf = nf;
    this.#catalogue = catalogue;
    const { version } = nf.inspect();
    this.#versions.push({ version, time_ms: Date.now(), opened: true });
    // Ages are words that grow old.
    setInterval(() => this.show(), 5_000);
  }

  /** A newer model came. */
  arrived({ version, from, via, bytes: size }) {
    this.#versions.unshift({ version, from, via, size, time_ms: Date.now() });
    this.#versions.length = Math.min(this.#versions.length, LOG_ROWS);
    this.#arrivals += 1;
    this.show();
  }

  /** Draws all four. */
  show() {
    const kept = this.#nf.inspect();
    at('history-count').textContent = String(kept.history.length);
    at('state-bytes').textContent = `${bytes(kept.stateBytes)} in this browser`;
    at('history').replaceChildren(...(kept.history.length === 0 ? [empty('Nothing is known about you.')]
      : kept.history.slice(-HISTORY_ROWS).reverse().map((entry) => this.#happened(entry))));
    this.#showDelta(kept);
    this.#showSent(kept);
    at('pulse-stays').textContent = at('history-count').textContent;
    at('pulse-was').textContent = at('acked-count').textContent;
    at('history-word').textContent = kept.history.length === 1 ? 'event' : 'events';
    at('arrived-count').textContent = String(this.#arrivals);
    at('versions').replaceChildren(...this.#versions.map(({ version, from, via, size, time_ms, opened }, place) => h('li', { 'data-latest': place === 0 },
      h('b', {}, `v${version}`), h('span', {}, opened ? 'held when the page opened' : `${via === 'patch' ? `patch from v${from}` : 'whole model'}, ${bytes(size)}`), h('time', {}, ago(time_ms)))));
  }

  #happened({ itemId, key, kind, timeMs }) {
    const item = itemId === undefined ? undefined : this.#catalogue.item(itemId);
    return h('li', {}, item ? this.#tile(item) : h('span.tile'), h('b', {}, item ? nameOf(item) : `not in this model: ${key.slice(0, 8)}…`),
      h('span.kind', {}, kind), h('time', {}, ago(timeMs)));
  }

  #showDelta(kept) {
    const delta = this.#nf.inspectDelta();
    at('delta-bytes').textContent = String(delta?.bytes ?? 0);
    at('pulse-would').textContent = `${delta?.bytes ?? 0} B`;
    at('delta-share').textContent = delta ? `weight ${(delta.share * 100).toFixed(0)} %` : '';
    if (!delta) {
      const why = kept.consent.signal ? `Your browser sends ${kept.consent.signal === 'gpc' ? 'Global Privacy Control' : 'Do Not Track'}: nothing leaves, and the list goes on learning.`
        : !kept.consent.share ? 'Sharing is off. Nothing leaves, and the list goes on learning.'
        : kept.outbox.length > 0 ? `${kept.outbox.length} on the way.` : 'Nothing to say. Click something.';
      at('delta').replaceChildren(empty(why));
      return;
    }
    const rest = delta.items.length - ITEMS_SHOWN;
    at('delta').replaceChildren(
      h('p.legend', {}, `The taste: ${delta.factor.length} small numbers`),
      bars(delta.factor),
      h('p.legend', {}, `The items touched: ${delta.items.length}`),
      h('div.touched', {}, ...delta.items.slice(-ITEMS_SHOWN).map(({ itemId, kind }) => {
        const tile = this.#tile(this.#catalogue.item(itemId));
        tile.title = `${nameOf(this.#catalogue.item(itemId))}, ${kind}`;
        return tile;
      }), rest > 0 && h('span.rest', {}, `+${rest}`)),
    );
  }

  #showSent(kept) {
    const { sent } = this.#nf;
    at('sent-count').textContent = String(sent.length + kept.outbox.length);
    at('sent-word').textContent = sent.length + kept.outbox.length === 1 ? 'delta' : 'deltas';
    at('acked-count').textContent = String(sent.filter(({ outcome }) => outcome === 'acknowledged').length);
    const waiting = kept.outbox.map(({ id, bytes: size, items }) => h('li', { 'data-outcome': 'waiting' }, h('code', {}, id.slice(0, 8)), h('span', {}, `${size} B, ${items} ${items === 1 ? 'item' : 'items'}`), h('em', {}, 'waiting')));
    const settled = sent.slice(-LOG_ROWS).reverse().map(({ id, bytes: size, items, outcome, reason, timeMs }) => h('li', { 'data-outcome': outcome, title: ago(timeMs) },
      h('code', {}, id.slice(0, 8)), h('span', {}, `${size} B, ${items} ${items === 1 ? 'item' : 'items'}`), h('em', {}, outcome === 'refused' ? `refused: ${reason ?? 'no reason given'}` : outcome)));
    at('sent').replaceChildren(...(waiting.length + settled.length === 0 ? [empty('Nothing has left in this visit.')] : [...waiting, ...settled].slice(0, LOG_ROWS)));
  }

  #tile(item) {
    const tile = h('span.tile', { html: picture(item) });
    tile.style.setProperty('--hue', hueOf(item));
    return tile;
  }
}

/** The factor as bars: up for what the taste holds, down for what it lacks. */
function bars(factor) {
  const width = 4;
  const marks = Array.from(factor, (value, place) => {
    const height = Math.max(0.8, (Math.abs(value) / 127) * 22);
    return `<rect x="${place * width}" y="${value >= 0 ? 24 - height : 24}" width="${width - 1.2}" height="${height}" rx=".9" class="${value >= 0 ? 'plus' : 'minus'}"/>`;
  });
  return h('div.bars', { html: `<svg viewBox="0 0 ${factor.length * width} 48" preserveAspectRatio="none" role="img" aria-label="The taste as ${count(factor.length)} bars">${marks.join('')}</svg>` });
}

const empty = (text) => h('li.empty', {}, text);
