//! `serve`: the listeners, and an orderly end.

use anyhow::Context;
use nearfield_central::condition::Failure;
use nearfield_central::{Config, Service, admin_app, app};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Longest time that open connections get to finish.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or ctrl-c.
pub fn run(config: Config) -> anyhow::Result<()> {
    let service = Service::open(config)?;
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime did not start")
        .and_then(|runtime| {
            let result = runtime.block_on(listen(service.clone()));
            runtime.shutdown_timeout(DRAIN);
            result
        });
    service.queue.stop();
    result
}

async fn listen(service: Arc<Service>) -> anyhow::Result<()> {
    let listener = bind(service.config.listen).await?;
    let address = listener.local_addr()?;
    let admin = match service.config.admin {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let (stop, stopped) = watch::channel(false);
    let until = |mut stopped: watch::Receiver<bool>| async move {
        // The sender lives until the end of this function.
        let _ = stopped.wait_for(|stop| *stop).await;
    };

    let served = service.registry.served();
    tracing::info!(
        site = service.config.site,
        lineage = %served.lineage,
        version = %served.version,
        rows = served.rows,
        log = service.log.entries()?,
        public_key = service.keys.public_hex(),
        "serving"
    );
    // The one line that scripts wait for; a closed standard output is no reason to stop.
    let _ = writeln!(
        std::io::stdout(),
        "listening http://{address} site {} lineage {} version {}",
        service.config.site,
        served.lineage,
        served.version
    );
    let _ = std::io::stdout().flush();

    let public = axum::serve(listener, app(service.clone())).with_graceful_shutdown(until(stopped.clone()));
    let mut public = tokio::spawn(public.into_future());
    let mut private = admin.map(|listener| {
        let server = axum::serve(listener, admin_app(service.clone())).with_graceful_shutdown(until(stopped));
        tokio::spawn(server.into_future())
    });
    tokio::select! {
        ended = &mut public => ended?.context("the listener ended")?,
        signal = asked_to_stop() => tracing::info!(signal = signal?, "stopping"),
        // A store that fails leaves the models to be served. A thread that panicked is a bug: whoever watches
        // this process starts it anew, which replays the log.
        failure = thread_failed(&service) => return Err(failure.into()),
    }
    stop.send_replace(true);
    let drained = tokio::time::timeout(DRAIN, async {
        if !public.is_finished() {
            let _ = (&mut public).await;
        }
        if let Some(private) = &mut private {
            let _ = private.await;
        }
    });
    if drained.await.is_err() {
        tracing::warn!("some connections were cut off after {} s", DRAIN.as_secs());
    }
    Ok(())
}

async fn thread_failed(service: &Service) -> Failure {
    match service.condition.failed().await {
        failure @ Failure::Thread(_) => failure,
        Failure::Store => std::future::pending().await,
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

#[cfg(unix)]
async fn asked_to_stop() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        result = tokio::signal::ctrl_c() => Ok(result.map(|()| "ctrl-c")?),
    }
}

#[cfg(not(unix))]
async fn asked_to_stop() -> anyhow::Result<&'static str> {
    tokio::signal::ctrl_c().await?;
    Ok("ctrl-c")
}
