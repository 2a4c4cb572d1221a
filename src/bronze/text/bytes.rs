//! A stored file -> plain UTF-8: decompressed, decoded, without byte order mark and skipped lines, within limits.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};

use crate::project::{Compression, SourceOptions};

/// Bytes that are read at once.
const BLOCK: usize = 128 << 10;
/// A file may become this large whatever its ratio is: small files of zeroes are no attack.
const HARMLESS: u64 = 64 << 20;

/// Plain text of a whole file.
pub(super) fn plain(
    file: impl Read + Send + 'static,
    path: &str,
    options: &SourceOptions,
) -> io::Result<Box<dyn BufRead + Send>> {
    let compression = match options.compression.of_file(path) {
        Compression::Auto | Compression::None => None,
        Compression::Gzip => Some(FileCompressionType::GZIP),
        Compression::Bzip2 => Some(FileCompressionType::BZIP2),
        Compression::Xz => Some(FileCompressionType::XZ),
        Compression::Zstd => Some(FileCompressionType::ZSTD),
    };
    let stored = Arc::new(AtomicU64::new(0));
    let compressed = compression.is_some();
    let counted = Counted { inner: BufReader::with_capacity(BLOCK, file), count: Arc::clone(&stored) };
    let inner: Box<dyn Read + Send> = match compression {
        Some(kind) => kind.convert_read(counted).map_err(|error| io::Error::other(error.to_string()))?,
        None => Box::new(counted),
    };
    let limited = Limited {
        inner,
        stored,
        given: 0,
        ratio: if compressed { options.max_decompression_ratio } else { u64::MAX },
        most: options.max_file_bytes.map_or(u64::MAX, |bytes| bytes as u64),
    };
    let mut text: Box<dyn BufRead + Send> = decoded(BufReader::with_capacity(BLOCK, limited), options.encoding)?;
    for _ in 0..options.skip_lines {
        skip_line(&mut text)?;
    }
    Ok(text)
}

/// The lines of plain UTF-8 that begin in a range of a file: `file` stands one byte before it, or at its start.
pub(super) fn lines_of_range(
    file: impl Read + Send + 'static,
    range: Range<u64>,
    options: &SourceOptions,
) -> io::Result<Box<dyn BufRead + Send>> {
    let left = range.end - range.start;
    let file = BufReader::with_capacity(BLOCK, file);
    if range.start == 0 {
        let mut file = file;
        let mark = if file.fill_buf()?.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let (text, left) = (decoded(file, options.encoding)?, left.saturating_sub(mark).max(1));
        return Ok(Box::new(BufReader::with_capacity(BLOCK, LinesWithin { inner: text, left, ended: false })));
    }
    let mut lines = LinesWithin { inner: Box::new(file), left: left + 1, ended: false };
    // The line that the byte before the range belongs to is that of the range before.
    lines.pass_line()?;
    Ok(Box::new(BufReader::with_capacity(BLOCK, lines)))
}

fn decoded(mut bytes: impl BufRead + Send + 'static, encoding: &str) -> io::Result<Box<dyn BufRead + Send>> {
    let encoding = Encoding::for_label(encoding.as_bytes()).unwrap_or(UTF_8);
    let start = bytes.fill_buf()?;
    if encoding == UTF_8 {
        if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
            return Err(bad("it starts with the byte order mark of UTF-16: set `encoding: utf-16` in `options`"));
        }
        if start.starts_with(b"\xef\xbb\xbf") {
            bytes.consume(3);
        }
        return Ok(Box::new(bytes));
    }
    // A mark in the file is right even where YAML says otherwise, as for the two byte orders of UTF-16.
    let decoder = Encoding::for_bom(start).map_or(encoding, |(found, _)| found).new_decoder();
    Ok(Box::new(BufReader::with_capacity(
        BLOCK,
        Decoded { bytes, decoder, name: encoding.name(), text: String::with_capacity(BLOCK), sent: 0, ended: false },
    )))
}

/// Passes over one line without holding it.
fn skip_line(text: &mut Box<dyn BufRead + Send>) -> io::Result<()> {
    loop {
        let buffer = text.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        match buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                text.consume(end + 1);
                return Ok(());
            }
            None => {
                let all = buffer.len();
                text.consume(all);
            }
        }
    }
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// Counts the bytes that are read through it.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Refuses a file that becomes too large.
struct Limited<R> {
    inner: R,
    stored: Arc<AtomicU64>,
    given: u64,
    ratio: u64,
    most: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.given += read as u64;
        if self.given > self.most {
            return Err(bad(format!("it is larger than `max_file_bytes: {}`, after decompression", self.most)));
        }
        let stored = self.stored.load(Ordering::Relaxed);
        if self.given > HARMLESS && self.given / self.ratio > stored {
            return Err(bad(format!(
                "it decompresses to more than {} times its size: raise `max_decompression_ratio` if that is meant",
                self.ratio
            )));
        }
        Ok(read)
    }
}

