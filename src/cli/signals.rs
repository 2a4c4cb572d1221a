//! SIGINT and SIGTERM: the first one asks what runs to end well, a second one ends the program at once.
//!
//! Nothing is listened to before [`listen`] is called: until then a signal ends the program, as it does by itself.

use std::sync::{LazyLock, Once};

use tokio::sync::watch;

/// Whether this process was asked to end.
static ASKED: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

/// The exit code of a program that did not wait for what it did.
const AT_ONCE: i32 = 130;

/// Takes signals from now on.
pub(super) fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let arrivals = {
            let _inside = runtime.enter();
            Arrivals::new()
        };
        // Without the thread signals would be swallowed; without listeners they end the program.
        let Ok(mut arrivals) = arrivals else { return };
        let listener = std::thread::Builder::new().name("signals".to_owned());
        let _ = listener.spawn(move || {
            runtime.block_on(async {
                while arrivals.next().await {
                    if ASKED.send_replace(true) {
                        std::process::exit(AT_ONCE);
                    }
                }
            });
        });
    });
}

/// Waits until the program is asked to end; at once if it was.
pub(super) async fn asked() {
    // The sender is never dropped.
    let _ = ASKED.subscribe().wait_for(|asked| *asked).await;
}

/// Whether the program was asked to end.
pub(super) fn is_asked() -> bool {
    *ASKED.borrow()
}

#[cfg(unix)]
struct Arrivals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Arrivals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Whether one has come; `false` if none ever will.
    async fn next(&mut self) -> bool {
        tokio::select! {
            arrived = self.interrupt.recv() => arrived.is_some(),
            arrived = self.terminate.recv() => arrived.is_some(),
        }
    }
}

#[cfg(not(unix))]
struct Arrivals;

#[cfg(not(unix))]
impl Arrivals {
    #[expect(clippy::unnecessary_wraps, reason = "as on other systems")]
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> bool {
        tokio::signal::ctrl_c().await.is_ok()
    }
}
