// What the person is looking at, and what goes with it.

import { hueOf, picture } from './art.js';
import { nameOf, placeOf } from './catalogue.js';
import { calm, h } from './dom.js';

/** The product in front. */
export class Stage {
  #root;
  #nf;
  #catalogue;
  #choose;
  #cart;
  #said;

  constructor(root, nf, catalogue, choose, cart) {
    this.#root = root;
    this.#nf = nf;
    this.#catalogue = catalogue;
    this.#choose = choose;
    this.#cart = cart;
  }

  /** Before anything is chosen. */
  welcome() {
    const samples = this.#catalogue.items.filter((_, place) => place % Math.ceil(this.#catalogue.items.length / 5) === 41 % Math.ceil(this.#catalogue.items.length / 5)).slice(0, 4);
    this.#root.replaceChildren(
      h('div.stage-words.intro', {}, h('h1', {}, 'Click something you like.'),
        h('p', {}, 'The list on the left is ranked again after every click, here in your browser, over the whole catalogue. Nothing is asked of a server.')),
      h('div.stage-fan', { 'aria-hidden': 'true' }, ...samples.map((item) => this.#tile(item))),
    );
  }

  /** Puts `item` in front. */
  show(item) {
    const with_ = this.#nf.similar(item.id, { count: 6 }).filter(({ itemId }) => itemId !== item.id).slice(0, 4);
    const tile = this.#tile(item);
    this.#said = h('span.said', { role: 'status' });
    this.#root.replaceChildren(
      tile,
      h('div.stage-words', {}, h('small', {}, item.category ?? 'Real item'), h('h1', {}, nameOf(item)),
        h('p.buy', {}, item.price !== undefined && h('b', {}, `€${item.price}`), h('button.main', { type: 'button', onclick: () => this.#cart(item) }, 'Add to cart'), this.#said)),
      with_.length > 0
        ? h('div.with', {}, h('small', {}, 'Goes with it'), h('div', {}, ...with_.map(({ itemId }) => {
          const other = this.#catalogue.item(itemId);
          const button = h('button', { type: 'button', title: `${nameOf(other)}, ${placeOf(other)}`, 'aria-label': nameOf(other), onclick: () => this.#choose(other) });
          button.append(this.#tile(other));
          return button;
        })))
        : h('div.with', {}, h('small', {}, 'So new that no one has shown yet what goes with it')),
    );
    if (!calm()) tile.animate([{ transform: 'scale(.92)', opacity: 0.4 }, { transform: 'none', opacity: 1 }], { duration: 280, easing: 'ease-out' });
  }

  /** Says what happened with it. */
  note(kind) {
    if (this.#said) this.#said.textContent = kind === 'add_to_cart' ? 'In the cart. That counts for more than a look.' : '';
  }

  #tile(item) {
    const tile = h('span.tile', { html: picture(item) });
    tile.style.setProperty('--hue', hueOf(item));
    return tile;
  }
}
