// The names of events that sites use, and the kind that each is for the core.

/**
 * The kind by name, in lower case; `null` for a name that is known but says nothing about the taste for an
 * item.
 */
export const KINDS: ReadonlyMap<string, string | null> = new Map(
  Object.entries({
    view: ['view', 'view_item', 'product viewed'],
    click: ['click', 'select_item', 'product clicked'],
    // A wish comes as near to buying as the cart does.
    cart: ['cart', 'add_to_cart', 'product added', 'add_to_wishlist', 'product added to wishlist', 'wishlist product added to cart'],
    uncart: ['uncart', 'remove_from_cart', 'product removed', 'product removed from wishlist'],
    purchase: ['purchase', 'order completed'],
    impression: ['impression', 'view_item_list', 'product list viewed'],
    dismiss: ['dismiss'],
    search: ['search', 'view_search_results', 'products searched'],
  })
    .flatMap(([kind, names]) => names.map((name): [string, string | null] => [name, kind]))
    .concat(
      // They repeat what was told before, or concern an order as a whole.
      [
        'page_view', 'page', 'identify', 'login', 'sign_up', 'session_start', 'user_engagement', 'scroll',
        'view_cart', 'cart viewed', 'begin_checkout', 'checkout started', 'checkout step viewed', 'checkout step completed',
        'add_shipping_info', 'add_payment_info', 'payment info entered', 'order updated', 'order refunded', 'order cancelled', 'refund',
        'view_promotion', 'promotion viewed', 'select_promotion', 'promotion clicked', 'share', 'product shared', 'cart shared',
        'product list filtered', 'coupon entered', 'coupon applied', 'coupon denied', 'coupon removed', 'product reviewed',
      ].map((name) => [name, null]),
    ),
);
