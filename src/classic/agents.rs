//! A stock `ureq::Agent` for each backend.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ureq::Agent;

use crate::balance::Backend;
use crate::config::RouteConfig;
use crate::http::response_head::MAX_HEAD;

/// The agents of backends that a name has moved away from stay until there are so many.
const MOST: usize = 1024;

/// All agents.
#[derive(Debug, Default)]
pub(super) struct Agents(Mutex<HashMap<Key, Agent>>);

/// What tells the connections of one backend from those of others, and the time-outs that the agent was made with.
type Key = (usize, [Duration; 3]);

impl Agents {
    /// The agent of `backend`, which belongs to `pool`, for exchanges of `route`.
    pub(super) fn of(&self, backend: &Backend, route: &RouteConfig, pool: &RouteConfig) -> Agent {
        let mut agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.len() >= MOST {
            agents.clear();
        }
        let times = [route.connect_timeout, route.response_timeout, route.idle_timeout];
        agents.entry((backend.upstream().id(), times)).or_insert_with(|| agent(route, pool)).clone()
    }
}

/// Nothing is added, followed, decoded or taken for an error.
pub(super) fn agent(route: &RouteConfig, pool: &RouteConfig) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent("")
        .accept("")
        .accept_encoding("")
        .proxy(None)
        .allow_non_standard_methods(true)
        .timeout_connect(Some(route.connect_timeout))
        .timeout_recv_response(Some(route.response_timeout))
        .timeout_per_read(Some(route.idle_timeout.max(route.response_timeout)))
        .timeout_per_write(Some(route.response_timeout))
        .max_response_header_size(MAX_HEAD)
        // A head larger than the buffer would look like a lost connection.
        .input_buffer_size(2 * MAX_HEAD)
        .max_idle_connections(pool.keepalive_connections)
        .max_idle_connections_per_host(pool.keepalive_connections)
        .max_idle_age(pool.keepalive_idle)
        .build()
        .into()
}
