//! The admin listener, `[admin]`: what an operator, a load balancer or Prometheus asks the program while it runs. It
//! has a listener and threads of its own, so that it answers when every limit of what it tells about is used up. tiny_http, with
//! which it was made first, ends the process at a length that cannot be allocated, and has no limit of time.
//!
//! - `server.rs` answers requests; `origin.rs` says which of them are not to be trusted.
//! - `view.rs` is what it can see of the rest.
//! - `metrics.rs` and `status.rs` tell of that, to Prometheus and as JSON; `page.html` is for people.
//! - `control.rs` takes orders.

mod control;
mod metrics;
mod origin;
mod server;
mod status;
mod view;

pub(crate) use server::Admin;
pub(crate) use view::View;
