//! `serve`: the listeners, and an orderly end.

use anyhow::{Context, bail};
use nearfield_central::condition::Failure;
use nearfield_central::http::listener::{Connections, serve};
use nearfield_central::{Config, Service, admin_app, app, metrics_app};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Longest time that open connections get to finish.
const DRAIN: Duration = Duration::from_secs(5);

/// How often the rate limits forget who has not asked for a while.
const FORGET_IDLE: Duration = Duration::from_secs(60);

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
    let config = &service.config;
    let public = bind(config.listen).await?;
    let address = public.local_addr()?;
    let metrics = bind_if(config.metrics).await?;
    let admin = bind_if(config.admin).await?;

    let served = service.registry.served();
    tracing::info!(
        site = config.site,
        lineage = %served.lineage,
        version = %served.version,
        rows = served.rows,
        log = service.log.entries()?,
        public_key = service.keys.public_hex(),
        "serving"
    );
    let metrics_address = match &metrics {
        Some(listener) => format!(" metrics http://{}", listener.local_addr()?),
        None => String::new(),
    };
    // The one line that scripts wait for; a closed standard output is no reason to stop.
    let _ = writeln!(
        std::io::stdout(),
        "listening http://{address} site {} lineage {} version {}{metrics_address}",
        config.site,
        served.lineage,
        served.version
    );
    let _ = std::io::stdout().flush();

    let (stop, stopped) = watch::channel(false);
    let connections = Connections::new(config);
    let mut listeners = JoinSet::new();
    listeners.spawn(serve(public, app(service.clone()), connections.clone(), stopped.clone()));
    let private = [(metrics, metrics_app(service.clone())), (admin, admin_app(service.clone()))];
    for (listener, app) in private {
        if let Some(listener) = listener {
            listeners.spawn(serve(listener, app, connections.clone(), stopped.clone()));
        }
    }
    tokio::select! {
        ended = listeners.join_next() => {
            ended.transpose()?;
            bail!("a listener ended");
        }
        () = forget_idle(&service) => {}
        signal = asked_to_stop() => tracing::info!(signal = signal?, "stopping"),
        // A store that fails leaves the models to be served. A thread that panicked is a bug: whoever watches
        // this process starts it anew, which replays the log.
        failure = thread_failed(&service) => return Err(failure.into()),
    }
    stop.send_replace(true);
    if tokio::time::timeout(DRAIN, listeners.join_all()).await.is_err() {
        tracing::warn!("some connections were cut off after {} s", DRAIN.as_secs());
    }
    Ok(())
}

/// Keeps the rate limits from remembering everyone for ever.
async fn forget_idle(service: &Service) {
    let mut ticks = tokio::time::interval(FORGET_IDLE);
    loop {
        ticks.tick().await;
        service.rates.forget_idle();
    }
}

async fn thread_failed(service: &Service) -> Failure {
    match service.condition.failed().await {
        failure @ Failure::Thread(_) => failure,
        Failure::Store => std::future::pending().await,
    }
}

async fn bind_if(address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    match address {
        Some(address) => bind(address).await.map(Some),
        None => Ok(None),
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
