//! How DataFusion reads each format.

use std::sync::Arc;

use datafusion::common::config::CsvOptions;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;

use crate::project::{Format, Source};

/// A byte that stands in no text, for files without quotes: CSV readers insist on one.
const NO_QUOTE: u8 = 0;

/// The reader of a source's files.
pub(super) fn reader(source: &Source) -> Arc<dyn FileFormat> {
    let options = &source.options;
    match source.format {
        Format::Csv | Format::Tsv => {
            let mut csv = CsvOptions::default()
                .with_has_header(options.header)
                .with_delimiter(options.delimiter)
                .with_quote(options.quote.unwrap_or(NO_QUOTE))
                .with_newlines_in_values(options.quote.is_some());
            csv.escape = options.escape;
            csv.comment = options.comment;
            Arc::new(CsvFormat::default().with_options(csv))
        }
        Format::Ndjson => Arc::new(JsonFormat::default()),
        Format::Json => Arc::new(JsonFormat::default().with_newline_delimited(false)),
        Format::Parquet => Arc::new(ParquetFormat::default()),
    }
}
