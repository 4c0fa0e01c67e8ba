// What the shop sells, as the page knows it.

/** Loads the catalogue: items by place, and by id. */
export async function loadCatalogue() {
  const reply = await fetch('/data/catalogue.json');
  if (!reply.ok) throw new Error(`/data/catalogue.json answered ${reply.status}`);
  const { named, items } = await reply.json();
  const byId = new Map(items.map((item) => [item.id, item]));
  return {
    named,
    items,
    /** The item of an id; one that came after the file was made is shown by its id. */
    item: (id) => byId.get(id) ?? { id },
  };
}

/** What an item is called. */
export const nameOf = (item) => item.name ?? `Item ${item.id}`;

/** Where it stands, in a few words. */
export const placeOf = (item) => (item.category ? `${item.category} · €${item.price}` : `id ${item.id}`);
