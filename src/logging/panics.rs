//! Panics go to the log: what the standard library does with them, writing to stderr, can wait for ever.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::thread;
use std::time::Instant;

use super::sparingly::Sparingly;

/// From now on a panic is a line of the log.
pub(super) fn send_to_log() {
    std::panic::set_hook(Box::new(log_panic));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    static KIND: Sparingly = Sparingly::new();
    let Some(left_out) = KIND.turn(Instant::now()) else { return };
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    let reason = panic_message(panic.payload());
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = match Backtrace::capture() {
        backtrace if backtrace.status() == BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    super::insist(&format!(
        "a thread panicked; this is a defect of the proxy, please report it thread={name:?} at={at} \
         reason={reason:?}{left_out}{backtrace}"
    ));
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message,
        _ => "no message",
    }
}
