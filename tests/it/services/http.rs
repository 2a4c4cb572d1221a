//! The half of HTTP/1.1 that a stub needs: requests are read whole, answers have a length, connections are kept.

use std::io::{self, BufRead, Read, Write};

use percent_encoding::percent_decode_str;

/// A request with its body.
pub struct Request {
    pub method: String,
    /// As sent: still percent-encoded.
    pub path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// An answer; its length is that of its body.
pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The next request of a connection, or nothing where the other side has closed it.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(first) = line(reader)? else { return Ok(None) };
        let mut words = first.split(' ').map(str::to_owned);
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(malformed(&first)) };
        let mut headers = Vec::new();
        while let Some(text) = line(reader)?.filter(|text| !text.is_empty()) {
            let (name, value) = text.split_once(':').ok_or_else(|| malformed(&text))?;
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let mut request = Self { method, path: path.to_owned(), query, headers, body: Vec::new() };
        request.body = request.read_body(reader)?;
        Ok(Some(request))
    }

    fn read_body(&self, reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if self.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            loop {
                let size = line(reader)?.unwrap_or_default();
                let digits = size.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(digits, 16).map_err(|_| malformed(&size))?;
                exactly(reader, size, &mut body)?;
                if size == 0 {
                    while line(reader)?.is_some_and(|trailer| !trailer.is_empty()) {}
                    return Ok(body);
                }
                line(reader)?;
            }
        }
        if let Some(length) = self.header("content-length") {
            exactly(reader, length.parse().map_err(|_| malformed(length))?, &mut body)?;
        }
        Ok(body)
    }

    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// A parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// The first segment of the path, and all that follows it, decoded.
    pub fn bucket_and_key(&self) -> (String, String) {
        decoded_pair(self.path.trim_start_matches('/'))
    }
}

/// `bucket/key` with percent-encoding, as paths and copy sources have it.
pub fn decoded_pair(text: &str) -> (String, String) {
    let (bucket, key) = text.split_once('/').unwrap_or((text, ""));
    let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    (decoded(bucket), decoded(key))
}

impl Response {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The bytes of the answer. One to `HEAD` has the length of the body, and no body.
    pub fn bytes(&self, method: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.body.len() + 512);
        // No client looks at the reason phrase.
        write!(bytes, "HTTP/1.1 {} -\r\n", self.status).unwrap();
        for (name, value) in &self.headers {
            write!(bytes, "{name}: {value}\r\n").unwrap();
        }
        // These two never have a body, nor a length.
        if !matches!(self.status, 204 | 304) {
            write!(bytes, "content-length: {}\r\n", self.body.len()).unwrap();
        }
        bytes.extend_from_slice(b"\r\n");
        if method != "HEAD" {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// A line without its end; nothing at the end of the stream.
fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut text = String::new();
    let read = reader.read_line(&mut text)?;
    Ok((read > 0).then(|| text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn exactly(reader: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = reader.take(length).read_to_end(body)?;
    if read as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

fn malformed(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}
