//! What the benchmark needs beside nginx and wrk.
//!
//! - `helper origin LISTEN...`: an origin for what nginx does not serve by itself, see `origin.rs`.
//! - `helper split-origin LISTEN...`: an origin that sends each answer in two pieces, see `split.rs`.
//! - `helper websocket ADDR CONNECTIONS SECONDS`: WebSockets that send one message after the other, see
//!   `websocket.rs`. Prints one line of JSON.
//! - `helper wait KIND ADDR COUNT`: so many clients that wait, see `waiting.rs`. Prints a line of JSON when all wait,
//!   and another one after its input has ended.

mod origin;
mod split;
mod waiting;
mod websocket;

use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

type Fault = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: helper origin LISTEN... | helper split-origin LISTEN... \
    | helper websocket ADDR CONNECTIONS SECONDS | helper wait KIND ADDR COUNT";

/// What an origin keeps in the kernel for a proxy that does not read. Without a bound, a thousand large answers would
/// fill the memory that the machine has for all sockets.
const SEND_BUFFER: u32 = 128 * 1024;
/// Proxies open their connections in bursts.
const BACKLOG: u32 = 4096;

#[tokio::main]
async fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["origin", listen @ ..] if !listen.is_empty() => on_each(listen, origin::serve).await,
        ["split-origin", listen @ ..] if !listen.is_empty() => on_each(listen, split::serve).await,
        ["websocket", addr, connections, seconds] => {
            let time = Duration::from_secs_f64(seconds.parse()?);
            websocket::drive(addr.parse()?, connections.parse()?, time).await
        }
        ["wait", kind, addr, count] => waiting::wait(kind.parse()?, addr.parse()?, count.parse()?).await,
        _ => Err(USAGE.into()),
    }
}

/// Runs `serve` on every address.
async fn on_each<F>(listen: &[&str], serve: impl Fn(TcpListener) -> F) -> Result<(), Fault>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut serving = JoinSet::new();
    for addr in listen {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.bind(addr.parse()?)?;
        serving.spawn(serve(socket.listen(BACKLOG)?));
    }
    while let Some(ended) = serving.join_next().await {
        ended?;
    }
    Ok(())
}
