// The shop's shelves: search, departments, categories, and cards.

import { hueOf, picture } from './art.js';
import { nameOf } from './catalogue.js';
import { at, count, h } from './dom.js';

const PAGE = 20;

/** The browsable grid of products. */
export class Shelf {
  #catalogue;
  #choose;
  #known;
  #department = 'All';
  #category;
  #shown = PAGE;

  /** `known` says whether the model has an item by now. */
  constructor(catalogue, choose, known) {
    this.#catalogue = catalogue;
    this.#choose = choose;
    this.#known = known;
    let waiting;
    at('search').addEventListener('input', () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.#again(), 90);
    });
    at('more').addEventListener('click', () => {
      this.#shown += PAGE;
      this.show();
    });
    this.#chips();
  }

  /** Draws the grid. */
  show() {
    const found = this.#find();
    at('grid').replaceChildren(...found.slice(0, this.#shown).map((item) => this.#card(item)));
    at('found').textContent = found.length === 0 ? 'Nothing is called that.' : `${count(Math.min(this.#shown, found.length))} of ${count(found.length)}`;
    at('more').hidden = found.length <= this.#shown;
  }

  /** Marks the new items that the model has come to know. */
  newcomers() {
    for (const flag of at('grid').querySelectorAll('.card .flag')) {
      const item = this.#catalogue.item(flag.closest('.card').dataset.item);
      flag.replaceWith(this.#flag(item));
    }
  }

  #again() {
    this.#shown = PAGE;
    this.show();
  }

  #find() {
    const words = at('search').value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = this.#catalogue.items.filter((item) => {
      if (this.#department === 'New' && !item.new) return false;
      if (!['All', 'New'].includes(this.#department) && item.department !== this.#department) return false;
      if (this.#category && item.category !== this.#category) return false;
      const text = `${nameOf(item)} ${item.category ?? ''} ${item.id}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    // The file goes shelf by shelf; a shop window mixes. The stride is coprime to every shelf's size.
    if (words.length > 0 || this.#category || !this.#catalogue.named) return found;
    const stride = [389, 397, 401].find((step) => found.length % step !== 0) ?? 1;
    return found.map((_, place) => found[(place * stride) % found.length]);
  }

  #card(item) {
    const tile = h('span.tile', { html: picture(item) });
    tile.style.setProperty('--hue', hueOf(item));
    return h('button.card', { type: 'button', 'data-testid': 'product', 'data-item': item.id, onclick: () => this.#choose(item) },
      tile, item.new && this.#flag(item), h('b', {}, nameOf(item)),
      item.category ? h('small', {}, h('span', {}, item.category), h('span.price', {}, `€${item.price}`)) : h('small', {}, h('span', {}, 'real item, no name')));
  }

  #flag(item) {
    const known = this.#known(item);
    return h('span.flag', { 'data-known': known, title: known ? 'Arrived after the model was trained; the model has a row for it by now' : 'Arrived after the model was trained; no version has brought it yet' }, 'new');
  }

  #chips() {
    const departments = ['All', ...new Set(this.#catalogue.items.map((item) => item.department).filter(Boolean))];
    if (this.#catalogue.items.some((item) => item.new)) departments.push('New');
    const pick = (department) => {
      this.#department = department;
      this.#category = undefined;
      this.#press(at('departments'), department);
      const categories = ['All', 'New'].includes(department) ? []
        : [...new Set(this.#catalogue.items.filter((item) => item.department === department).map((item) => item.category))];
      at('categories').hidden = categories.length === 0;
      at('categories').replaceChildren(...categories.map((category) => h('button.chip', { type: 'button', 'data-name': category, 'aria-pressed': 'false', onclick: () => {
        this.#category = this.#category === category ? undefined : category;
        this.#press(at('categories'), this.#category);
        this.#again();
      } }, category)));
      this.#again();
    };
    at('departments').replaceChildren(...departments.map((name) => h('button.chip', { type: 'button', 'data-name': name, 'aria-pressed': String(name === 'All'), onclick: () => pick(name) },
      name === 'New' ? 'New arrivals' : name)));
  }

  #press(group, name) {
    for (const chip of group.children) chip.setAttribute('aria-pressed', String(chip.dataset.name === name));
  }
}
