//! A small HTTP server for the page, on loopback: `/` is the page, `/events` tells when there is another one.
//!
//! One thread a connection, and few of them: this is for the browser of the person who started it. Requests that name
//! another host are refused, so a page of somebody else's cannot read this one through a name that leads here.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Connections at a time: a browser has six, and there may be some.
const CONNECTIONS: usize = 64;
/// Bytes of a request that are read.
const LONGEST_REQUEST: u64 = 16 << 10;
/// How long a request may take to come, and an answer to go.
const PATIENCE: Duration = Duration::from_secs(20);
/// A silent stream of events says so often that it is still there.
const PULSE: Duration = Duration::from_secs(15);

/// What is served, and changes.
pub struct Site {
    now: Mutex<Now>,
    changed: Condvar,
    connections: AtomicUsize,
}

struct Now {
    page: Arc<str>,
    /// Tells this page from others; it stands in its data, too.
    made: i64,
    /// Why there is no newer one.
    trouble: Option<String>,
    /// Counts every change.
    changes: u64,
}

impl Site {
    /// A site with its first page, and when that was made.
    pub fn new(page: String, made: i64) -> Self {
        let now = Now { page: page.into(), made, trouble: None, changes: 0 };
        Self { now: Mutex::new(now), changed: Condvar::new(), connections: AtomicUsize::new(0) }
    }

    /// Another page takes the place of the last one.
    pub fn replace(&self, page: String, made: i64) {
        let mut now = self.now();
        *now = Now { page: page.into(), made, trouble: None, changes: now.changes + 1 };
        self.changed.notify_all();
    }

    /// There is no newer page; the last one stays.
    pub fn fail(&self, why: &str) {
        let mut now = self.now();
        (now.trouble, now.changes) = (Some(why.to_owned()), now.changes + 1);
        self.changed.notify_all();
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers requests until the program ends.
///
/// # Errors
/// When no connection can be accepted any more.
pub fn serve(listener: &TcpListener, site: &Arc<Site>) -> io::Result<()> {
    let port = listener.local_addr()?.port();
    for stream in listener.incoming() {
        // One that ended before it began is no fault of the listener.
        let Ok(stream) = stream else { continue };
        if site.connections.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS {
            site.connections.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let own = Arc::clone(site);
        let answered = std::thread::Builder::new().name("lake docs".to_owned()).spawn(move || {
            // A browser that goes away in the middle is nobody's fault.
            let _ = answer(&stream, &own, port);
            own.connections.fetch_sub(1, Ordering::SeqCst);
        });
        if answered.is_err() {
            site.connections.fetch_sub(1, Ordering::SeqCst);
        }
    }
    Ok(())
}

/// One request, one answer.
fn answer(stream: &TcpStream, site: &Site, port: u16) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(request) = read(stream)? else { return respond(stream, "400 Bad Request", "text/plain", "", false) };
    let is_head = request.method == "HEAD";
    let plain = |status: &str, text: &str| respond(stream, status, "text/plain; charset=utf-8", text, !is_head);
    if !request.is_for(port) {
        return plain("403 Forbidden", "this server answers to localhost only\n");
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return plain("405 Method Not Allowed", "only GET\n");
    }
    match request.path.as_str() {
        "/" | "/index.html" => {
            let page = Arc::clone(&site.now().page);
            respond(stream, "200 OK", "text/html; charset=utf-8", &page, !is_head)
        }
        "/events" if !is_head => events(stream, site),
        _ => plain("404 Not Found", "there is only one page: /\n"),
    }
}

struct Request {
    method: String,
    path: String,
    host: Option<String>,
}

impl Request {
    fn is_for(&self, port: u16) -> bool {
        let Some(host) = &self.host else { return false };
        let name = host.strip_suffix(&format!(":{port}")).unwrap_or(host);
        matches!(name, "localhost" | "127.0.0.1" | "[::1]")
    }
}

/// The first line and the host of a request; `None` if it is none.
fn read(stream: &TcpStream) -> io::Result<Option<Request>> {
    let mut lines = BufReader::new(stream.take(LONGEST_REQUEST));
    let mut line = String::new();
    let mut next = || -> io::Result<Option<String>> {
        line.clear();
        let is_there = lines.read_line(&mut line)? > 0 && line.ends_with('\n');
        Ok(is_there.then(|| line.trim_end().to_owned()))
    };
    let Some(first) = next()? else { return Ok(None) };
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Ok(None);
    };
    if !version.starts_with("HTTP/1.") {
        return Ok(None);
    }
    let path = target.split('?').next().unwrap_or(target).to_owned();
    let mut request = Request { method: method.to_owned(), path, host: None };
    loop {
        let Some(header) = next()? else { return Ok(None) };
        if header.is_empty() {
            return Ok(Some(request));
        }
        let (name, value) = header.split_once(':').unwrap_or((&header, ""));
        if name.eq_ignore_ascii_case("host") {
            request.host = Some(value.trim().to_ascii_lowercase());
        }
    }
}

fn respond(mut stream: &TcpStream, status: &str, kind: &str, body: &str, with_body: bool) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\ncross-origin-resource-policy: same-origin\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if with_body {
        stream.write_all(body.as_bytes())?;
    }
    stream.flush()
}

/// Server-sent events: which page is the newest, now and whenever that changes.
fn events(mut stream: &TcpStream, site: &Site) -> io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\nconnection: close\r\n\r\nretry: 1000\n\n",
    )?;
    let mut told = None;
    loop {
        let now = site.now();
        let (now, _) = site
            .changed
            .wait_timeout_while(now, PULSE, |now| told == Some(now.changes))
            .unwrap_or_else(PoisonError::into_inner);
        let text = match (told == Some(now.changes), &now.trouble) {
            (true, _) => ": still here\n\n".to_owned(),
            (false, None) => format!("event: page\ndata: {}\n\n", now.made),
            (false, Some(why)) => format!("event: trouble\ndata: {}\n\n", why.replace(['\r', '\n'], " ")),
        };
        told = Some(now.changes);
        // Nobody waits for a slow reader.
        drop(now);
        stream.write_all(text.as_bytes())?;
        stream.flush()?;
    }
}
