//! Central as seen from an edge: four requests, each bounded in time and bytes.

use super::error::SyncError;
use crate::options::Options;
use nearfield_engine::model::manifest::FileRef;
use nearfield_engine::{ModelVersion, limits};
use reqwest::{Certificate, Client, RequestBuilder, StatusCode, header};
use std::time::Duration;

/// Most bytes of a manifest (choice: 64 patches take 3 KiB).
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;

/// Central's HTTP interface.
pub struct Central {
    client: Client,
    base: String,
    model_bytes_max: u64,
}

impl Central {
    /// Makes the client.
    ///
    /// # Errors
    /// [`SyncError::Address`] if the base address is none.
    pub fn new(options: &Options) -> Result<Self, SyncError> {
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
        Ok(Self { client, base, model_bytes_max })
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

    /// Fetches the signed manifest.
    pub(crate) async fn manifest(&self) -> Result<Vec<u8>, SyncError> {
        let request = self.client.get(format!("{}/v1/model/latest", self.base));
        self.fetch("manifest", request, MANIFEST_BYTES_MAX).await
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
        // One byte more than promised is enough to see that the length is wrong.
        let bytes = self.fetch(what, self.client.get(url), file.bytes).await?;
        file.check(&bytes)?;
        Ok(bytes)
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
