//! Where events go: a file, a server, or both. A thread of its own takes them there, so that no run waits for a server.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, ReqwestConnector};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::project::OpenLineage;
use crate::stores;

/// After so many events in a row that did not arrive the server is left alone.
const PATIENCE: usize = 3;

/// How long the end of a run waits for what is still to be sent.
const LAST_WAIT: Duration = Duration::from_secs(15);

/// Takes events away.
pub(super) struct Transport {
    queue: Option<Sender<Value>>,
    done: Receiver<Vec<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Transport {
    /// Starts the thread.
    pub(super) fn start(folder: &Path, settings: &OpenLineage) -> Self {
        let (queue, events) = mpsc::channel::<Value>();
        let (tell, done) = mpsc::channel();
        let (file, server) = (settings.file.as_ref().map(|path| folder.join(path)), Server::new(settings));
        let work = move || {
            let mut problems = Vec::new();
            let mut lines = file.and_then(|path| note(&mut problems, open(&path)));
            let mut server = server.and_then(|server| note(&mut problems, server));
            for event in events {
                let line = event.to_string();
                if let Some(file) = &mut lines
                    && let Err(error) = writeln!(file, "{line}")
                {
                    problems.push(format!("its file cannot be written to: {error}"));
                    lines = None;
                }
                if let Some(server) = &mut server {
                    server.send(line);
                }
            }
            problems.extend(server.and_then(Server::problem));
            // Nobody listens if the run did not want to wait.
            let _ = tell.send(problems);
        };
        let thread = std::thread::Builder::new().name("openlineage".to_owned()).spawn(work).ok();
        Self { queue: Some(queue), done, thread }
    }

    /// Sends an event, some time.
    pub(super) fn send(&self, event: Value) {
        // A thread that ended has told why.
        let _ = self.queue.as_ref().map(|queue| queue.send(event));
    }

    /// Waits until all is sent, though not for ever; says what went wrong.
    pub(super) fn finish(mut self) -> Vec<String> {
        self.queue = None;
        match self.done.recv_timeout(LAST_WAIT) {
            Ok(problems) => {
                let _ = self.thread.take().map(JoinHandle::join);
                problems
            }
            Err(_) => vec!["not all of them were sent in time".to_owned()],
        }
    }
}

fn note<T>(problems: &mut Vec<String>, made: Result<T, String>) -> Option<T> {
    made.map_err(|why| problems.push(why)).ok()
}

fn open(path: &Path) -> Result<File, String> {
    let parent = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let opened = parent.and_then(|()| OpenOptions::new().create(true).append(true).open(path));
    opened.map_err(|error| format!("`{}` cannot be written to: {error}", path.display()))
}

/// A server that events are posted to.
struct Server {
    runtime: Runtime,
    client: HttpClient,
    url: String,
    key: Option<String>,
    timeout: Duration,
    failed: usize,
    in_a_row: usize,
    why: Option<String>,
}

impl Server {
    /// The client of the stores, for an address of its own.
    fn new(settings: &OpenLineage) -> Option<Result<Self, String>> {
        let url = settings.url.clone()?;
        let options = ClientOptions::new().with_allow_http(true).with_timeout(settings.timeout);
        let options = options.with_connect_timeout(settings.timeout);
        let made = || {
            // What goes wrong in an address is found before a request is made of it.
            let parsed =
                url::Url::parse(&url).map_err(|error| format!("`{}`: {error}", stores::without_secret(&url)))?;
            if !matches!(parsed.scheme(), "http" | "https") {
                return Err(format!("`{}` is no address of a server", stores::without_secret(&url)));
            }
            let client = ReqwestConnector::default().connect(&options).map_err(|error| stores::message(&error))?;
            let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
            let key = settings.api_key.as_ref().map(|key| key.reveal().to_owned());
            let (failed, in_a_row) = (0, 0);
            Ok(Self {
                runtime,
                client,
                url: parsed.into(),
                key,
                timeout: settings.timeout,
                failed,
                in_a_row,
                why: None,
            })
        };
        Some(made())
    }

    fn send(&mut self, body: String) {
        if self.in_a_row >= PATIENCE {
            self.failed += 1;
            return;
        }
        let sent = self.request(body).and_then(|request| {
            let answer = self.client.execute(request);
            let answer = self.runtime.block_on(async { tokio::time::timeout(self.timeout, answer).await });
            match answer {
                Err(_) => Err("it did not answer in time".to_owned()),
                Ok(Err(error)) => Err(deepest(&error)),
                Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
                Ok(Ok(answer)) => Err(format!("it answered {}", answer.status())),
            }
        });
        match sent {
            Ok(()) => self.in_a_row = 0,
            Err(why) => {
                self.failed += 1;
                self.in_a_row += 1;
                self.why = Some(why);
            }
        }
    }

    fn request(&self, body: String) -> Result<HttpRequest, String> {
        let wrong = |what: &str| format!("{what} cannot stand in a request");
        let mut request = HttpRequest::new(body.into());
        *request.method_mut() = "POST".parse().map_err(|_| wrong("its method"))?;
        *request.uri_mut() = self.url.parse().map_err(|_| wrong("its address"))?;
        let headers = request.headers_mut();
        headers.insert("content-type", "application/json".parse().map_err(|_| wrong("its type"))?);
        if let Some(key) = &self.key {
            headers.insert("authorization", format!("Bearer {key}").parse().map_err(|_| wrong("its api_key"))?);
        }
        Ok(request)
    }

    fn problem(self) -> Option<String> {
        let why = self.why?;
        let url = stores::without_secret(&self.url);
        Some(format!("{} did not reach `{url}`: {why}", crate::words::plural(self.failed as u64, "event")))
    }
}

/// The words of an error that say what is wrong: those above it name the address.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
