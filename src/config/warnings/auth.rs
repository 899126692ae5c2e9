//! Passwords that more people may come to know than should.

use std::os::unix::fs::PermissionsExt;

use super::{Warnings, Written};
use crate::config::{ListenAddr, ListenConfig};

impl Warnings<'_> {
    pub(super) fn passwords(&mut self, written: &Written<'_>) {
        let Some(auth) = &written.route.rules.basic_auth else { return };
        let key = written.key("basic_auth.users_file");
        let file = auth.users_file.display();
        let is_open = |mode: u32| mode & 0o006 != 0;
        if auth.users_file.metadata().is_ok_and(|metadata| is_open(metadata.permissions().mode())) {
            let problem =
                format!("\"{file}\" can be read or written by everybody on this machine; chmod o-rw");
            self.warn(&key, problem);
        }
        if auth.users.have_different_costs() {
            let problem = format!(
                "\"{file}\" has hashes of different costs: how long an answer takes tells whether there is a name; write all \
                 of them with the same -C of htpasswd"
            );
            self.warn(&key, problem);
        }
        // Behind a proxy that is trusted, TLS ends there.
        if self.config.server.trusted_proxies.is_empty()
            && let Some(open) = self.config.listen_addrs.iter().find(|listen| is_in_the_clear(listen))
        {
            let problem = format!(
                "passwords cross the network in the clear to {}; expected tls = true there, https_redirect = true, or the \
                 proxy where TLS ends in trusted_proxies",
                open.addr
            );
            self.warn(&written.key("basic_auth"), problem);
        }
    }
}

/// Whether others than this machine may see what is sent there.
fn is_in_the_clear(listen: &ListenConfig) -> bool {
    let is_local = match &listen.addr {
        ListenAddr::Tcp(addr) => addr.ip().is_loopback(),
        ListenAddr::Unix(_) => true,
    };
    !listen.tls && !listen.https_redirect && !is_local
}
