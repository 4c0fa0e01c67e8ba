//! Central as seen from an edge: four requests, each bounded in time and bytes. Model files may lie in a Redis that
//! edges share: what one of them has fetched, the others read there, also while central is away.
//!
//! ```text
//! nf:{site}:manifest          the manifest that was accepted last
//! nf:{site}:file:<blake3>     a pack or a patch, for a week
//! ```
//!
//! Nothing in it is trusted: the manifest is signed, and names the hash of each file.

use super::error::SyncError;
use crate::options::Options;
use crate::redis::Redis;
use nearfield_engine::model::manifest::FileRef;
use nearfield_engine::{ModelVersion, limits};
use reqwest::{Certificate, Client, RequestBuilder, StatusCode, header};
use std::time::Duration;

/// Most bytes of a manifest (choice: 64 patches take 3 KiB).
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;

/// How long a file lies in the shared Redis, in seconds (choice: an edge that comes back after a week takes the pack).
const SHARED_FOR_S: u64 = 7 * 24 * 60 * 60;

/// Central's HTTP interface.
pub struct Central {
    client: Client,
    base: String,
    site: String,
    model_bytes_max: u64,
    shared: Option<Redis>,
}

impl Central {
    /// Makes the client; `shared` holds model files beside central.
    ///
    /// # Errors
    /// [`SyncError::Address`] if the base address is none.
    pub fn new(options: &Options, shared: Option<Redis>) -> Result<Self, SyncError> {
        let base = options.central.trim_end_matches('/').to_owned();
        let address = |message: String| SyncError::Address { base: base.clone(), message };
        let url = reqwest::Url::parse(&base).map_err(|error| address(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(address(format!("its scheme is {:?}, not http or https", url.scheme())));
        }
        // Another part of the process may have chosen the cryptography already; one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder();
        if let Some(pem) = &options.central_ca {
            let roots = Certificate::from_pem_bundle(pem)
                .map_err(|error| address(format!("the root certificates do not read: {error}")))?;
            builder = builder.tls_certs_merge(roots);
        }
        let client = builder
            .timeout(options.central_timeout)
            .connect_timeout(Duration::from_secs(3).min(options.central_timeout))
            .build()
            .map_err(|error| address(error.to_string()))?;
        // Loading takes the pack's bytes and the model beside them.
        let model_bytes_max = options.limits.memory_bytes_max as u64 / 2;
        Ok(Self { client, base, site: options.site.clone(), model_bytes_max, shared })
    }

    /// Asks for a device token.
    pub(crate) async fn device(&self) -> Result<Vec<u8>, SyncError> {
        let token = self.fetch("device", self.post("/v1/device"), limits::TOKEN_BYTES_MAX as u64).await?;
        if token.is_empty() {
            return Err(SyncError::Answer { what: "device", message: "the token is empty".to_owned() });
        }
        Ok(token)
    }

    /// Sends a sync body and returns the reply's bytes.
    pub(crate) async fn sync(&self, body: Vec<u8>) -> Result<Vec<u8>, SyncError> {
        let request =
            self.post("/v1/sync").header(header::CONTENT_TYPE, "application/octet-stream").body(body);
        self.fetch("sync", request, limits::SYNC_BYTES_MAX as u64).await
    }

    /// Fetches the signed manifest, from the shared Redis where central does not answer.
    pub(crate) async fn manifest(&self) -> Result<Vec<u8>, SyncError> {
        let request = self.client.get(format!("{}/v1/model/latest", self.base));
        match self.fetch("manifest", request, MANIFEST_BYTES_MAX).await {
            Err(error) if error.ends_the_round() => {
                self.shared_file(&self.shared_manifest(), MANIFEST_BYTES_MAX).await.ok_or(error)
            }
            answer => answer,
        }
    }

    /// Shares an accepted manifest.
    pub(crate) async fn share_manifest(&self, manifest: &[u8]) {
        self.share(&self.shared_manifest(), manifest).await;
    }

    fn shared_manifest(&self) -> String {
        format!("nf:{{{}}}:manifest", self.site)
    }

    /// Fetches a pack and checks it against the manifest.
    pub(crate) async fn pack(&self, version: ModelVersion, file: &FileRef) -> Result<Vec<u8>, SyncError> {
        self.file("pack", format!("{}/v1/model/{version}.pack", self.base), file).await
    }

    /// Fetches a patch and checks it against the manifest.
    pub(crate) async fn patch(
        &self,
        from: ModelVersion,
        to: ModelVersion,
        file: &FileRef,
    ) -> Result<Vec<u8>, SyncError> {
        self.file("patch", format!("{}/v1/model/{from}..{to}.patch", self.base), file).await
    }

    async fn file(&self, what: &'static str, url: String, file: &FileRef) -> Result<Vec<u8>, SyncError> {
        if file.bytes > self.model_bytes_max {
            return Err(SyncError::TooLarge { what, limit: self.model_bytes_max });
        }
        let key = format!("nf:{{{}}}:file:{}", self.site, blake3::Hash::from_bytes(file.hash).to_hex());
        let shared = self.shared_file(&key, file.bytes).await;
        if let Some(bytes) = shared.filter(|bytes| file.check(bytes).is_ok()) {
            return Ok(bytes);
        }
        // One byte more than promised is enough to see that the length is wrong.
        let bytes = self.fetch(what, self.client.get(url), file.bytes).await?;
        file.check(&bytes)?;
        self.share(&key, &bytes).await;
        Ok(bytes)
    }

    /// Reads what another edge has shared; nothing where it is away, has none, or one of another length.
    async fn shared_file(&self, key: &str, bytes_max: u64) -> Option<Vec<u8>> {
        let mut shared = self.shared.clone()?;
        let length: u64 = redis::cmd("STRLEN").arg(key).query_async(&mut shared).await.ok()?;
        if length == 0 || length > bytes_max {
            return None;
        }
        redis::cmd("GET").arg(key).query_async(&mut shared).await.ok().flatten()
    }

    /// Shares bytes with other edges. Where that fails they ask central.
    async fn share(&self, key: &str, bytes: &[u8]) {
        let Some(mut shared) = self.shared.clone() else { return };
        let mut command = redis::cmd("SET");
        command.arg(key).arg(bytes).arg("EX").arg(SHARED_FOR_S);
        if let Err(error) = command.query_async::<()>(&mut shared).await {
            tracing::warn!(%error, "a model file could not be shared");
        }
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base))
    }

    /// Sends a request and returns the body of a 200, up to `limit` bytes.
    async fn fetch(
        &self,
        what: &'static str,
        request: RequestBuilder,
        limit: u64,
    ) -> Result<Vec<u8>, SyncError> {
        let unreachable = |error: reqwest::Error| {
            // The cause says "connection refused"; the error alone only says that sending failed.
            let mut message = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                message = format!("{message}: {error}");
                cause = error.source();
            }
            SyncError::Unreachable { what, message }
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status != StatusCode::OK {
            let retry_after = response
                .headers()
                .get(header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok())
                .map(Duration::from_secs);
            return Err(SyncError::Status { what, status: status.as_u16(), retry_after });
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() as u64 + chunk.len() as u64 > limit {
                return Err(SyncError::TooLarge { what, limit });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}
