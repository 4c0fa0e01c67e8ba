//! The page's server: static files with the headers that make the page cross-origin isolated.
//!
//! It knows nothing of models or shoppers: the page speaks with central itself.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tower_http::services::{ServeDir, ServeFile};
use tower_http::set_header::SetResponseHeaderLayer;

/// What the server is told.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeOptions {
    /// Folder of the page (index.html, style.css, src).
    #[arg(long, value_name = "DIR")]
    pub www: PathBuf,
    /// Folder of the built npm package `nearfield`.
    #[arg(long, value_name = "DIR")]
    pub package: PathBuf,
    /// Folder with catalogue.json and shoppers.json.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// node_modules with uplot; without it the plot is a plain line of numbers.
    #[arg(long, value_name = "DIR")]
    pub vendor: Option<PathBuf>,
    /// Address of central, as the browser reaches it.
    #[arg(long, value_name = "URL")]
    pub endpoint: String,
    /// Public key of the manifests, 64 hex digits.
    #[arg(long, value_name = "HEX")]
    pub public_key: String,
    /// Name of the site.
    #[arg(long, default_value = "demo")]
    pub site: String,
    /// Address of the edge host, as the browser reaches it.
    #[arg(long, value_name = "URL")]
    pub edge: Option<String>,
    /// The edge takes events through Kafka: the page sends it the person's, and shows both lists.
    #[arg(long, requires = "edge")]
    pub streams: bool,
}

/// Why the page cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A file that the page needs is not there.
    #[error("--{flag} {path}: {missing} is not there")]
    Missing {
        /// The flag that named the folder.
        flag: &'static str,
        /// The folder.
        path: PathBuf,
        /// The file.
        missing: &'static str,
    },
    /// The catalogue cannot be read.
    #[error("{path}: {source}")]
    Catalogue {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The public key has another form.
    #[error("--public-key must be 64 hex digits, but has {0} characters or others than hex digits")]
    PublicKey(usize),
    /// An address has another form.
    #[error("--{flag} must be an http:// or https:// address without spaces, but is {value:?}")]
    Address {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
    },
}

/// What the page reads first, from `/config.json`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    endpoint: String,
    public_key: String,
    site: String,
    named: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    edge: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    streams: bool,
}

/// The routes of the page.
///
/// # Errors
/// A missing file, a catalogue that is none, a key or an address of another form.
pub fn app(options: &ServeOptions) -> Result<Router, ServeError> {
    #[derive(Deserialize)]
    struct Head {
        named: bool,
    }
    need("www", &options.www, "index.html")?;
    need("package", &options.package, "index.js")?;
    need("data", &options.data, "catalogue.json")?;
    need("data", &options.data, "shoppers.json")?;
    if options.public_key.len() != 64 || !options.public_key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ServeError::PublicKey(options.public_key.chars().count()));
    }
    check_address("endpoint", &options.endpoint)?;
    if let Some(edge) = &options.edge {
        check_address("edge", edge)?;
    }
    let path = options.data.join("catalogue.json");
    let text = std::fs::read(&path).unwrap_or_default();
    let head: Head =
        serde_json::from_slice(&text).map_err(|source| ServeError::Catalogue { path, source })?;

    let config = Config {
        endpoint: options.endpoint.trim_end_matches('/').to_owned(),
        public_key: options.public_key.clone(),
        site: options.site.clone(),
        named: head.named,
        edge: options.edge.as_deref().map(|edge| edge.trim_end_matches('/').to_owned()),
        streams: options.streams,
    };
    // Only what the page is made of: neither the crate beside it nor the event log is served.
    let mut router = Router::new()
        .route_service("/", ServeFile::new(options.www.join("index.html")))
        .route_service("/style.css", ServeFile::new(options.www.join("style.css")))
        .route_service("/favicon.svg", ServeFile::new(options.www.join("favicon.svg")))
        .nest_service("/src", ServeDir::new(options.www.join("src")))
        .nest_service("/nearfield", ServeDir::new(&options.package))
        .route_service("/data/catalogue.json", ServeFile::new(options.data.join("catalogue.json")))
        .route_service("/data/shoppers.json", ServeFile::new(options.data.join("shoppers.json")))
        .route(
            "/config.json",
            get({
                let config = config.clone();
                move || async move { axum::Json(config) }
            }),
        );
    if let Some(vendor) = &options.vendor {
        router = router.nest_service("/vendor", ServeDir::new(vendor));
    }
    for (name, value) in headers(&config) {
        router = router.layer(SetResponseHeaderLayer::overriding(name, value));
    }
    Ok(router)
}

/// Isolation gives the page its microsecond clock; the policy lets it speak with central and edge only.
fn headers(config: &Config) -> Vec<(HeaderName, HeaderValue)> {
    let mut reach = format!("'self' {}", config.endpoint);
    if let Some(edge) = &config.edge {
        reach = format!("{reach} {edge}");
    }
    let policy = format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; \
         img-src 'self' data:; connect-src {reach}; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let policy = HeaderValue::from_str(&policy).expect("addresses are checked to be printable ASCII");
    vec![
        (header::CONTENT_SECURITY_POLICY, policy),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-embedder-policy"), HeaderValue::from_static("require-corp")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ]
}

fn need(flag: &'static str, folder: &Path, missing: &'static str) -> Result<(), ServeError> {
    if folder.join(missing).is_file() {
        return Ok(());
    }
    Err(ServeError::Missing { flag, path: folder.to_owned(), missing })
}

fn check_address(flag: &'static str, value: &str) -> Result<(), ServeError> {
    let plain = value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';' && byte != b',');
    if plain && (value.starts_with("http://") || value.starts_with("https://")) {
        return Ok(());
    }
    Err(ServeError::Address { flag, value: value.to_owned() })
}
