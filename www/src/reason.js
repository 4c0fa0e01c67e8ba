// Why an item is in the list, in the shop's own words and with its names.

import { nameOf } from './catalogue.js';

const DID = { view: 'viewed', click: 'chose', cart: 'took', purchase: 'bought' };

/** The heavier reason of an item in words; nothing where it has none. */
export function why([reason] = [], catalogue) {
  if (!reason) return undefined;
  const { part, itemId, kind } = reason;
  const name = itemId && nameOf(catalogue.item(itemId));
  switch (part) {
    case 'taste':
      return name ? `because you ${DID[kind] ?? 'know'} ${name}` : 'fits your taste';
    case 'last':
      return name ? `like ${name}` : 'like what you saw last';
    case 'next':
      return name ? `often next to ${name}` : 'often next to what you know';
    case 'own':
      return 'you come back to it';
    default:
      return 'popular now';
  }
}
