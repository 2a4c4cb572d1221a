//! JSON documents -> JSON records, one after the other, without holding a document in memory.
//!
//! A document is an array of records, a record, or an object that holds them where `record_path` points. Only the way
//! to the records is understood here; what stands in a record goes on as it is, to Arrow's reader.

use std::io::{self, BufRead, Read};

/// Reads records, each with a separator after it.
pub(super) struct Records<R> {
    input: R,
    path: Vec<String>,
    state: State,
    /// The objects and arrays that are open on the way to the records.
    stack: Vec<Frame>,
    out: Vec<u8>,
    sent: usize,
    key: Vec<u8>,
    /// `record_path` led to something, or there was no document.
    found: bool,
    documents: usize,
    limit: usize,
    /// What stands after each record.
    separator: u8,
}

/// An open object or array, and how many keys of the path lead to it.
#[derive(Clone, Copy)]
enum Frame {
    Object(usize),
    Array(usize),
}

enum State {
    /// Before a value; an array may also end here.
    Value {
        level: usize,
        may_end: bool,
    },
    /// Before a key, or the end of an object.
    Key {
        level: usize,
    },
    InKey {
        level: usize,
        escaped: bool,
    },
    Colon {
        level: usize,
        wanted: bool,
    },
    /// After a value: a comma, or an end.
    After,
    /// Inside of a value that is copied, or passed over.
    Inside {
        copy: bool,
        depth: usize,
        string: bool,
        escaped: bool,
    },
    /// A number, `true`, `false` or `null`.
    Word {
        copy: bool,
    },
}

/// Bytes that are taken from the input at once.
const CHUNK: usize = 64 << 10;
/// The longest key on the way to the records.
const MAX_NESTING: usize = 1_000;

impl<R: BufRead> Records<R> {
    /// The records of a stream of documents.
    pub(super) fn new(input: R, path: &[String], limit: usize) -> Self {
        Self {
            input,
            path: path.to_vec(),
            state: State::Value { level: 0, may_end: false },
            stack: Vec::new(),
            out: Vec::new(),
            sent: 0,
            key: Vec::new(),
            found: false,
            documents: 0,
            limit,
            separator: b'\n',
        }
    }

    /// With this byte after each record.
    pub(super) fn separated_by(self, separator: u8) -> Self {
        Self { separator, ..self }
    }

    /// Takes in one chunk; `false` at the end of the input.
    fn step(&mut self) -> io::Result<bool> {
        let buffer = self.input.fill_buf()?;
        if buffer.is_empty() {
            self.finish()?;
            return Ok(false);
        }
        let chunk = buffer[..buffer.len().min(CHUNK)].to_vec();
        self.input.consume(chunk.len());
        let mut at = 0;
        while at < chunk.len() {
            at += self.take(&chunk[at..])?;
        }
        Ok(true)
    }

