//! Errors that are about this machine, not about the backend.

use std::io;

use rustix::io::Errno;

/// Whether a connection could not be made for want of something here: descriptors, memory, buffers, local ports, or the
/// leave of a local firewall or seccomp filter. No backend is held responsible for that.
pub(crate) fn is_ours(error: &io::Error) -> bool {
    const OURS: [Errno; 8] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
        Errno::AGAIN,
        Errno::ACCESS,
        Errno::PERM,
    ];
    error.raw_os_error().is_some_and(|code| OURS.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_ports_is_ours_and_a_refusal_is_not() {
        let is_ours = |errno: Errno| is_ours(&io::Error::from(errno));
        for errno in
            [Errno::ADDRNOTAVAIL, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::PERM]
        {
            assert!(is_ours(errno), "{errno}");
        }
        for errno in
            [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::NETUNREACH, Errno::TIMEDOUT, Errno::NOENT]
        {
            assert!(!is_ours(errno), "{errno}");
        }
    }
}
