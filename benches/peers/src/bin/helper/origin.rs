//! An origin for what nginx does not serve by itself:
//!
//! - `/small`: 72 bytes. `/head`: the fields it was asked with.
//! - `/slow` answers after 20 ms, `/soon` after 2 ms, `/poll` after 15 s.
//! - `/large`: 1 MiB. `/chunked`: eight chunks of 1 KiB. `/events`: an event at once, and another one every 3 s.
//! - `/upload` answers after having read the body.
//! - `/ws`: a WebSocket that sends every message back.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Interval, interval, sleep};

use crate::Fault;
use crate::websocket::ACCEPT;

pub const POLL: Duration = Duration::from_secs(15);
pub const EVENTS_APART: Duration = Duration::from_secs(3);
pub const EVENT: &str = "data: something has happened\n\n";
/// What all of `/large` consists of.
pub const FILLER: u8 = b'x';

const SLOW: Duration = Duration::from_millis(20);
const SOON: Duration = Duration::from_millis(2);
const SMALL: &str = "reverse-proxy benchmark: a small answer of seventy-two bytes, as it is.\n";
const CHUNKS: usize = 8;
const CHUNK: Bytes = Bytes::from_static(&[FILLER; 1024]);
const LARGE: Bytes = Bytes::from_static(&[FILLER; 1024 * 1024]);
/// Without it nginx keeps events until they fill a buffer.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub async fn serve(listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .with_upgrades()
                .await;
        });
    }
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Answer>, Fault> {
    Ok(match request.uri().path() {
        "/small" => text(SMALL),
        "/slow" => {
            sleep(SLOW).await;
            text("slow but steady\n")
        }
        "/soon" => {
            sleep(SOON).await;
            text("soon and steady\n")
        }
        "/poll" => {
            sleep(POLL).await;
            text("at long last\n")
        }
        "/large" => text(LARGE),
        "/chunked" => Response::new(Answer::Pieces { piece: CHUNK, left: CHUNKS, length: None }),
        "/events" => {
            let mut response = Response::new(Answer::Events(interval(EVENTS_APART)));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
            response
        }
        "/upload" => {
            let mut length = 0;
            while let Some(frame) = request.body_mut().frame().await {
                length += frame?.data_ref().map_or(0, Bytes::len);
            }
            text(format!("{length}\n"))
        }
        "/ws" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                if let Ok(upgraded) = upgrade.await {
                    let _ = echo(TokioIo::new(upgraded)).await;
                }
            });
            let mut response = Response::new(Answer::Pieces { piece: Bytes::new(), left: 0, length: None });
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(ACCEPT));
            response
        }
        "/head" => text(format!("{:#?}\n", request.headers())),
        _ => {
            let mut response = text("no such thing\n");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}

fn text(text: impl Into<Bytes>) -> Response<Answer> {
    let piece = text.into();
    let length = Some(piece.len() as u64);
    Response::new(Answer::Pieces { piece, left: 1, length })
}

/// A body.
enum Answer {
    /// `piece`, so many times. Without a length it is sent chunked.
    Pieces { piece: Bytes, left: usize, length: Option<u64> },
    /// Events without end.
    Events(Interval),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Pieces { left: 0, .. } => Poll::Ready(None),
            Self::Pieces { piece, left, .. } => {
                *left -= 1;
                Poll::Ready(Some(Ok(Frame::data(piece.clone()))))
            }
            Self::Events(interval) => interval
                .poll_tick(context)
                .map(|_| Some(Ok(Frame::data(Bytes::from_static(EVENT.as_bytes()))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Pieces { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Pieces { length: Some(length), .. } => SizeHint::with_exact(*length),
            _ => SizeHint::default(),
        }
    }
}

/// Sends every frame back unmasked, until the client closes. Frames of up to 125 bytes are all there is.
async fn echo(mut client: TokioIo<Upgraded>) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    while client.read_buf(&mut buffer).await? > 0 {
        let mut answer = Vec::with_capacity(buffer.len());
        while let [start, second, rest @ ..] = buffer.as_slice() {
            let length = usize::from(second & 0x7f);
            let Some((mask, rest)) = rest.split_first_chunk::<4>() else { break };
            let Some(payload) = rest.get(..length) else { break };
            answer.extend([*start, second & 0x7f]);
            answer.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
            buffer.drain(..6 + length);
        }
        client.write_all(&answer).await?;
    }
    Ok(())
}