/// Bytes of another encoding, as UTF-8. Bytes that are no letter are an error, never a replacement character.
struct Decoded<R> {
    bytes: R,
    decoder: Decoder,
    name: &'static str,
    text: String,
    sent: usize,
    ended: bool,
}

impl<R: BufRead> Decoded<R> {
    fn fill(&mut self) -> io::Result<()> {
        self.text.clear();
        self.sent = 0;
        while self.text.is_empty() && !self.ended {
            let buffer = self.bytes.fill_buf()?;
            let last = buffer.is_empty();
            let (result, read) = self.decoder.decode_to_string_without_replacement(buffer, &mut self.text, last);
            self.bytes.consume(read);
            match result {
                DecoderResult::Malformed(..) => return Err(bad(format!("it is not {}", self.name))),
                DecoderResult::InputEmpty if last => self.ended = true,
                DecoderResult::InputEmpty | DecoderResult::OutputFull => {}
            }
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.sent == self.text.len() {
            self.fill()?;
        }
        let count = buffer.len().min(self.text.len() - self.sent);
        buffer[..count].copy_from_slice(&self.text.as_bytes()[self.sent..self.sent + count]);
        self.sent += count;
        Ok(count)
    }
}

/// Lines that begin within a number of bytes; the last one is read to its end.
struct LinesWithin {
    inner: Box<dyn BufRead + Send>,
    left: u64,
    ended: bool,
}

impl LinesWithin {
    fn pass_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.inner.fill_buf()?;
            let within = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            if within == 0 {
                self.ended = true;
                return Ok(());
            }
            let line = buffer[..within].iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let passed = line.unwrap_or(within);
            self.inner.consume(passed);
            self.left -= passed as u64;
            if line.is_some() {
                self.ended = self.left == 0;
                return Ok(());
            }
        }
    }
}

impl Read for LinesWithin {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ended || out.is_empty() {
            return Ok(0);
        }
        let buffer = self.inner.fill_buf()?;
        let mut count = buffer.len().min(out.len());
        // The byte before the border decides whether a line goes on beyond it.
        if self.left > 1 {
            count = count.min(usize::try_from(self.left - 1).unwrap_or(usize::MAX));
        } else if let Some(end) = buffer[..count].iter().position(|byte| *byte == b'\n') {
            count = end + 1;
            self.ended = true;
        }
        out[..count].copy_from_slice(&buffer[..count]);
        self.inner.consume(count);
        self.left = self.left.saturating_sub(count as u64).max(1);
        if count == 0 {
            self.ended = true;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn options() -> SourceOptions {
        SourceOptions::new()
    }

    fn text(bytes: &[u8], path: &str, options: &SourceOptions) -> Result<String, String> {
        let mut text = String::new();
        let read = plain(Cursor::new(bytes.to_vec()), path, options).and_then(|mut r| r.read_to_string(&mut text));
        read.map(|_| text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_line_is_in_exactly_one_range() {
        let file = b"one\ntwo\n\nthree and more\nfour";
        for size in 1..=file.len() as u64 + 1 {
            let mut found = String::new();
            let mut start = 0;
            while start < file.len() as u64 {
                let end = (start + size).min(file.len() as u64);
                let from = usize::try_from(start.saturating_sub(1)).unwrap();
                let part = Cursor::new(file[from..].to_vec());
                lines_of_range(part, start..end, &options()).unwrap().read_to_string(&mut found).unwrap();
                start = end;
            }
            assert_eq!(found.as_bytes(), file, "ranges of {size}");
        }
    }

    #[test]
    fn encodings_are_decoded_and_wrong_ones_refused() {
        let utf16 = SourceOptions { encoding: "UTF-16LE", ..options() };
        let little: Vec<u8> = "\u{feff}é,1".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = "\u{feff}é,1".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(text(&little, "a", &utf16).unwrap(), "é,1");
        assert_eq!(text(&big, "a", &utf16).unwrap(), "é,1");
        assert_eq!(text(&little[2..], "a", &utf16).unwrap(), "é,1");
        assert!(text(&little[..little.len() - 1], "a", &utf16).unwrap_err().contains("not UTF-16LE"));
        assert!(text(&little, "a", &options()).unwrap_err().contains("encoding: utf-16"));
        let latin = SourceOptions { encoding: "windows-1252", ..options() };
        assert_eq!(text(b"caf\xe9", "a", &latin).unwrap(), "café");
        assert_eq!(text("\u{feff}é".as_bytes(), "a", &options()).unwrap(), "é");
    }

    #[test]
    fn lines_are_skipped_and_sizes_limited() {
        let skip = SourceOptions { skip_lines: 2, ..options() };
        assert_eq!(text(b"a\nb\nc\n", "a", &skip).unwrap(), "c\n");
        assert_eq!(text(b"a", "a", &skip).unwrap(), "");
        let small = SourceOptions { max_file_bytes: Some(10), ..options() };
        assert!(text(&[b'a'; 11], "a", &small).unwrap_err().contains("max_file_bytes: 10"));
    }
}