    /// Takes some bytes of a chunk in, at least one unless the state changes.
    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let first = bytes[0];
        match &mut self.state {
            State::Inside { .. } => return Ok(self.inside(bytes)),
            State::Word { copy } => {
                let copy = *copy;
                let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t');
                let end = bytes.iter().position(ends).unwrap_or(bytes.len());
                if copy {
                    self.out.extend_from_slice(&bytes[..end]);
                }
                if end < bytes.len() {
                    self.end_value(copy);
                }
                return Ok(end);
            }
            State::InKey { level, escaped } => {
                let level = *level;
                match first {
                    _ if *escaped => *escaped = false,
                    b'\\' => *escaped = true,
                    b'"' => {
                        let wanted = self.key_is(level);
                        self.state = State::Colon { level, wanted };
                        return Ok(1);
                    }
                    _ => {}
                }
                self.key.push(first);
                if self.key.len() > self.limit {
                    return Err(bad("a key is longer than `max_line_bytes`"));
                }
                return Ok(1);
            }
            _ => {}
        }
        if !first.is_ascii_whitespace() {
            self.structure(first)?;
        }
        Ok(1)
    }

    /// One byte that is not inside of a value.
    fn structure(&mut self, byte: u8) -> io::Result<()> {
        match (&self.state, byte) {
            (State::Value { may_end: true, .. } | State::After, b']') => self.close(false)?,
            (State::Value { level, .. }, _) => {
                let level = *level;
                self.value(byte, level)?;
            }
            (State::Key { level }, b'"') => {
                self.key.clear();
                self.state = State::InKey { level: *level, escaped: false };
            }
            (State::Key { .. } | State::After, b'}') => self.close(true)?,
            (State::Colon { level, wanted: true }, b':') => {
                self.state = State::Value { level: level + 1, may_end: false };
            }
            // A value that leads nowhere: passed over.
            (State::Colon { .. }, b':') => self.state = State::Value { level: usize::MAX, may_end: false },
            (State::After, b',') => {
                self.state = match self.stack.last() {
                    Some(Frame::Object(level)) => State::Key { level: *level },
                    Some(Frame::Array(level)) => State::Value { level: *level, may_end: false },
                    None => return Err(unexpected(byte)),
                }
            }
            _ => return Err(unexpected(byte)),
        }
        Ok(())
    }

    /// The first byte of a value, `level` keys of the path below the top.
    fn value(&mut self, byte: u8, level: usize) -> io::Result<()> {
        if self.stack.is_empty() {
            self.documents += 1;
        }
        let records = level == self.path.len();
        let of_array = matches!(self.stack.last(), Some(Frame::Array(_)));
        match byte {
            // An array on the way, or the one of the records; an array inside of that one is a value.
            b'[' if level < self.path.len() || records && !of_array => self.open(Frame::Array(level))?,
            b'{' if level < self.path.len() => self.open(Frame::Object(level))?,
            b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                let copy = records;
                self.found |= records;
                if copy {
                    self.out.push(byte);
                }
                self.state = match byte {
                    b'{' | b'[' => State::Inside { copy, depth: 1, string: false, escaped: false },
                    b'"' => State::Inside { copy, depth: 0, string: true, escaped: false },
                    _ => State::Word { copy },
                };
            }
            _ => return Err(unexpected(byte)),
        }
        Ok(())
    }

    fn open(&mut self, frame: Frame) -> io::Result<()> {
        if self.stack.len() >= MAX_NESTING {
            return Err(bad("arrays are nested too deep"));
        }
        self.stack.push(frame);
        self.state = match frame {
            Frame::Object(level) => State::Key { level },
            Frame::Array(level) => {
                self.found |= level == self.path.len();
                State::Value { level, may_end: true }
            }
        };
        Ok(())
    }

    fn close(&mut self, object: bool) -> io::Result<()> {
        match (self.stack.pop(), object) {
            (Some(Frame::Object(_)), true) | (Some(Frame::Array(_)), false) => {
                self.state = self.outside();
                Ok(())
            }
            _ => Err(unexpected(if object { b'}' } else { b']' })),
        }
    }

    /// What comes after a value; after a whole document, the next one.
    fn outside(&self) -> State {
        if self.stack.is_empty() { State::Value { level: 0, may_end: false } } else { State::After }
    }

    fn end_value(&mut self, copied: bool) {
        if copied {
            self.out.push(self.separator);
        }
        self.state = self.outside();
    }

    /// Bytes of a value, up to its end.
    fn inside(&mut self, bytes: &[u8]) -> usize {
        let State::Inside { copy, depth, string, escaped } = &mut self.state else { return 0 };
        let mut end = bytes.len();
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            at += 1;
            if *escaped {
                *escaped = false;
            } else if *string {
                match byte {
                    b'"' => *string = false,
                    b'\\' => *escaped = true,
                    _ => {
                        let more = bytes[at..].iter().position(|b| matches!(b, b'"' | b'\\'));
                        at += more.unwrap_or(bytes.len() - at);
                        continue;
                    }
                }
            } else {
                match byte {
                    b'"' => *string = true,
                    b'{' | b'[' => *depth += 1,
                    b'}' | b']' => *depth -= 1,
                    _ => {}
                }
            }
            if *depth == 0 && !*string && !*escaped {
                end = at;
                break;
            }
        }
        let (copy, ended) = (*copy, *depth == 0 && !*string && !*escaped);
        if copy {
            self.out.extend_from_slice(&bytes[..end]);
        }
        if ended {
            self.end_value(copy);
        }
        end
    }

    fn key_is(&self, level: usize) -> bool {
        let Some(wanted) = self.path.get(level) else { return false };
        if self.key == wanted.as_bytes() {
            return true;
        }
        self.key.contains(&b'\\') && {
            let quoted = [b"\"", self.key.as_slice(), b"\""].concat();
            serde_json::from_slice::<String>(&quoted).is_ok_and(|key| key == *wanted)
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        if let State::Word { copy } = self.state {
            self.end_value(copy);
        }
        if !self.stack.is_empty() || !matches!(self.state, State::Value { .. }) {
            return Err(bad("the file ends in the middle of a JSON value"));
        }
        if !self.found && self.documents > 0 && !self.path.is_empty() {
            return Err(bad(&format!("there is nothing at `record_path: {}`", self.path.join("."))));
        }
        Ok(())
    }
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn unexpected(byte: u8) -> io::Error {
    bad(&format!("`{}` is not JSON here", byte.escape_ascii()))
}

impl<R: BufRead> Read for Records<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
            if !self.step()? {
                // At the end, what the last word wrote.
                break;
            }
        }
        let count = buffer.len().min(self.out.len() - self.sent);
        buffer[..count].copy_from_slice(&self.out[self.sent..self.sent + count]);
        self.sent += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str, path: &[&str]) -> Result<Vec<String>, String> {
        let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        // Byte by byte, and at once.
        let both = [1, 8192].map(|capacity| {
            let input = io::BufReader::with_capacity(capacity, text.as_bytes());
            let mut found = String::new();
            let read = Records::new(input, &path, 1000).read_to_string(&mut found);
            read.map(|_| found.lines().map(str::to_owned).collect::<Vec<_>>()).map_err(|error| error.to_string())
        });
        assert_eq!(both[0], both[1], "{text}");
        both.into_iter().next().unwrap()
    }

    #[test]
    fn records_are_found_in_any_layout() {
        let one_line = r#"[{"a": "x]},{"}, {"b": [1, {"c": "\"]"}]},3]"#;
        assert_eq!(records(one_line, &[]).unwrap(), [r#"{"a": "x]},{"}"#, r#"{"b": [1, {"c": "\"]"}]}"#, "3"]);
        assert_eq!(records("{\"a\": 1} {\"a\": 2}\n[{\"a\":3}]", &[]).unwrap().len(), 3);
        assert_eq!(records("[]", &[]).unwrap(), Vec::<String>::new());
        assert_eq!(records(" \n", &[]).unwrap(), Vec::<String>::new());
        assert_eq!(records("[[1], [2]]", &[]).unwrap(), ["[1]", "[2]"]);
    }

    #[test]
    fn a_path_leads_through_objects_and_arrays() {
        let text = r#"{"meta": {"data": [9]}, "data": {"more": [1, 2], "list": [{"x": 1}, {"x": 2}]}, "n": null}"#;
        assert_eq!(records(text, &["data", "list"]).unwrap(), [r#"{"x": 1}"#, r#"{"x": 2}"#]);
        assert_eq!(records(text, &["n"]).unwrap(), ["null"]);
        let pages = r#"[{"items": [1, 2]}, {"next": 3}, {"items": []}, {"items": 4}]"#;
        assert_eq!(records(pages, &["items"]).unwrap(), ["1", "2", "4"]);
        assert_eq!(records(r#"{"\u0061": [1]}"#, &["a"]).unwrap(), ["1"]);
        assert_eq!(records(r#"{"b": [1]}"#, &["a"]).unwrap_err(), "there is nothing at `record_path: a`");
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        for text in ["[{\"a\": 1}", "[1, 2", "[1}", "{\"a\": \"x", "]", "[1]]", "x", "[1 2]", "{\"a\" 1}"] {
            let path: &[&str] = if text.starts_with("{\"a\" ") { &["a"] } else { &[] };
            assert!(records(text, path).is_err(), "{text}");
        }
    }
}
