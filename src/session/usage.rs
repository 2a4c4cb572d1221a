//! What the process has used of the machine.

/// What the process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// The most memory that it held at a time, in bytes.
    pub peak_memory: u64,
    /// Time of processors in the program itself, in seconds.
    pub user_seconds: f64,
    /// Time of processors in the system on behalf of the program, in seconds.
    pub kernel_seconds: f64,
}

/// Asks the allocator, which knows how to ask each system.
#[allow(unsafe_code)]
pub fn usage() -> Usage {
    let (mut user, mut kernel, mut peak, mut other) = (0_usize, 0_usize, 0_usize, [0_usize; 5]);
    let [elapsed, resident, commit, peak_commit, faults] = &mut other;
    // SAFETY: writes a number behind each pointer, and all of them are places of this function.
    unsafe {
        libmimalloc_sys::mi_process_info(
            elapsed,
            &mut user,
            &mut kernel,
            resident,
            &mut peak,
            commit,
            peak_commit,
            faults,
        );
    }
    let seconds = |milliseconds: usize| milliseconds as f64 / 1000.0;
    Usage { peak_memory: peak as u64, user_seconds: seconds(user), kernel_seconds: seconds(kernel) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_that_is_held_is_counted() {
        let before = super::usage().peak_memory;
        let held = vec![1_u8; 64 << 20];
        let after = super::usage().peak_memory;
        assert!(before > 1 << 20 && after >= before.max(held.len() as u64), "{before} {after}");
    }
}
