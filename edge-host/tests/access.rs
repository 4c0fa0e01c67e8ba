//! Who may call an edge, and how an edge speaks with central.

mod support;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use nearfield_edge::auth::{Grants, Scope, UserKeys};
use nearfield_edge::watched::Watched;
use nearfield_edge::{Edge, Options, app};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::tokens::{Guard, now_s, signed, site_key, token_of, tokens, user_token};
use support::{FakeCentral, SITE, guest};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tower::ServiceExt;

/// Every route that is not for everyone: method, path, body, the scope that opens it, and whether it is about a user.
const CALLS: [(&str, &str, &str, Scope, bool); 8] = [
    ("POST", "/v1/users/ada/events", r#"{ "kind": "view", "item_id": "tent-1" }"#, Scope::Write, true),
    ("GET", "/v1/users/ada/recommendations", "", Scope::Read, true),
    ("GET", "/v1/users/ada/recommendations/stream?count=0", "", Scope::Read, true),
    ("GET", "/v1/users/ada/recommendations?count=4", "", Scope::Read, true),
    ("GET", "/v1/items/tent-1/similar", "", Scope::Read, false),
    ("GET", "/v1/users/ada", "", Scope::Admin, true),
    ("DELETE", "/v1/users/ada", "", Scope::Admin, true),
    ("GET", "/metrics", "", Scope::Metrics, false),
];

/// Makes one of [`CALLS`]; returns status, error and challenge.
async fn ask(guard: &Guard, call: usize, token: Option<&str>) -> (StatusCode, String, Option<String>) {
    let (method, path, body, ..) = CALLS[call];
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let response = guard.app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let (status, challenge) = (response.status(), response.headers().get("www-authenticate").cloned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let error = body["error"].as_str().unwrap_or_default().to_owned();
    (status, error, challenge.map(|value| value.to_str().unwrap().to_owned()))
}

/// Whether the caller may, whatever comes of the call.
fn let_through(status: StatusCode) -> bool {
    status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN
}

#[tokio::test]
async fn every_route_refuses_a_missing_wrong_expired_or_foreign_token() {
    let guarded = Guard::start().await;
    let eddsa = json!({ "alg": "EdDSA", "typ": "JWT" });
    let claims = |user: &str, site: &str, exp: u64| json!({ "sub": user, "aud": site, "exp": exp });
    let held = claims("ada", SITE, now_s() + 60);
    let unsigned = {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(&json!({ "alg": "none" })), part(&held))
    };
    let mut other_end = user_token("ada");
    other_end.truncate(other_end.len() - 4);
    other_end.push_str("AAAA");
    let refused: Vec<(&str, Option<String>, &str)> = vec![
        ("missing", None, "there is none"),
        ("wrong", Some("guess-guess-guess-guess-guess-guess".into()), "it is not known"),
        ("empty", Some(String::new()), "it is not known"),
        ("expired", Some(signed(&site_key(9), &eddsa, &claims("ada", SITE, now_s() - 60))), "it has run out"),
        (
            "another site's",
            Some(signed(&site_key(9), &eddsa, &claims("ada", "other", now_s() + 60))),
            "it is for another site",
        ),
        ("another key's", Some(signed(&site_key(8), &eddsa, &held)), "its signature is wrong"),
        ("with another end", Some(other_end), "its signature is wrong"),
        ("without a signature", Some(unsigned), "it is no JSON Web Token"),
        (
            "of another algorithm",
            Some(signed(&site_key(9), &json!({ "alg": "HS256" }), &held)),
            "its algorithm is not EdDSA",
        ),
        (
            "of a key of another name",
            Some(signed(&site_key(9), &json!({ "alg": "EdDSA", "kid": "2020" }), &held)),
            "no key of that name is known",
        ),
        (
            "without an end",
            Some(signed(&site_key(9), &eddsa, &json!({ "sub": "ada", "aud": SITE }))),
            "a claim of sub, aud, exp is missing",
        ),
        (
            "not yet good",
            Some(signed(
                &site_key(9),
                &eddsa,
                &json!({ "sub": "ada", "aud": SITE, "exp": now_s() + 90, "nbf": now_s() + 60 }),
            )),
            "it does not hold yet",
        ),
    ];
    for (call, (method, path, _, needed, about_a_user)) in CALLS.into_iter().enumerate() {
        for (what, token, why) in &refused {
            let (status, error, challenge) = ask(&guarded, call, token.as_deref()).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{what}: {method} {path}");
            assert!(error.ends_with(why), "{what}: {error}");
            assert!(token.as_ref().is_none_or(|token| token.is_empty() || !error.contains(token.as_str())));
            assert_eq!(challenge.as_deref(), Some("Bearer"));
        }
        for scope in Scope::ALL {
            let (status, error, _) = ask(&guarded, call, Some(&token_of(scope))).await;
            if scope == needed {
                assert!(let_through(status), "{method} {path}: {error}");
            } else {
                assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} with {}", scope.name());
                assert_eq!(error, format!("the token does not have the scope {}", needed.name()));
            }
        }
        let of_users = [Scope::Read, Scope::Write].contains(&needed);
        let (status, error, _) = ask(&guarded, call, Some(&user_token("ada"))).await;
        assert_eq!(let_through(status), of_users, "{method} {path}: {error}");
        let (status, error, _) = ask(&guarded, call, Some(&user_token("bob"))).await;
        assert_eq!(status == StatusCode::FORBIDDEN, about_a_user || !of_users, "{method} {path}");
        assert_eq!(error.contains("another"), about_a_user, "{error}");
        // A user's token never opens more than its own reading and writing, whatever it says.
        let greedy = json!({ "sub": "ada", "aud": SITE, "exp": now_s() + 60, "scope": "admin metrics read" });
        let (status, ..) = ask(&guarded, call, Some(&signed(&site_key(9), &eddsa, &greedy))).await;
        assert_eq!(let_through(status), needed == Scope::Read, "{method} {path}");
    }
    // What does two things needs both scopes; a batch opens nothing that its calls do not.
    let both = [
        ("/v1/users/ada/observe", r#"{ "events": { "kind": "view", "item_id": "tent-1" } }"#),
        ("/v1/batch", r#"[{ "verb": "erase", "user": "ada" }]"#),
    ];
    for (path, body) in both {
        let post = async |token: Option<String>| {
            let mut request = Request::post(path);
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("bearer {token}"));
            }
            let response =
                guarded.app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice::<Value>(&body).unwrap())
        };
        assert_eq!(post(None).await.0, StatusCode::UNAUTHORIZED);
        let (observe, write) = (path.ends_with("observe"), post(Some(token_of(Scope::Write))).await);
        if observe {
            assert_eq!(write.1["error"], "the token does not have the scope read");
            assert_eq!(post(Some(user_token("ada"))).await.0, StatusCode::OK);
            assert_eq!(post(Some(user_token("bob"))).await.1["code"], "foreign_user");
        } else {
            assert_eq!(write.1[0]["error"], "the token does not have the scope admin");
            assert_eq!(post(Some(user_token("ada"))).await.1[0]["code"], "forbidden");
        }
    }
    let app = &guarded.app;
    for path in ["/livez", "/readyz"] {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        assert_eq!(app.clone().oneshot(request).await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_file_of_tokens_is_read_again_when_it_changes() {
    let guarded = Guard::start().await;
    let (write, other) = (token_of(Scope::Write), "a-new-token-0123456789-0123456789");
    assert_eq!(ask(&guarded, 0, Some(&write)).await.0, StatusCode::OK);
    tokens(guarded.folder.path(), &format!("{other} write\n"));
    let core = guarded.folder.path().join("core.wasm");
    std::fs::write(&core, guest()).unwrap();
    let core = Watched::open(&core, |path: &Path| std::fs::read(path)).unwrap();
    let watching = tokio::spawn(Arc::clone(&guarded.edge).watch_forever(core));
    let until = Instant::now() + Duration::from_secs(20);
    while ask(&guarded, 0, Some(other)).await.0 != StatusCode::OK {
        assert!(Instant::now() < until, "the new token is not known");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ask(&guarded, 0, Some(&write)).await.0, StatusCode::UNAUTHORIZED, "the old one is gone");

    // A file that cannot be used leaves what was there.
    tokens(guarded.folder.path(), "no token\n");
    guarded.edge.refresh_files();
    assert_eq!(ask(&guarded, 0, Some(other)).await.0, StatusCode::OK);
    watching.abort();
}

#[test]
fn a_file_of_tokens_or_keys_is_refused_by_line_without_saying_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let token = token_of(Scope::Write);
    let complaint = |text: &str| Grants::from_file(&tokens(folder.path(), text)).unwrap_err().to_string();
    for (text, end) in [
        (format!("{token}\n"), "tokens:1: the scopes are missing after the token"),
        ("\nshort write\n".into(), "tokens:2: the token has 5 bytes, the least is 32"),
        (format!("{token} write,all\n"), "tokens:1: scope \"all\" is none of write, read, admin, metrics"),
        (
            format!("{token}.a.b write\n"),
            "tokens:1: the token has a dot, by which users' signed tokens are known",
        ),
        ("# none\n".into(), "has no token, so nobody could call"),
    ] {
        let found = complaint(&text);
        assert!(found.ends_with(end) && !found.contains(&token), "{found}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = tokens(folder.path(), &format!("{token} write\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let found = Grants::from_file(&path).unwrap_err().to_string();
        assert!(found.ends_with("has mode 640; only its owner may read it: chmod 600"), "{found}");
        // As a cluster mounts it: somebody else's, for our group. Only root can give a file away.
        if std::os::unix::fs::chown(&path, Some(65_533), None).is_ok() {
            assert!(Grants::from_file(&path).is_ok(), "a file of another's that our group may read");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            assert!(Grants::from_file(&path).is_err(), "a file that everyone may read");
        }
    }
    let keys = |text: &str| {
        let path = folder.path().join("keys");
        std::fs::write(&path, text).unwrap();
        UserKeys::from_file(&path).unwrap_err().to_string()
    };
    assert!(keys("2026 abc\n").ends_with("keys:1: a public key has 64 hex digits, this has 3 characters"));
    assert!(keys("\n").ends_with("has no key"));
    let none = "02".to_owned() + &"00".repeat(31);
    assert!(keys(&none).ends_with("keys:1: the digits are no ed25519 key"), "{}", keys(&none));
}

#[tokio::test]
async fn only_pages_of_an_allowed_origin_may_call() {
    let folder = tempfile::tempdir().unwrap();
    let central = FakeCentral::start();
    let origins = vec!["https://shop.example".parse().unwrap()];
    let app =
        app(Edge::start(Options { origins, ..central.options(folder.path()) }, &guest()).await.unwrap());
    for (origin, allowed) in [("https://shop.example", true), ("https://other.example", false)] {
        let asked = Request::options("/v1/users/ada/events")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type")
            .body(Body::empty());
        let answer = app.clone().oneshot(asked.unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let found =
            answer.headers().get("access-control-allow-origin").map(|origin| origin.to_str().unwrap());
        assert_eq!(found, allowed.then_some(origin));
        let asked =
            Request::get("/v1/users/ada/recommendations").header("origin", origin).body(Body::empty());
        let answer = app.clone().oneshot(asked.unwrap()).await.unwrap();
        assert_eq!(answer.headers().contains_key("access-control-allow-origin"), allowed);
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
