//! `[admin]`.

use toml::Spanned;

use super::ListenAddr;
use super::raw::RawAdmin;
use super::values::Resolver;

/// The listener for operators, load balancers and Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where it listens.
    pub listen_addr: ListenAddr,
    /// Permissions of its Unix-domain socket.
    pub socket_mode: u32,
    /// Whether it takes orders.
    pub control: bool,
    /// `/readyz` fails while no route has a healthy backend.
    pub ready_requires_backends: bool,
}

/// The owner alone.
const SOCKET_MODE: u32 = 0o600;

impl Resolver<'_> {
    /// `None`: there is no such listener.
    pub(super) fn admin(&mut self, raw: RawAdmin) -> Option<AdminConfig> {
        const KEY: &str = "admin.listen_addr";
        let mode = raw.socket_mode.and_then(|mode| self.mode("admin.socket_mode", &mode));
        let text = raw.listen_addr?;
        self.note(KEY, &text.span());
        let listen_addr = match text.get_ref().parse::<ListenAddr>() {
            Ok(addr) => addr,
            Err(error) => {
                self.refuse_text(&text, KEY, error);
                return None;
            }
        };
        self.refuse_remote(&text, &listen_addr, raw.allow_remote.unwrap_or(false));
        if cfg!(not(feature = "admin")) {
            let problem = "this listener is not part of this build; it takes the cargo feature admin";
            self.refuse(&text.span(), KEY, problem.to_owned());
        }
        Some(AdminConfig {
            listen_addr,
            socket_mode: mode.unwrap_or(SOCKET_MODE),
            control: raw.control.unwrap_or(false),
            ready_requires_backends: raw.ready_requires_backends.unwrap_or(false),
        })
    }

    /// There are no passwords: whoever reaches it may ask.
    fn refuse_remote(&mut self, text: &Spanned<String>, addr: &ListenAddr, allow_remote: bool) {
        if !allow_remote && addr.tcp().is_some_and(|addr| !addr.ip().is_loopback()) {
            let problem = "can be reached from other machines, and whoever reaches it may ask; listen on 127.0.0.1 or \
                           unix:/path, or set allow_remote = true if that is meant";
            self.refuse_text(text, "admin.listen_addr", problem);
        }
    }
}
