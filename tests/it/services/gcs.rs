//! A stub of Google Cloud Storage in the test itself, which can fail on purpose.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::Server;
use super::bucket::Bucket;
use super::http::{Request, Response};

/// The stub, until it is dropped.
pub struct Gcs {
    pub server: Server,
    shared: Arc<Shared>,
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done; the answer is 503.
    Unavailable,
    /// It is done, and the connection is closed without an answer: nobody is told.
    LostAnswer,
    /// It is done, and the connection is closed after half of the body of the answer.
    CutAnswer,
}

/// A request, for a rule to decide upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// 1 for the first since the rule was set.
    pub number: usize,
    pub method: String,
    /// Empty for a listing.
    pub key: String,
}

type Rule = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

struct Shared {
    bucket: Mutex<Bucket>,
    /// The rule in force, and what was asked since it is.
    rule: Mutex<(Rule, Vec<Call>)>,
    stopped: AtomicBool,
}

/// Starts the stub, with an empty bucket `lake`.
pub fn gcs() -> Gcs {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let key = serde_json::json!({
        "gcs_base_url": endpoint, "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": "",
    });
    let env = vec![("GOOGLE_SERVICE_ACCOUNT_KEY".to_owned(), key.to_string())];
    let rule = Mutex::new((Box::new(|_: &Call| None) as Rule, Vec::new()));
    let shared = Arc::new(Shared { bucket: Mutex::new(Bucket::new()), rule, stopped: AtomicBool::new(false) });
    let accepting = Arc::clone(&shared);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if accepting.stopped.load(Ordering::Relaxed) {
                return;
            }
            let shared = Arc::clone(&accepting);
            // A connection that breaks is the client's to notice.
            std::thread::spawn(move || shared.serve(&stream).ok());
        }
    });
    Gcs { server: Server { endpoint, url: "gs://lake".to_owned(), env, process: None }, shared }
}

impl Gcs {
    /// From now on, what goes wrong is decided by this rule. Every fifth request:
    /// `stub.fail(|call| (call.number % 5 == 0).then_some(Fault::Unavailable))`.
    pub fn fail(&self, rule: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        *self.shared.rule.lock().unwrap() = (Box::new(rule), Vec::new());
    }

    /// What was asked since the last [`Self::fail`].
    pub fn calls(&self) -> Vec<Call> {
        self.shared.rule.lock().unwrap().1.clone()
    }

    /// Listings come in pages of so many entries; without this, 1,000.
    pub fn pages_of(&self, entries: usize) {
        self.shared.bucket.lock().unwrap().page = entries;
    }
}

impl Drop for Gcs {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        TcpStream::connect(self.server.endpoint.trim_start_matches("http://")).ok();
    }
}

impl Shared {
    /// Answers the requests of a connection, one after the other, until one side closes it.
    fn serve(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader)? {
            let fault = self.fault(&request);
            let response = match fault {
                Some(Fault::Unavailable) => Response::new(503),
                _ => self.bucket.lock().unwrap().answer(&request),
            };
            let bytes = response.bytes(&request.method);
            match fault {
                Some(Fault::LostAnswer) => return stream.shutdown(Shutdown::Both),
                Some(Fault::CutAnswer) => {
                    let kept = bytes.len().saturating_sub(response.body.len().div_ceil(2));
                    stream.write_all(&bytes[..kept])?;
                    return stream.shutdown(Shutdown::Both);
                }
                _ => stream.write_all(&bytes)?,
            }
            if request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                return stream.shutdown(Shutdown::Both);
            }
        }
        Ok(())
    }

    fn fault(&self, request: &Request) -> Option<Fault> {
        let mut rule = self.rule.lock().unwrap();
        let (decide, calls) = &mut *rule;
        let (method, key) = (request.method.clone(), request.bucket_and_key().1);
        let call = Call { number: calls.len() + 1, method, key };
        let fault = decide(&call);
        calls.push(call);
        fault
    }
}
