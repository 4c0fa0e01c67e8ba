//! Tokens of services and of users, and an edge that asks for them.

use super::{FakeCentral, SITE, guest};
use axum::Router;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use nearfield_edge::auth::{Access, Grants, Scope, UserKeys};
use nearfield_edge::watched::Watched;
use nearfield_edge::{Edge, Options, app};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Writes a file of tokens that only its owner may read.
pub(crate) fn tokens(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("tokens");
    std::fs::write(&path, text).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    path
}

/// The key that the site signs its users' tokens with.
pub(crate) fn site_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Signs a user's token, by hand: what any library for JSON Web Tokens would make.
pub(crate) fn signed(key: &SigningKey, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).to_bytes()))
}

pub(crate) fn now_s() -> u64 {
    nearfield_edge::system_now_ms() / 1000
}

/// A token for a user that holds for a minute.
pub(crate) fn user_token(user: &str) -> String {
    let claims = json!({ "sub": user, "aud": SITE, "exp": now_s() + 60 });
    signed(&site_key(9), &json!({ "alg": "EdDSA", "typ": "JWT" }), &claims)
}

/// An edge with a token for each scope, and a key for users' tokens.
pub(crate) struct Guard {
    pub(crate) app: Router,
    pub(crate) edge: Arc<Edge>,
    pub(crate) folder: TempDir,
    _central: FakeCentral,
}

/// Returns the token of a scope.
pub(crate) fn token_of(scope: Scope) -> String {
    format!("{}-0123456789-0123456789-0123456789", scope.name())
}

impl Guard {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let central = FakeCentral::start();
        let lines: String =
            Scope::ALL.map(|scope| format!("{} {}\n", token_of(scope), scope.name())).concat();
        let services = Watched::open(&tokens(folder.path(), &lines), Grants::from_file).unwrap();
        let keys = folder.path().join("user-keys");
        std::fs::write(&keys, format!("# the site\n2026 {}\n", hex(site_key(9).verifying_key().as_bytes())))
            .unwrap();
        let users = Watched::open(&keys, UserKeys::from_file).unwrap();
        let access = Access::Tokens { services: Some(Arc::new(services)), users: Some(Arc::new(users)) };
        let options = Options { access, ..central.options(folder.path()) };
        let edge = Edge::start(options, &guest()).await.unwrap();
        Self { app: app(Arc::clone(&edge)), edge, folder, _central: central }
    }

    /// Returns a user's token that ends so many seconds from now.
    pub(crate) fn token(&self, user: &str, site: &str, seconds: i64) -> String {
        let claims = json!({ "sub": user, "aud": site, "exp": now_s().saturating_add_signed(seconds) });
        signed(&site_key(9), &json!({ "alg": "EdDSA", "typ": "JWT" }), &claims)
    }
}
