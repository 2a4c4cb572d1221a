//! Formats and compressions of files, and the endings that tell them.

/// How a file's bytes become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated values.
    Csv,
    /// Tab-separated values.
    Tsv,
    /// JSON documents: arrays of objects, objects, or what `record_path` points at.
    Json,
    /// A JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Apache Avro object container files.
    Avro,
    /// Apache Arrow IPC, as a file or as a stream.
    Arrow,
    /// A Delta table.
    Delta,
    /// What the ending of each file says.
    Auto,
}

/// The formats by name.
pub(super) const FORMATS: &[(&str, Format)] = &[
    ("csv", Format::Csv),
    ("tsv", Format::Tsv),
    ("json", Format::Json),
    ("ndjson", Format::Ndjson),
    ("parquet", Format::Parquet),
    ("avro", Format::Avro),
    ("arrow", Format::Arrow),
    ("delta", Format::Delta),
    ("auto", Format::Auto),
];

/// What the ending of a file says of its format.
const ENDINGS: &[(&str, Format)] = &[
    ("csv", Format::Csv),
    ("tsv", Format::Tsv),
    ("tab", Format::Tsv),
    ("json", Format::Json),
    ("ndjson", Format::Ndjson),
    ("jsonl", Format::Ndjson),
    ("parquet", Format::Parquet),
    ("avro", Format::Avro),
    ("arrow", Format::Arrow),
    ("feather", Format::Arrow),
    ("ipc", Format::Arrow),
    ("arrows", Format::Arrow),
];

impl Format {
    /// Its name.
    pub fn name(self) -> &'static str {
        FORMATS.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| *name)
    }

    /// Whether columns come from the text of a header line.
    pub fn is_delimited(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv)
    }

    /// Whether rows are text: the formats that `lake` reads itself.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv | Self::Json | Self::Ndjson)
    }

    /// Whether files of the format can be such that the test holds.
    pub(super) fn may_be(self, test: impl Fn(Self) -> bool) -> bool {
        self == Self::Auto || test(self)
    }

    /// File endings that a folder of this format is searched for, without that of a compression.
    pub fn extensions(self) -> Vec<&'static str> {
        let fits = |format: Self| format == self || (self, format) == (Self::Ndjson, Self::Json) || self == Self::Auto;
        ENDINGS.iter().filter(|(_, format)| fits(*format)).map(|(ending, _)| *ending).collect()
    }

    /// Whether a folder of this format holds the file, by its ending.
    pub fn takes(self, path: &str) -> bool {
        let (path, compression) = Compression::split(path);
        let extension = path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let fits = self.extensions().contains(&extension.as_str());
        fits && (compression == Compression::None || self.may_be(Self::is_text))
    }

    /// The format of one file: its ending says it where the source does not; `None` if it does not either.
    pub fn of_file(self, path: &str) -> Option<Self> {
        if self != Self::Auto {
            return Some(self);
        }
        let extension = Compression::split(path).0.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        ENDINGS.iter().find(|(ending, _)| *ending == extension).map(|(_, format)| *format)
    }
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// What its ending says.
    Auto,
    /// Not at all.
    #[default]
    None,
    /// `.gz`
    Gzip,
    /// `.bz2`
    Bzip2,
    /// `.xz`
    Xz,
    /// `.zst`
    Zstd,
}

/// The compressions by name.
pub(super) const COMPRESSIONS: &[(&str, Compression)] = &[
    ("auto", Compression::Auto),
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("bzip2", Compression::Bzip2),
    ("xz", Compression::Xz),
    ("zstd", Compression::Zstd),
];

const COMPRESSED: &[(&str, Compression)] = &[
    (".gz", Compression::Gzip),
    (".gzip", Compression::Gzip),
    (".bz2", Compression::Bzip2),
    (".xz", Compression::Xz),
    (".zst", Compression::Zstd),
    (".zstd", Compression::Zstd),
];

impl Compression {
    /// A path without the ending of its compression, and which one that is.
    fn split(path: &str) -> (&str, Self) {
        let lower = path.to_ascii_lowercase();
        let found = COMPRESSED.iter().find(|(ending, _)| lower.ends_with(ending));
        found.map_or((path, Self::None), |(ending, kind)| (&path[..path.len() - ending.len()], *kind))
    }

    /// How one file is compressed; never [`Compression::Auto`].
    pub fn of_file(self, path: &str) -> Self {
        if self == Self::Auto { Self::split(path).1 } else { self }
    }
}
