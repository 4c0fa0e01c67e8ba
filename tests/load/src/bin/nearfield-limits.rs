//! What any server on this stack could do at best: a handler that answers at once with as many bytes as a list has, and
//! one that answers when redb has committed what it was sent, with all that came meanwhile in one commit.

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use clap::Parser;
use redb::{Database, TableDefinition};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// Most bodies of one commit: as central has it.
const COMMIT_MAX: usize = 1024;

#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Bytes of an answer.
    #[arg(long)]
    answer_bytes: usize,
    /// The file that is committed to.
    #[arg(long)]
    data: PathBuf,
}

/// A body, and who waits until it is durable.
type Waiting = (Bytes, oneshot::Sender<()>);

#[derive(Clone)]
struct Limits {
    answer: Bytes,
    queue: mpsc::Sender<Waiting>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let database = Database::create(&args.data).with_context(|| args.data.display().to_string())?;
    let (queue, waiting) = mpsc::channel();
    std::thread::spawn(move || commit_forever(&database, &waiting));
    let answer = Bytes::from(vec![b'x'; args.answer_bytes]);
    let app = Router::new()
        .route("/answer", post(async |State(limits): State<Limits>, _body: Bytes| limits.answer))
        .route("/commit", post(commit))
        .with_state(Limits { answer, queue });
    let listener = TcpListener::bind(args.listen).await?;
    println!("listening http://{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    axum::serve(listener, app).await?;
    Ok(())
}

async fn commit(State(limits): State<Limits>, body: Bytes) -> StatusCode {
    let (durable, told) = oneshot::channel();
    let is_sent = limits.queue.send((body, durable)).is_ok();
    if is_sent && told.await.is_ok() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
}

/// Commits what waits, all of it together, until nobody sends any more or a write fails.
fn commit_forever(database: &Database, waiting: &mpsc::Receiver<Waiting>) {
    let mut next = 0;
    while let Ok(first) = waiting.recv() {
        let batch: Vec<Waiting> = std::iter::once(first).chain(waiting.try_iter()).take(COMMIT_MAX).collect();
        if let Err(error) = write(database, &batch, next) {
            eprintln!("{error}");
            return;
        }
        next += batch.len() as u64;
        for (_, durable) in batch {
            // Whoever has hung up needs no answer.
            let _ = durable.send(());
        }
    }
}

fn write(database: &Database, batch: &[Waiting], next: u64) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut log = transaction.open_table(LOG)?;
        for ((body, _), number) in batch.iter().zip(next..) {
            log.insert(number, &body[..])?;
        }
    }
    transaction.commit()?;
    Ok(())
}
