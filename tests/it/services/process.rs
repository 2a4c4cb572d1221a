//! A server in a process of its own, on ports and in a folder that no other test has.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Ports that one server may take.
const SLOT: u16 = 16;

/// The first port of the first slot, and how many slots there are: all below the ports that systems give to outgoing
/// connections.
const FIRST: u16 = 20_000;
const SLOTS: u16 = 500;

/// On a machine that is busy with other tests, servers take their time.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that ends when this is dropped.
pub struct Process {
    child: Child,
    what: &'static str,
    folder: TempDir,
    ports: Ports,
    /// Files outside of the folder that the server leaves behind when it is killed.
    pub leaves: Vec<PathBuf>,
}

/// A row of free ports on loopback.
///
/// Asking the system for a free port and letting it go again would be a race: tests run in several processes at the same
/// time. So a file is locked for each row; the system lets go of it with the process, however that ends.
pub struct Ports {
    first: u16,
    _lock: File,
}

impl Ports {
    pub fn take() -> Self {
        let folder = std::env::temp_dir().join("lake-test-ports");
        std::fs::create_dir_all(&folder).unwrap();
        let mine = (0..SLOTS).map(|slot| FIRST + slot * SLOT).find_map(|first| {
            let lock = File::create(folder.join(first.to_string())).ok()?;
            lock.try_lock().ok()?;
            let free = (first..first + SLOT).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
            free.then_some(Self { first, _lock: lock })
        });
        mine.expect("no row of free ports")
    }

    /// A port of the row.
    pub fn port(&self, at: u16) -> u16 {
        assert!(at < SLOT);
        self.first + at
    }
}

impl Process {
    /// Starts a program in a fresh folder. What it prints goes to a file there, to be shown if it fails.
    ///
    /// `arguments` is given the folder, and the ports it may use.
    pub fn start(what: &'static str, program: &Path, arguments: impl FnOnce(&mut Command, &Path, &Ports)) -> Self {
        let (folder, ports) = (tempfile::tempdir().unwrap(), Ports::take());
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(program);
        // A server that looks for settings of its user finds none.
        command.current_dir(folder.path()).env("HOME", folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        arguments(&mut command, folder.path(), &ports);
        let child = command.spawn().unwrap_or_else(|error| panic!("{what}: {command:?}: {error}"));
        Self { child, what, folder, ports, leaves: Vec::new() }
    }

    pub fn port(&self, at: u16) -> u16 {
        self.ports.port(at)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something listens at this port, and `works` says so.
    pub fn wait(&mut self, at: u16, mut works: impl FnMut() -> Result<(), String>) {
        let started = Instant::now();
        loop {
            let state = match TcpStream::connect(("127.0.0.1", self.port(at))) {
                Ok(_) => works(),
                Err(error) => Err(error.to_string()),
            };
            let Err(why) = state else { return };
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() || started.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("{} does not answer: {why} ({ended:?})\n{log}", self.what);
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }
}

impl Drop for Process {
    /// Nothing that the server would still write is wanted, so it is not asked to end.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        for path in &self.leaves {
            std::fs::remove_file(path).ok();
        }
    }
}
