//! Small sets of words for what browsers tell in many ways.

use serde::{Deserialize, Serialize};

/// The kind of device that an event came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Device {
    /// Not told.
    #[default]
    Unknown,
    /// A desktop or notebook.
    Desktop,
    /// A phone.
    Phone,
    /// A tablet.
    Tablet,
    /// A television.
    Tv,
    /// Told, and none of these.
    Other,
}

impl Device {
    /// All devices, at the index of their number.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::Desktop, Self::Phone, Self::Tablet, Self::Tv, Self::Other];

    /// Returns the device that a word means, in letters of any case.
    ///
    /// ```
    /// use nearfield_engine::features::Device;
    /// assert_eq!(Device::of("Mobile"), Device::Phone);
    /// assert_eq!(Device::of("fridge"), Device::Other);
    /// ```
    pub fn of(word: &str) -> Self {
        let words = [
            (Self::Desktop, &["desktop", "laptop", "notebook", "pc"][..]),
            (Self::Phone, &["phone", "mobile", "smartphone"]),
            (Self::Tablet, &["tablet"]),
            (Self::Tv, &["tv", "television", "smarttv"]),
        ];
        let word = word.trim();
        let is = |known: &&str| word.eq_ignore_ascii_case(known);
        match words.into_iter().find(|(_, known)| known.iter().any(is)) {
            Some((device, _)) => device,
            None if word.is_empty() => Self::Unknown,
            None => Self::Other,
        }
    }

    /// Returns its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Desktop => "desktop",
            Self::Phone => "phone",
            Self::Tablet => "tablet",
            Self::Tv => "tv",
            Self::Other => "other",
        }
    }
}

/// The kind of place that a person came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Referrer {
    /// None told: typed, a bookmark, an app.
    #[default]
    Direct,
    /// A search engine.
    Search,
    /// A social network.
    Social,
    /// A mailbox in the browser.
    Mail,
    /// Any other site, this one included.
    Site,
}

/// Names of search engines, as a part of their hosts.
const SEARCH: [&str; 12] = [
    "google",
    "bing",
    "duckduckgo",
    "yahoo",
    "yandex",
    "baidu",
    "ecosia",
    "qwant",
    "startpage",
    "naver",
    "seznam",
    "brave",
];
/// Names of social networks, as a part of their hosts.
const SOCIAL: [&str; 14] = [
    "facebook",
    "instagram",
    "twitter",
    "tiktok",
    "pinterest",
    "reddit",
    "linkedin",
    "lnkd",
    "youtube",
    "snapchat",
    "vk",
    "whatsapp",
    "telegram",
    "threads",
];
/// Short hosts of social networks.
const SOCIAL_HOSTS: [&str; 4] = ["t.co", "x.com", "t.me", "youtu.be"];
/// Parts of a host that mean a mailbox, wherever it is.
const MAIL: [&str; 4] = ["mail", "webmail", "outlook", "gmx"];

impl Referrer {
    /// All referrers, at the index of their number.
    pub const ALL: [Self; 5] = [Self::Direct, Self::Search, Self::Social, Self::Mail, Self::Site];

    /// Returns the kind of an address or a host.
    ///
    /// ```
    /// use nearfield_engine::features::Referrer;
    /// assert_eq!(Referrer::of("https://www.google.de/search?q=tents"), Referrer::Search);
    /// assert_eq!(Referrer::of("mail.google.com"), Referrer::Mail);
    /// assert_eq!(Referrer::of("https://tents.example/"), Referrer::Site);
    /// ```
    pub fn of(address: &str) -> Self {
        let address = address.trim();
        let after_scheme = address.split_once("://").map_or(address, |(_, rest)| rest);
        let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default();
        if host.is_empty() {
            return Self::Direct;
        }
        let host = host.strip_prefix("www.").unwrap_or(host);
        let has = |names: &[&str]| {
            host.split('.').any(|label| names.iter().any(|name| label.eq_ignore_ascii_case(name)))
        };
        if has(&MAIL) {
            Self::Mail
        } else if has(&SEARCH) {
            Self::Search
        } else if has(&SOCIAL) || SOCIAL_HOSTS.iter().any(|short| host.eq_ignore_ascii_case(short)) {
            Self::Social
        } else {
            Self::Site
        }
    }

    /// Returns its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Search => "search",
            Self::Social => "social",
            Self::Mail => "mail",
            Self::Site => "site",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_referrer_is_told_by_its_host_alone() {
        let cases = [
            ("", Referrer::Direct),
            ("https://", Referrer::Direct),
            ("https://user:password@search.yahoo.co.jp:443/?p=tents", Referrer::Search),
            ("https://l.facebook.com/l.php?u=https://google.com", Referrer::Social),
            ("https://t.co/abc", Referrer::Social),
            ("HTTPS://WWW.BING.COM/", Referrer::Search),
            ("android-app://com.google.android.gm", Referrer::Search),
            ("https://outlook.live.com/mail/", Referrer::Mail),
            ("https://notgoogle.example/google", Referrer::Site),
            ("not a host at all", Referrer::Site),
        ];
        for (address, expected) in cases {
            assert_eq!(Referrer::of(address), expected, "{address:?}");
        }
    }

    #[test]
    fn each_word_names_its_device() {
        for device in [Device::Desktop, Device::Phone, Device::Tablet, Device::Tv] {
            assert_eq!(Device::of(device.as_str()), device);
        }
        assert_eq!(Device::of(" "), Device::Unknown);
        for (index, device) in Device::ALL.into_iter().enumerate() {
            assert_eq!(device as usize, index);
        }
    }
}
