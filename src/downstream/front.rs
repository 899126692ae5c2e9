//! The way in and the workers it feeds, whichever engine it is.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

#[cfg(target_os = "linux")]
use super::connection::{Connection, Limits};
use super::listener::Listener;
#[cfg(target_os = "linux")]
use super::native;
#[cfg(target_os = "linux")]
use super::room::Room;
#[cfg(feature = "tiny-http")]
use super::tiny_http::{self, TinyHttp};
#[cfg(target_os = "linux")]
use super::waiting_room::WaitingRoom;
use crate::config::{Engine, ServerConfig};
use crate::gateway::Gateway;
use crate::http::head::HeadLimits;
use crate::workers::pool::Pool;

/// A running engine.
pub(crate) enum Front {
    #[cfg(target_os = "linux")]
    Native { room: WaitingRoom, pool: Arc<Pool<Box<Connection>>> },
    #[cfg(feature = "tiny-http")]
    TinyHttp { engines: Vec<TinyHttp>, pool: Arc<Pool<::tiny_http::Request>> },
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(target_os = "linux")]
            Self::Native { .. } => "Native",
            #[cfg(feature = "tiny-http")]
            Self::TinyHttp { .. } => "TinyHttp",
        })
    }
}

impl Front {
    /// Starts the workers and the threads that feed them.
    pub(crate) fn start(
        config: &ServerConfig,
        listeners: Vec<Listener>,
        gateway: &Arc<Gateway>,
    ) -> io::Result<Self> {
        match config.engine {
            #[cfg(target_os = "linux")]
            Engine::Native => Self::start_native(config, listeners, gateway),
            #[cfg(feature = "tiny-http")]
            Engine::TinyHttp => Self::start_tiny_http(config, listeners, gateway),
            #[cfg(not(all(target_os = "linux", feature = "tiny-http")))]
            engine => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("engine = \"{engine}\" is not part of this build for this system"),
            )),
        }
    }

    #[cfg(target_os = "linux")]
    fn start_native(
        config: &ServerConfig,
        listeners: Vec<Listener>,
        gateway: &Arc<Gateway>,
    ) -> io::Result<Self> {
        let limits = Limits {
            head: head_limits(config),
            header_timeout: config.header_timeout,
            keepalive_timeout: config.keepalive_timeout,
            read_timeout: config.read_timeout,
            min_body_rate: config.min_body_rate,
        };
        let (workers, counters) = (config.workers.get(), &gateway.counters);
        let room = Room::new(config.max_connections.get(), workers, limits, Arc::clone(gateway))?;
        let room = Arc::new(room);
        let shared = Arc::clone(gateway);
        let work = Arc::new(move |connection, worker: crate::workers::pool::Worker<'_>| {
            native::serve(connection, worker, &shared);
        });
        let pool = Arc::new(Pool::start(workers, config.queue_size.get(), Arc::clone(counters), work)?);
        let listeners = listeners
            .into_iter()
            .map(|listener| listener.into_polled(native::LINGER, config.write_timeout))
            .collect::<Result<_, _>>()?;
        let room = WaitingRoom::start(room, listeners, Arc::clone(&pool))?;
        Ok(Self::Native { room, pool })
    }

    #[cfg(feature = "tiny-http")]
    fn start_tiny_http(
        config: &ServerConfig,
        listeners: Vec<Listener>,
        gateway: &Arc<Gateway>,
    ) -> io::Result<Self> {
        let limits = head_limits(config);
        let shared = Arc::clone(gateway);
        let work = Arc::new(move |request, _: crate::workers::pool::Worker<'_>| {
            tiny_http::serve(request, &shared, &limits);
        });
        let counters = Arc::clone(&gateway.counters);
        let pool = Arc::new(Pool::start(config.workers.get(), config.queue_size.get(), counters, work)?);
        let engines = listeners
            .into_iter()
            .map(|listener| TinyHttp::start(listener.into_std(), Arc::clone(&pool), Arc::clone(gateway)))
            .collect::<Result<_, _>>()?;
        Ok(Self::TinyHttp { engines, pool })
    }

    /// Stops accepting and lets what is under way finish. Whether all of it ended before `deadline`.
    pub(crate) fn drain(self, deadline: Instant) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Native { room, pool } => {
                room.drain(deadline);
                Arc::into_inner(pool).is_none_or(|pool| pool.join(deadline))
            }
            #[cfg(feature = "tiny-http")]
            Self::TinyHttp { engines, pool } => {
                for engine in engines {
                    engine.stop();
                }
                Arc::into_inner(pool).is_none_or(|pool| pool.join(deadline))
            }
        }
    }
}

fn head_limits(config: &ServerConfig) -> HeadLimits {
    HeadLimits { max_header_bytes: config.max_header_bytes.get(), max_headers: config.max_headers.get() }
}
