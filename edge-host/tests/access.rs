//! Who may call an edge, and that an edge speaks with central over TLS.

mod support;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use nearfield_edge::http::access::Access;
use nearfield_edge::{Edge, app};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use support::{FakeCentral, guest};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tower::ServiceExt;

const SHOP: &str = "shop-shop-shop-shop-shop-shop-shop-shop";
const DESK: &str = "desk-desk-desk-desk-desk-desk-desk-desk";

/// Writes a file of tokens that only its owner may read.
fn tokens(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("tokens");
    std::fs::write(&path, text).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    path
}

#[tokio::test]
async fn each_call_needs_a_token_of_its_scope() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let mut options = central.options(folder.path());
    let text = format!("# the shop\n{SHOP} events,recommend\n\n{DESK}  inspect, forget ,metrics\n");
    options.access = Access::from_file(&tokens(folder.path(), &text)).unwrap();
    let app = app(Edge::start(options, &guest()).await.unwrap());
    let ask = async |method: &str, path: &str, token: Option<&str>, body: &'static str| {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
    };
    let events = r#"{ "kind": "view", "item_id": "tent-1" }"#;
    let calls = [
        ("POST", "/v1/users/ada/events", events, SHOP, DESK),
        ("GET", "/v1/users/ada/recommendations", "", SHOP, DESK),
        ("GET", "/v1/users/ada", "", DESK, SHOP),
        ("DELETE", "/v1/users/ada", "", DESK, SHOP),
        ("GET", "/metrics", "", DESK, SHOP),
    ];
    for (method, path, body, _, other) in calls {
        let refused = ask(method, path, None, body).await;
        assert_eq!(
            (refused.status(), &refused.headers()["www-authenticate"]),
            (StatusCode::UNAUTHORIZED, &"Bearer".parse().unwrap())
        );
        assert_eq!(
            ask(method, path, Some("guess-guess-guess-guess-guess-guess"), body).await.status(),
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(
            ask(method, path, Some(other), body).await.status(),
            StatusCode::FORBIDDEN,
            "{method} {path}"
        );
    }
    for (method, path, body, token, _) in calls {
        assert_eq!(ask(method, path, Some(token), body).await.status(), StatusCode::OK, "{method} {path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask("GET", path, None, "").await.status(), StatusCode::OK);
    }
    let metrics =
        ask("GET", "/metrics", Some(DESK), "").await.into_body().collect().await.unwrap().to_bytes();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(metrics.contains("nearfield_edge_refused_total{code=\"forbidden\"} 5"), "{metrics}");
    assert!(metrics.contains("nearfield_edge_refused_total{code=\"unauthorized\"} 10"), "{metrics}");
}

#[test]
fn a_file_of_tokens_is_refused_by_line_without_saying_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let complaint = |text: &str| Access::from_file(&tokens(folder.path(), text)).unwrap_err().to_string();
    for (text, end) in [
        (format!("{SHOP}\n"), "tokens:1: the scopes are missing after the token"),
        ("\nshort events\n".into(), "tokens:2: the token has 5 bytes, the least is 32"),
        (
            format!("{SHOP} events,all\n"),
            "tokens:1: scope \"all\" is none of events, recommend, inspect, forget, metrics",
        ),
        ("# none\n".into(), "has no token, so nobody could call"),
    ] {
        let found = complaint(&text);
        assert!(found.ends_with(end) && !found.contains(SHOP), "{found}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = tokens(folder.path(), &format!("{SHOP} events\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let found = Access::from_file(&path).unwrap_err().to_string();
        assert!(found.ends_with("has mode 640; only its owner may read it: chmod 600"), "{found}");
    }
}

#[test]
fn an_edge_without_tokens_starts_only_where_it_is_told_to_be_insecure_on_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let start = |more: &[&str]| {
        let key = "00".repeat(32);
        let out = Command::new(env!("CARGO_BIN_EXE_nearfield-edge"))
            .args(["--public-key", &key, "--site", "shop", "--central", "http://127.0.0.1:9", "--data"])
            .arg(folder.path())
            .args(more)
            .output()
            .unwrap();
        assert!(!out.status.success());
        String::from_utf8(out.stderr).unwrap()
    };
    assert!(start(&[]).contains("--tokens <FILE>"), "{}", start(&[]));
    let open = start(&["--insecure", "--listen", "0.0.0.0:0"]);
    assert!(
        open.contains("--insecure serves everyone who reaches 0.0.0.0:0: it needs a loopback address"),
        "{open}"
    );
}

#[tokio::test]
async fn an_edge_speaks_with_central_over_tls_and_trusts_only_known_certificates() {
    let mut central = FakeCentral::start();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let service = central.router();
    central.down();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, service) = (acceptor.clone(), service.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(service);
                let _ =
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });

    let folder = tempfile::tempdir().unwrap();
    let mut options = central.options(folder.path());
    options.central = format!("https://localhost:{port}");
    let error = Edge::start(options.clone(), &guest()).await.err().unwrap().to_string();
    assert!(error.contains("certificate"), "{error}");
    options.central_ca = Some(made.cert.pem().into_bytes());
    options.data = folder.path().join("trusting");
    let edge = Edge::start(options.clone(), &guest()).await.unwrap();
    assert!(edge.pool().model().is_some());
    options.central_ca = Some(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec());
    options.data = folder.path().join("other");
    let error = Edge::start(options.clone(), &guest()).await.err().unwrap().to_string();
    assert!(error.contains("the root certificates do not read"), "{error}");
    options.central = "ftp://localhost".to_owned();
    options.central_ca = None;
    options.data = folder.path().join("third");
    let error = Edge::start(options, &guest()).await.err().unwrap();
    assert!(error.to_string().contains("its scheme is \"ftp\", not http or https"), "{error}");
}
