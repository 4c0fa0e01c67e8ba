//! Rate limits: how often an address or a device token may ask. k devices mean something only where one
//! client cannot be many.

use super::error::ApiError;
use crate::config::Config;
use axum::http::{Extensions, HeaderMap};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

/// The address at the other end of a connection, as the listener notes it on each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// The limits of one service.
pub struct Rates {
    tokens_by_address: Limiter<IpAddr>,
    syncs_by_address: Limiter<IpAddr>,
    syncs_by_token: Limiter<[u8; 32]>,
    addresses: Addresses,
}

impl Rates {
    /// Returns limits that nobody has used yet.
    pub fn new(config: &Config) -> Self {
        Self {
            tokens_by_address: Limiter::new(config.tokens_per_address),
            syncs_by_address: Limiter::new(config.syncs_per_address),
            syncs_by_token: Limiter::new(config.syncs_per_token),
            addresses: Addresses::new(config),
        }
    }

    /// Counts a request for a device token.
    pub(super) fn token(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<(), ApiError> {
        self.addresses
            .limited(headers, extensions)
            .map_or(Ok(()), |address| self.tokens_by_address.take(address, "device tokens of one address"))
    }

    /// Counts a sync request of an address.
    pub(super) fn sync(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<(), ApiError> {
        self.addresses
            .limited(headers, extensions)
            .map_or(Ok(()), |address| self.syncs_by_address.take(address, "sync requests of one address"))
    }

    /// Counts a sync request with a device token that holds.
    pub(super) fn sync_with(&self, token: &[u8]) -> Result<(), ApiError> {
        self.syncs_by_token.take(*blake3::hash(token).as_bytes(), "sync requests of one device token")
    }

    /// Forgets who has not asked for a while.
    pub fn forget_idle(&self) {
        self.tokens_by_address.forget_idle();
        self.syncs_by_address.forget_idle();
        self.syncs_by_token.forget_idle();
    }
}

/// Which address a request counts for.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    trusted: Vec<IpNet>,
    /// Proxies in front of the server that name the address before them.
    proxies: usize,
}

impl Addresses {
    pub(super) fn new(config: &Config) -> Self {
        Self { trusted: config.trusted.clone(), proxies: config.proxies }
    }

    /// Returns whether a connection from an address counts at all. Behind proxies all come from these.
    pub(super) fn limits_connections_of(&self, peer: IpAddr) -> bool {
        self.proxies == 0 && !self.trusts(peer)
    }

    /// Returns the address that a request counts for, `None` for one that is trusted.
    fn limited(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
        let Peer(peer) = *extensions.get::<Peer>()?;
        let address = self.forwarded(headers).unwrap_or(peer);
        // One customer of IPv6 has a whole /64.
        let network = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (!0 << 64))),
        };
        (!self.trusts(address)).then_some(network)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Returns the address that the outermost of our proxies has seen. What stands before it in the header
    /// is the client's own claim.
    fn forwarded(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let lists = headers.get_all("x-forwarded-for").iter();
        let all: Vec<&str> =
            lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(',')).collect();
        let at = all.len().checked_sub(self.proxies)?;
        all.get(at)?.trim().parse().ok()
    }
}

/// A limit for each key; without one where the rate is 0.
struct Limiter<Key: Hash + Eq + Clone> {
    by_key: Option<DefaultKeyedRateLimiter<Key>>,
    clock: DefaultClock,
}

impl<Key: Hash + Eq + Clone> Limiter<Key> {
    /// Returns a limit of so many a minute, all of which may come at once.
    fn new(per_minute: u32) -> Self {
        let by_key = NonZeroU32::new(per_minute).map(|rate| RateLimiter::keyed(Quota::per_minute(rate)));
        Self { by_key, clock: DefaultClock::default() }
    }

    fn take(&self, key: Key, what: &'static str) -> Result<(), ApiError> {
        let Some(by_key) = &self.by_key else { return Ok(()) };
        by_key.check_key(&key).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            ApiError::TooMany { what, retry_after_s: wait.as_secs() + 1 }
        })
    }

    fn forget_idle(&self) {
        if let Some(by_key) = &self.by_key {
            by_key.retain_recent();
            by_key.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(change: impl FnOnce(&mut Config)) -> Rates {
        let mut config = Config::new("data".into(), "test");
        (config.tokens_per_address, config.syncs_per_address, config.syncs_per_token) = (2, 3, 1);
        change(&mut config);
        Rates::new(&config)
    }

    /// Asks for tokens until there are no more, and returns how many there were, at most 9.
    fn tokens(rates: &Rates, peer: &str, forwarded: &[&'static str]) -> usize {
        let mut extensions = Extensions::new();
        extensions.insert(Peer(peer.parse().unwrap()));
        let mut headers = HeaderMap::new();
        for list in forwarded {
            headers.append("x-forwarded-for", list.parse().unwrap());
        }
        (0..9).take_while(|_| rates.token(&headers, &extensions).is_ok()).count()
    }

    #[test]
    fn each_address_and_each_token_has_a_limit_of_its_own() {
        let rates = rates(|_| {});
        assert_eq!((tokens(&rates, "192.0.2.1", &[]), tokens(&rates, "192.0.2.1", &[])), (2, 0));
        assert_eq!(tokens(&rates, "192.0.2.2", &[]), 2);
        assert_eq!((rates.sync_with(b"one"), rates.sync_with(b"two")), (Ok(()), Ok(())));
        let error = rates.sync_with(b"one").unwrap_err();
        assert!(matches!(error, ApiError::TooMany { retry_after_s: 1..=61, .. }), "{error:?}");
    }

    #[test]
    fn a_rate_of_zero_is_no_limit_and_trusted_addresses_have_none() {
        assert_eq!(tokens(&rates(|config| config.tokens_per_address = 0), "192.0.2.1", &[]), 9);
        let rates = rates(|config| config.trusted = vec!["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(tokens(&rates, "10.1.2.3", &[]), 9);
        assert_eq!(tokens(&rates, "::ffff:10.1.2.3", &[]), 9);
        assert_eq!(tokens(&rates, "11.1.2.3", &[]), 2);
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_count_together() {
        let rates = rates(|_| {});
        assert_eq!(tokens(&rates, "2001:db8:0:1::5", &[]), 2);
        assert_eq!(tokens(&rates, "2001:db8:0:1:ffff::6", &[]), 0);
        assert_eq!(tokens(&rates, "2001:db8:0:2::5", &[]), 2);
    }

    #[test]
    fn a_client_s_own_claim_of_an_address_is_not_believed() {
        let open = rates(|_| {});
        assert_eq!(tokens(&open, "192.0.2.1", &["198.51.100.1"]), 2);
        assert_eq!(tokens(&open, "192.0.2.1", &["198.51.100.2"]), 0);
        let behind = rates(|config| config.proxies = 1);
        assert_eq!(tokens(&behind, "10.0.0.1", &["198.51.100.1, 203.0.113.7"]), 2);
        assert_eq!(tokens(&behind, "10.0.0.1", &["198.51.100.9", "203.0.113.7"]), 0);
        assert_eq!(tokens(&behind, "10.0.0.1", &["203.0.113.7, 203.0.113.8"]), 2);
    }
}
