//! The proxy one would write with Tokio and hyper, for comparison: `hyper-proxy [--tls CERT KEY] LISTEN BACKEND...`.
//!
//! Round robin, keep-alive on both sides, hop-by-hop fields removed, X-Forwarded-For appended, bodies streamed,
//! upgrades joined. No limits, no deadlines, no retries, no logs: what it does not do makes it faster, not slower.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri, http::uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

type Body = Either<Incoming, Empty<Bytes>>;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

struct Proxy {
    client: Client<HttpConnector, Body>,
    backends: Vec<(uri::Authority, HeaderValue)>,
    turn: AtomicUsize,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    const USAGE: &str = "usage: hyper-proxy [--tls CERT KEY] LISTEN BACKEND...";
    let mut arguments = std::env::args().skip(1).peekable();
    let mut tls = None;
    if arguments.next_if_eq("--tls").is_some() {
        let (cert, key) = arguments.next().zip(arguments.next()).ok_or(USAGE)?;
        tls = Some(acceptor(&cert, &key)?);
    }
    let listen: SocketAddr = arguments.next().ok_or(USAGE)?.parse()?;
    let backends = arguments
        .map(|addr| Ok((addr.parse()?, HeaderValue::from_str(&addr)?)))
        .collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
    if backends.is_empty() {
        return Err("no backends".into());
    }
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).set_host(false).build(connector);
    let proxy = Arc::new(Proxy { client, backends, turn: AtomicUsize::new(0) });

    let listener = TcpListener::bind(listen).await?;
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let Ok(address) = HeaderValue::from_str(&peer.ip().to_string()) else { continue };
        let proxy = Arc::clone(&proxy);
        let tls = tls.clone();
        tokio::spawn(async move {
            match tls {
                None => proxy.serve_client(stream, address).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        proxy.serve_client(stream, address).await;
                    }
                }
            }
        });
    }
}

/// TLS as the proxy speaks it: tickets, `http/1.1`, records written as they are.
fn acceptor(cert: &str, key: &str) -> Result<TlsAcceptor, Box<dyn std::error::Error>> {
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config =
        builder.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Proxy {
    /// Everything that comes on a connection.
    async fn serve_client(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        address: HeaderValue,
    ) {
        let service = service_fn(|request| {
            let (proxy, address) = (Arc::clone(&self), address.clone());
            async move { Ok::<_, Infallible>(proxy.serve(request, address).await) }
        });
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
    }

    async fn serve(&self, mut request: Request<Incoming>, client: HeaderValue) -> Response<Body> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (authority, host) = &self.backends[turn % self.backends.len()];
        let upgrade = wanted_upgrade(request.headers());
        let from_client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));

        let (mut parts, body) = request.into_parts();
        let mut target = uri::Parts::default();
        target.scheme = Some(uri::Scheme::HTTP);
        target.authority = Some(authority.clone());
        target.path_and_query = parts.uri.path_and_query().cloned();
        let Ok(target) = Uri::from_parts(target) else { return bare(StatusCode::BAD_REQUEST) };
        parts.uri = target;
        remove_hop_by_hop(&mut parts.headers);
        parts.headers.insert(HOST, host.clone());
        let forwarded_for = match parts.headers.get(X_FORWARDED_FOR) {
            None => client,
            Some(list) => {
                let list = [list.as_bytes(), b", ", client.as_bytes()].concat();
                HeaderValue::from_bytes(&list).unwrap_or(client)
            }
        };
        parts.headers.insert(X_FORWARDED_FOR, forwarded_for);
        if let Some(protocol) = upgrade {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, protocol);
        }

        let request = Request::from_parts(parts, Either::Left(body));
        let Ok(mut response) = self.client.request(request).await else {
            return bare(StatusCode::BAD_GATEWAY);
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(from_client) = from_client else { return bare(StatusCode::BAD_GATEWAY) };
            let from_backend = hyper::upgrade::on(&mut response);
            tokio::spawn(async move {
                if let (Ok(client), Ok(backend)) = tokio::join!(from_client, from_backend) {
                    let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
                }
            });
            return response.map(|_| Either::Right(Empty::new()));
        }
        remove_hop_by_hop(response.headers_mut());
        response.map(Either::Left)
    }
}

fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let connection = headers.get(CONNECTION)?.to_str().ok()?;
    let asked = connection.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    if asked { headers.get(UPGRADE).cloned() } else { None }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(options) = headers.remove(CONNECTION) {
        for name in options.to_str().unwrap_or_default().split(',') {
            headers.remove(name.trim());
        }
    }
    for name in [
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ] {
        headers.remove(name);
    }
}

fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Right(Empty::new()));
    *response.status_mut() = status;
    response
}
