// The page, as the server renders it and as the browser goes on with it.

import { useNearfield, useRecommendations } from 'nearfield/react';

/** `popular` is what everybody gets: it is there at once, and stays until the person's own list is. */
export function Page({ options, popular }) {
  const { nearfield, error } = useNearfield(options);
  const own = useRecommendations(nearfield, { count: 12 });
  const list = own.length > 0 ? own : popular;
  return (
    <main>
      <h1>{own.length > 0 ? 'For you' : 'Popular now'}</h1>
      {error && <p role="alert">{error.message}</p>}
      <ul>
        {list.map(({ itemId, reasons }) => (
          <li key={itemId}>
            <button onClick={() => nearfield?.track('view_item', { items: [{ item_id: itemId }] })}>{itemId}</button>
            {reasons?.[0] && <small> {reasons[0].text}</small>}
          </li>
        ))}
      </ul>
    </main>
  );
}
