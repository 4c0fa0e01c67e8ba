//! A registry that speaks Confluent's HTTP: Confluent's own, Apicurio under `/apis/ccompat/v7`, Karapace, Redpanda.

use super::{Registry, RegistryError, Schema, SchemaType};
use crate::compatibility;
use crate::frame::SchemaId;
use async_trait::async_trait;
use reqwest::{Client, Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Duration;

/// Longest wait for an answer (choice: schemas are small, and asked for once each).
const WITHIN: Duration = Duration::from_secs(5);

/// A registry at an address.
#[derive(Debug)]
pub struct HttpRegistry {
    base: Url,
    client: Client,
}

/// A schema as a registry tells it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    schema: String,
    /// Left out for Avro.
    schema_type: Option<String>,
    #[serde(default)]
    version: u32,
}

impl Told {
    fn schema(self) -> Option<Schema> {
        let kind = SchemaType::of_word(self.schema_type.as_deref().unwrap_or("AVRO"))?;
        Some(Schema { kind, text: self.schema })
    }
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

impl HttpRegistry {
    /// Returns the registry at a base address, such as `https://user:password@registry.example/apis/ccompat/v7`.
    ///
    /// # Errors
    /// [`RegistryError::Away`] where that is no address that can be asked.
    pub fn new(base: &str) -> Result<Self, RegistryError> {
        let away = |message: String| RegistryError::Away { registry: base.to_owned(), message };
        let with_end = format!("{}/", base.trim_end_matches('/'));
        let url = Url::parse(&with_end).map_err(|error| away(error.to_string()))?;
        if url.cannot_be_a_base() || !["http", "https"].contains(&url.scheme()) {
            return Err(away("is no http or https address".to_owned()));
        }
        // Another crate may have chosen one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(WITHIN).build().map_err(|error| away(error.to_string()))?;
        Ok(Self { base: url, client })
    }

    /// Asks the registry; none where it says that it has no such thing.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<Value>,
    ) -> Result<Option<T>, RegistryError> {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("it is a base").pop_if_empty().extend(path);
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let away = |message: String| RegistryError::Away { registry: self.address(), message };
        let response = request.send().await.map_err(|error| away(error.without_url().to_string()))?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                response.json().await.map(Some).map_err(|error| away(error.without_url().to_string()))
            }
            status => {
                let said: String = response.text().await.unwrap_or_default().chars().take(300).collect();
                Err(away(format!("{status}: {said}")))
            }
        }
    }

    /// The address without what only the registry should know.
    fn address(&self) -> String {
        let mut base = self.base.clone();
        // An address with a host takes both.
        let _ = base.set_username("");
        let _ = base.set_password(None);
        base.to_string()
    }
}

#[async_trait]
impl Registry for HttpRegistry {
    async fn schema(&self, id: SchemaId) -> Result<Option<Schema>, RegistryError> {
        let told: Option<Told> = self.ask(Method::GET, &["schemas", "ids", &id.0.to_string()], None).await?;
        Ok(told.and_then(Told::schema))
    }

    async fn register(&self, subject: &str, schema: &Schema) -> Result<SchemaId, RegistryError> {
        let newest: Option<Told> =
            self.ask(Method::GET, &["subjects", subject, "versions", "latest"], None).await?;
        if let Some(newest) = newest {
            let version = newest.version;
            if let Some(before) = newest.schema() {
                compatibility::backward(&before, schema).map_err(|error| RegistryError::Incompatible {
                    subject: subject.to_owned(),
                    version,
                    error,
                })?;
            }
        }
        let body = json!({ "schema": schema.text, "schemaType": schema.kind.as_str() });
        let registered: Option<Registered> =
            self.ask(Method::POST, &["subjects", subject, "versions"], Some(body)).await?;
        let none = || RegistryError::Away {
            registry: self.address(),
            message: "404 Not Found: it takes no schemas".to_owned(),
        };
        registered.map(|Registered { id }| SchemaId(id)).ok_or_else(none)
    }
}
