// A list that shows how it changes: rows glide to their new places and say how far they moved.

import { nameOf, placeOf } from './catalogue.js';
import { calm, h } from './dom.js';
import { hueOf, picture } from './art.js';
import { why } from './reason.js';

const GLIDE = { duration: 460, easing: 'cubic-bezier(.2,.8,.2,1)' };

/** Writes a text that may be too long for its place. */
function say(element, text) {
  element.textContent = text;
  element.title = text;
}

/** A ranked list of items; a click on a row chooses its item. */
export class RankedList {
  #root;
  #catalogue;
  #choose;
  #rows = new Map();

  constructor(root, catalogue, choose) {
    this.#root = root;
    this.#catalogue = catalogue;
    this.#choose = choose;
  }

  /** Shows `list` (best first), moving what was there before. */
  show(list) {
    for (const { itemId, reasons } of list) {
      const shown = this.#rows.get(itemId);
      if (shown && reasons) say(shown.reason, why(reasons, this.#catalogue));
    }
    // The same list again must not wipe out what the last change showed.
    if (list.length === this.#rows.size && list.every(({ itemId }, place) => this.#rows.get(itemId)?.rank === place + 1)) return;
    const first = this.#rows.size === 0;
    const before = new Map([...this.#rows].map(([id, { row, rank }]) => [id, { rank, top: row.getBoundingClientRect().top }]));
    const rows = new Map();
    list.forEach(({ itemId, reasons }, place) => {
      const rank = place + 1;
      const { row, badge, number, reason } = this.#rows.get(itemId) ?? this.#make(itemId, reasons);
      number.textContent = String(rank);
      const was = before.get(itemId)?.rank;
      const moved = was === undefined ? undefined : was - rank;
      badge.className = `badge ${first || moved === 0 ? '' : moved === undefined ? 'fresh' : moved > 0 ? 'up' : 'down'}`;
      badge.title = badge.className === 'badge fresh' ? 'came into the list' : '';
      badge.textContent = first || moved === 0 ? '' : moved === undefined ? '+' : `${moved > 0 ? '▲' : '▼'}${Math.abs(moved)}`;
      rows.set(itemId, { row, badge, number, reason, rank });
    });
    // Focus must survive the reordering for those who go by keyboard.
    const focused = this.#root.contains(document.activeElement) ? document.activeElement : undefined;
    this.#root.replaceChildren(...[...rows.values()].map(({ row }) => row));
    if (focused?.isConnected) focused.focus({ preventScroll: true });
    this.#rows = rows;
    if (first || calm()) return;
    for (const [id, { row, rank }] of rows) {
      const old = before.get(id);
      if (old) {
        const by = old.top - row.getBoundingClientRect().top;
        if (by) row.animate([{ transform: `translateY(${by}px)` }, { transform: 'none' }], GLIDE);
      } else {
        row.animate([{ opacity: 0, transform: 'translateX(-14px) scale(.97)' }, { opacity: 1, transform: 'none' }], { ...GLIDE, delay: rank * 14, fill: 'backwards' });
      }
    }
  }

  #make(id, reasons) {
    const item = this.#catalogue.item(id);
    const number = h('span.rank');
    const badge = h('span.badge');
    const reason = h('span');
    say(reason, why(reasons, this.#catalogue) ?? placeOf(item));
    const tile = h('span.tile', { html: picture(item) });
    tile.style.setProperty('--hue', hueOf(item));
    const row = h('li', { 'data-item': id }, h('button', { type: 'button', onclick: () => this.#choose(item), title: nameOf(item) },
      number, tile, h('span.words', {}, h('b', {}, nameOf(item)), h('small', {}, reason, item.new && h('i', {}, ' · new'))), badge));
    return { row, badge, number, reason };
  }
}
