//! Arrow IPC files and streams, looked through before they are read: Arrow's reader allocates whatever length a file
//! claims, and a process that runs out of memory cannot say which file it was.

use std::io::{self, SeekFrom};
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::convert::fb_to_schema;
use datafusion::arrow::ipc::{Message, RecordBatch, root_as_footer, root_as_message};

use super::guard;
use crate::stores::OpenFile;

/// What a file begins and ends with; a stream does not.
const MAGIC: &[u8; 6] = b"ARROW1";
/// What a message of a stream begins with, since version 0.15.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// A compressed buffer may become this large whatever its ratio is.
const HARMLESS: u64 = 64 << 20;
/// No codec of Arrow does better on real columns.
const MAX_RATIO: u64 = 1_000;

/// What is known of a file that can be read.
pub(super) struct Checked {
    /// Its columns.
    pub(super) schema: SchemaRef,
    /// It is a stream.
    pub(super) stream: bool,
}

/// Looks through the metadata of a file.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn check(mut file: Box<dyn OpenFile>) -> Result<Checked, String> {
    let checked = guard::call(|| Check::new(file.as_mut()).and_then(|mut check| check.all()));
    checked.map_err(|error| error.to_string())?.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut off".to_owned(),
        _ => error.to_string(),
    })
}

struct Check<'a> {
    file: &'a mut dyn OpenFile,
    size: u64,
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl<'a> Check<'a> {
    fn new(file: &'a mut dyn OpenFile) -> io::Result<Self> {
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, size })
    }

    fn all(&mut self) -> io::Result<Checked> {
        let start = self.bytes(0, self.size.min(MAGIC.len() as u64))?;
        if start == MAGIC { self.file() } else { self.stream() }
    }

    /// Bytes of the file; never more than it has.
    fn bytes(&mut self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        if at.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(bad("it claims to be longer than it is"));
        }
        self.file.seek(SeekFrom::Start(at))?;
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self, at: u64) -> io::Result<u64> {
        let bytes = self.bytes(at, 4)?;
        let number = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        u64::try_from(number).map_err(|_| bad("a length in it is negative"))
    }

    fn file(&mut self) -> io::Result<Checked> {
        let end = self.size.checked_sub(10).ok_or_else(|| bad("it is cut off"))?;
        if self.bytes(end + 4, 6)? != MAGIC {
            return Err(bad("it is cut off: its end is not that of an Arrow file"));
        }
        let length = self.number(end)?;
        let start = end.checked_sub(length).ok_or_else(|| bad("its footer claims to be longer than it is"))?;
        let bytes = self.bytes(start, length)?;
        let footer = root_as_footer(&bytes).map_err(|error| bad(&format!("its footer is damaged: {error}")))?;
        let blocks = footer.dictionaries().into_iter().flatten().chain(footer.recordBatches().into_iter().flatten());
        for block in blocks {
            let lengths = [block.offset(), block.metaDataLength().into(), block.bodyLength()];
            let [at, metadata, body] = lengths.map(|length| u64::try_from(length).unwrap_or(u64::MAX));
            let message = self.bytes(at, metadata)?;
            let start = if message.starts_with(&CONTINUATION) { 8 } else { 4 };
            let message = message.get(start..).ok_or_else(|| bad("a block in it is too short"))?;
            self.message(message, at + metadata, body)?;
        }
        let schema = footer.schema().ok_or_else(|| bad("its footer has no schema"))?;
        Ok(Checked { schema: Arc::new(fb_to_schema(schema)), stream: false })
    }

    fn stream(&mut self) -> io::Result<Checked> {
        let (mut at, mut schema) = (0, None);
        while at < self.size {
            if self.bytes(at, 4)? == CONTINUATION {
                at += 4;
            }
            let length = self.number(at)?;
            if length == 0 {
                break;
            }
            let bytes = self.bytes(at + 4, length)?;
            at += 4 + length;
            let message = root_as_message(&bytes).map_err(|_| bad("it is neither an Arrow file nor a stream"))?;
            if let Some(found) = message.header_as_schema() {
                schema.get_or_insert_with(|| Arc::new(fb_to_schema(found)));
            }
            let body = u64::try_from(message.bodyLength()).unwrap_or(u64::MAX);
            self.message(&bytes, at, body)?;
            at += body;
        }
        let schema = schema.ok_or_else(|| bad("it is neither an Arrow file nor a stream"))?;
        Ok(Checked { schema, stream: true })
    }

    /// A message whose body stands at `at`.
    fn message(&mut self, bytes: &[u8], at: u64, length: u64) -> io::Result<()> {
        if at.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(bad("it is cut off, or claims to be longer than it is"));
        }
        let message = root_as_message(bytes).map_err(|error| bad(&format!("a message in it is damaged: {error}")))?;
        match batch_of(&message) {
            Some(batch) => self.buffers(&batch, at, length),
            None => Ok(()),
        }
    }

    /// Buffers inside of the body, and those that are compressed not of a size that nobody means.
    fn buffers(&mut self, batch: &RecordBatch<'_>, body: u64, body_length: u64) -> io::Result<()> {
        for buffer in batch.buffers().into_iter().flatten() {
            let [at, length] = [buffer.offset(), buffer.length()].map(|n| u64::try_from(n).unwrap_or(u64::MAX));
            if at.checked_add(length).is_none_or(|end| end > body_length) {
                return Err(bad("a column in it claims to be longer than it is"));
            }
            if batch.compression().is_some() && length >= 8 {
                let bytes = self.bytes(body + at, 8)?;
                let plain = i64::from_le_bytes(bytes.try_into().unwrap_or_default());
                let plain = u64::try_from(plain).unwrap_or_default();
                if plain > HARMLESS && plain / MAX_RATIO > length {
                    return Err(bad("a column in it decompresses to more than 1000 times its size"));
                }
            }
        }
        Ok(())
    }
}

fn batch_of<'a>(message: &Message<'a>) -> Option<RecordBatch<'a>> {
    message.header_as_record_batch().or_else(|| message.header_as_dictionary_batch()?.data())
}
