//! When the allocator gives freed pages back to the machine.
//!
//! Usually it does so after a second. What is freed and asked for again from batch to batch has to be cleared by the machine
//! each time then: a tenth of all the work of a large table, up to a fifth of that of a query if it were sooner. But what is
//! kept in the hope that it is asked for again is, beside queries that hold hundreds of megabytes each, a second budget. So
//! pages are given back late, and soon while a process holds much of what it may.

use std::fs;
use std::sync::Once;
use std::thread;
use std::time::Duration;

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};

/// `mi_option_purge_delay` of `mimalloc.h`, in milliseconds, for which the crate has no name.
const PURGE_DELAY: mi_option_t = 15;
const _: () = assert!(libmimalloc_sys::_mi_option_last == 47, "options have other numbers in this version");
/// The delay where memory is short.
const SOON: i64 = 20;
/// The delay where there is enough: a build hardly waits so long for its next query, and a program that only watches does.
const LATE: i64 = 10_000;
/// How often somebody looks.
const EVERY: Duration = Duration::from_millis(20);
/// Of the memory of a run, in hundredths, from where on it is short.
const SHORT: usize = 50;

/// Gives pages back late: for a process that may take what it needs.
pub(super) fn late() {
    set_delay(LATE);
}

/// Watches the process, which should not take more than so many bytes, for as long as it lives.
pub(super) fn when_short(memory: usize) {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let watch = move || {
            set_delay(LATE);
            let mut is_short = false;
            while let Some(held) = resident() {
                if (held > memory / 100 * SHORT) != is_short {
                    is_short = !is_short;
                    set_delay(if is_short { SOON } else { LATE });
                }
                thread::sleep(EVERY);
            }
        };
        let can_watch = resident().is_some() && thread::Builder::new().name("memory".to_owned()).spawn(watch).is_ok();
        if !can_watch {
            set_delay(SOON);
        }
    });
}

/// Bytes of the process that are in memory, where the machine tells.
fn resident() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?;
    Some(kilobytes.trim().parse::<usize>().ok()? << 10)
}

#[allow(unsafe_code)]
fn set_delay(milliseconds: i64) {
    // SAFETY: sets one number in a table of the allocator, which checks the index; other threads only read it, and any delay
    // is one that they may use.
    unsafe { mi_option_set(PURGE_DELAY, milliseconds as _) };
    if milliseconds == SOON {
        // SAFETY: may be called at any time; what waits to be given back goes now.
        unsafe { mi_collect(true) };
    }
}
