//! Parquet files, looked through before they are read: the reader makes room for as many values as the header of a page
//! claims, and for an index of any length, and a process that runs out of memory cannot say which file it was.
//!
//! Only headers of pages are read, which the reader's own API does not show: they are structs of Thrift's compact protocol
//! (`PageHeader` in the format's `parquet.thrift`).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::ops::Range;

use datafusion::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader};

use super::guard;

/// A page may become this large whatever its ratio is.
const HARMLESS: u64 = 64 << 20;
/// No codec of Parquet does better on real columns.
const MAX_RATIO: u64 = 1_000;
/// Bytes of a file that are read at once: most headers are shorter.
const BLOCK: usize = 512;
/// A header holds statistics, which hold nothing deeper.
const MAX_DEPTH: usize = 8;

/// Looks at the headers of all pages of a file.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn check(file: File) -> Result<(), String> {
    let Ok(Ok(metadata)) = guard::call(|| ParquetMetaDataReader::new().parse_and_finish(&file)) else {
        // The reader tells better what is wrong with a footer.
        return Ok(());
    };
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    let mut pages = Pages { file: BufReader::with_capacity(BLOCK, file), at: 0, end: 0 };
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let name = column.column_path().string();
        let bad = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("column `{name}` is cut off"),
            _ => format!("it is damaged at column `{name}`: {error}"),
        };
        let range = range(column, size).map_err(bad)?;
        within(column.offset_index_offset(), column.offset_index_length(), size).map_err(bad)?;
        within(column.column_index_offset(), column.column_index_length(), size).map_err(bad)?;
        within(column.bloom_filter_offset(), column.bloom_filter_length(), size).map_err(bad)?;
        pages.check(range, column.num_values()).map_err(bad)?;
    }
    Ok(())
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Where the pages of a column are, if they are in the file.
fn range(column: &ColumnChunkMetaData, size: u64) -> io::Result<Range<u64>> {
    // Some writers say 0 for no dictionary.
    let dictionary = column.dictionary_page_offset().filter(|at| *at > 0);
    let first = dictionary.map_or(column.data_page_offset(), |at| at.min(column.data_page_offset()));
    part(first, column.compressed_size(), size)
}

/// Refuses an index that is not in the file.
fn within(start: Option<i64>, length: Option<i32>, size: u64) -> io::Result<()> {
    part(start.unwrap_or_default(), length.unwrap_or_default().into(), size).map(drop)
}

fn part(start: i64, length: i64, size: u64) -> io::Result<Range<u64>> {
    let (start, length) = (u64::try_from(start).ok(), u64::try_from(length).ok());
    let end = start.zip(length).and_then(|(start, length)| start.checked_add(length));
    match (start, end) {
        (Some(start), Some(end)) if end <= size => Ok(start..end),
        _ => Err(bad("it claims to be longer than the file")),
    }
}

/// What is wanted of a header.
#[derive(Default)]
struct Header {
    uncompressed: Option<i64>,
    compressed: Option<i64>,
    /// Of a page of data.
    values: Option<i64>,
    /// Of a dictionary.
    entries: Option<i64>,
}

struct Pages {
    file: BufReader<File>,
    at: u64,
    end: u64,
}

impl Pages {
    /// All pages in a range, which together have no more than `values`.
    fn check(&mut self, range: Range<u64>, values: i64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(range.start))?;
        (self.at, self.end) = (range.start, range.end);
        let mut left = values;
        while self.at < self.end && left > 0 {
            let header = self.header()?;
            let bytes = |size: Option<i64>| u64::try_from(size.unwrap_or(-1)).map_err(|_| bad("a size is negative"));
            let (stored, plain) = (bytes(header.compressed)?, bytes(header.uncompressed)?);
            if plain > HARMLESS && plain / MAX_RATIO > stored {
                return Err(bad(&format!("a page claims to decompress to more than {MAX_RATIO} times its size")));
            }
            // The shortest value of a dictionary, an empty text, has the four bytes of its length.
            if header.entries.is_some_and(|entries| u64::try_from(entries).is_err() || entries as u64 > plain) {
                return Err(bad("a dictionary claims to have more values than bytes"));
            }
            if let Some(values) = header.values {
                if !(0..=left).contains(&values) {
                    return Err(bad("a page claims to have more values than its column"));
                }
                left -= values;
            }
            self.pass(stored)?;
        }
        Ok(())
    }

    fn header(&mut self) -> io::Result<Header> {
        let mut header = Header::default();
        self.fields(&mut |pages, field, kind| {
            match (field, kind) {
                (2, 5) => header.uncompressed = Some(pages.number()?),
                (3, 5) => header.compressed = Some(pages.number()?),
                (5 | 8, 12) => header.values = pages.first_number()?,
                (7, 12) => header.entries = pages.first_number()?,
                _ => pages.skip(kind, 0)?,
            }
            Ok(())
        })?;
        Ok(header)
    }

    /// The number that is the first field of a struct: how many values a page has.
    fn first_number(&mut self) -> io::Result<Option<i64>> {
        let mut first = None;
        self.fields(&mut |pages, field, kind| match (field, kind) {
            (1, 5) => {
                first = Some(pages.number()?);
                Ok(())
            }
            _ => pages.skip(kind, 1),
        })?;
        Ok(first)
    }

    /// Each field of a struct: its number, and the type that the protocol gives it.
    fn fields(&mut self, each: &mut dyn FnMut(&mut Self, i64, u8) -> io::Result<()>) -> io::Result<()> {
        let mut field = 0_i64;
        loop {
            let byte = self.byte()?;
            if byte == 0 {
                return Ok(());
            }
            field = match byte >> 4 {
                0 => self.number()?,
                step => field.saturating_add(step.into()),
            };
            each(self, field, byte & 0x0f)?;
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> io::Result<()> {
        match kind {
            1 | 2 => Ok(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            9 | 10 if depth < MAX_DEPTH => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
                // A boolean of a list has a byte of its own.
                let of = if matches!(byte & 0x0f, 1 | 2) { 3 } else { byte & 0x0f };
                (0..count).try_for_each(|_| self.skip(of, depth + 1))
            }
            12 if depth < MAX_DEPTH => self.fields(&mut |pages, _, kind| pages.skip(kind, depth + 1)),
            _ => Err(bad("the header of a page is not one")),
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        if self.at >= self.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let byte = *self.file.fill_buf()?.first().ok_or(io::ErrorKind::UnexpectedEof)?;
        self.file.consume(1);
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(bad("a number has no end"))
    }

    fn number(&mut self) -> io::Result<i64> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.end - self.at {
            return Err(bad("a page claims to be longer than its column"));
        }
        self.file.seek_relative(i64::try_from(bytes).map_err(io::Error::other)?)?;
        self.at += bytes;
        Ok(())
    }
}
