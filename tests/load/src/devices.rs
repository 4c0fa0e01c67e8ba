//! What devices send to central: deltas of a person's touches, each with an id of its own.

use crate::callers::Connections;
use anyhow::{Result, ensure};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use nearfield_engine::golden::Random;
use nearfield_engine::sync::wire::{Outcome, SyncReply, SyncRequest, decode_reply, encode_request};
use nearfield_engine::{Delta, DeltaId, Kind, Lineage, Model, ModelVersion, Touch};
use std::rc::Rc;

/// Items of a delta.
const TOUCHES: u64 = 20;

/// A request to central.
pub(crate) fn post(path: &str, body: Bytes) -> Result<Request<Full<Bytes>>> {
    let request = Request::post(format!("http://site.example{path}")).header("host", "site.example");
    Ok(request.header("content-type", "application/octet-stream").body(Full::new(body))?)
}

/// Asks central for a token, and returns what makes sync bodies of one delta each, with an id for each number.
pub(crate) async fn deltas(
    central: &Connections,
    model: &Model,
) -> Result<Rc<impl Fn(u64) -> Result<Bytes> + use<>>> {
    let token = central.clone().send(post("/v1/device", Bytes::new())?).await?;
    let (lineage, version): (Lineage, ModelVersion) = (model.lineage(), model.version());
    let (rows, dim) = (model.len() as u64, model.dim());
    Ok(Rc::new(move |seed: u64| {
        let mut random = Random(seed);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&seed.to_le_bytes());
        let first = random.draw() % rows;
        let touch = |at: u64| Touch::new(((first + at * 7) % rows) as u32, Kind::Click as u8, at == 0);
        let delta = Delta {
            id: DeltaId(id),
            lineage,
            base_version: version,
            factor_scale: 0.005,
            factor: (0..dim).map(|_| (random.draw() % 21) as i8 - 10).collect(),
            items: (0..TOUCHES).map(touch).collect(),
            share: 1024,
            metrics: Vec::new(),
        };
        let request = SyncRequest {
            site: "shop".to_owned(),
            token: token.to_vec(),
            deltas: vec![delta],
            extensions: Vec::new(),
        };
        Ok(Bytes::from(encode_request(&request)?))
    }))
}

/// Sees that the one delta of a request was taken.
pub(crate) fn acknowledged(body: &[u8]) -> Result<()> {
    let SyncReply { results, .. } = decode_reply(body)?;
    let is_taken = matches!(results[..], [(_, Outcome::Acknowledged)]);
    ensure!(is_taken, "a delta was answered {:?}", results.first().map(|(_, outcome)| outcome));
    Ok(())
}
