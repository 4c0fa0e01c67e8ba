// What every host does with the package: opens, tracks, ranks, exchanges with central, keeps and restores.

const ids = (list) => list.map(({ itemId }) => itemId);

/**
 * Exercises the package in this host against a central, and says what it saw. The results are awaited
 * throughout, since behind `nearfield/worker` they are promises.
 */
export async function exercise({ Nearfield }, { endpoint, publicKey, site }, storage = 'memory') {
  const consent = { personalise: true, share: true };
  const options = { endpoint, publicKey, site, storage, consent, syncEveryMs: 0 };
  let nf = await Nearfield.open(options);
  const before = ids(await nf.recommend({ count: 12 }));
  const tracked = await nf.track('view_item', { currency: 'EUR', items: [{ item_id: before[11], price: 9.5 }] });
  await nf.track('Product Added', { product_id: before[10] });
  const list = await nf.recommend({ count: 12 });
  const { sent } = await nf.sync();

  // What is kept outlives the instance, where this host keeps anything.
  const keeps = storage !== 'memory';
  if (keeps) {
    await nf.flush();
    await nf.close();
    nf = await Nearfield.open(options);
  }
  const { history, consent: inForce, role } = await nf.inspect();

  const state = await nf.snapshot();
  const similar = ids(await nf.similar(before[11], { count: 5 }));
  let lists;
  // Central may publish a version at any moment: the two must be on the same.
  for (let round = 0; round < 5; round += 1) {
    await nf.sync();
    const restored = await Nearfield.restore(state, { ...options, storage: 'memory', consent: {} });
    const versions = [(await nf.inspect()).version, (await restored.inspect()).version];
    lists = [ids(await nf.recommend({ count: 12 })), ids(await restored.recommend({ count: 12 }))];
    await restored.close();
    if (versions[0] === versions[1]) break;
  }
  await nf.close();
  const refused = await Nearfield.open({ ...options, site: '' }).catch(({ name, code, field }) => ({ name, code, field }));
  return {
    before,
    after: ids(list),
    tracked,
    reasons: list.map(({ reasons }) => reasons.length),
    sent: sent.map(({ outcome }) => outcome),
    history: history.map(({ itemId, kind }) => `${kind} ${itemId}`),
    consent: inForce,
    role,
    similar,
    lists,
    refused,
  };
}
