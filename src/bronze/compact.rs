//! After the load: the rows of files that every table has taken in move into few Parquet files.
//!
//! What is to be done follows from the manifests and the folder alone. A part counts when its index is there, and a raw
//! file goes when an index that names it is on disk. A crash before that leaves a part that nobody knows, after it raw
//! files that are known twice: the next run takes both away. Only one run compacts a folder at a time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use futures::StreamExt;
use object_store::local::LocalFileSystem;

use super::parts::{self, Header, Line, PART, Part, Piece};
use super::{BronzeError, BronzeFile, Listing, file_columns, first_changed, listing, refuse_new_columns, scan};
use crate::catalog::utc;
use crate::fail_points;
use crate::memo::{KeyMaker, Memo};
use crate::names::TableName;
use crate::project::{MetadataColumn, OnBadRow, Source};
use crate::session;
use crate::stores::Store;

/// Files on their way out, below the folder of the source. Not listed.
const LEAVING: &str = ".lake-leaving";
/// Rows of a group, and bytes at which a group ends earlier.
const GROUP_ROWS: usize = 128 << 10;
const GROUP_BYTES: usize = 32 << 20;
/// Rows of a page: what is decoded for the rows of a tiny file.
const PAGE_ROWS: usize = 1 << 10;
/// Rows and times of what was delivered, beside the columns of the source.
const LINEAGE: [MetadataColumn; 4] =
    [MetadataColumn::FilePath, MetadataColumn::FileSize, MetadataColumn::FileModifiedAt, MetadataColumn::RowNumber];

/// A source whose files are compacted, and nobody else compacts.
pub struct Compaction<'a> {
    source: &'a Source,
    /// Where its files are delivered.
    base: PathBuf,
    /// Where its parts are.
    to: PathBuf,
    target_size: u64,
    /// The project's.
    folder: &'a Path,
    /// Held as long as this lives, and let go by the system if the program dies.
    _lock: File,
}

impl<'a> Compaction<'a> {
    /// `None` if another run compacts the folder now.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn begin(
        source: &'a Source,
        to: &str,
        target_size: u64,
        folder: &'a Path,
    ) -> Result<Option<Self>, BronzeError> {
        let base = listing::base_folder(source, folder)?;
        let to = base.join(to);
        let bad = |error: io::Error| failed(source, &to, folder, &error);
        fs::create_dir_all(&to).map_err(bad)?;
        let lock = File::create(to.join(".lock")).map_err(bad)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { source, base, to, target_size, folder, _lock: lock })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(bad(error)),
        }
    }

    /// Moves the rows of `loaded` into parts, and returns how many files that were. `listing` is of now.
    ///
    /// # Errors
    /// What could not be read or written; nothing is lost.
    pub async fn run(
        &self,
        listing: &Listing,
        loaded: Vec<BronzeFile>,
        schema: &SchemaRef,
        session: &SessionState,
        memo: &Memo,
    ) -> Result<usize, BronzeError> {
        self.clean_up(listing).map_err(|error| failed(self.source, &self.to, self.folder, &error))?;
        let columns = self.columns(schema)?;
        let loaded = self.fitting(loaded, &columns, session, memo).await?;
        if loaded.is_empty() {
            return Ok(0);
        }
        let count = loaded.len();
        let (old, again) = self.parts_to_merge(listing, &loaded, &columns);
        let mut files: Vec<BronzeFile> = again.into_iter().chain(loaded.iter().cloned()).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut writer: Option<PartWriter> = None;
        for file in &files {
            if writer.is_none() {
                writer =
                    Some(self.create(&columns).map_err(|error| failed(self.source, &self.to, self.folder, &error))?);
            }
            let Some(open) = &mut writer else { continue };
            self.write(open, file, &columns, session).await?;
            if open.size() >= self.target_size
                && let Some(full) = writer.take()
            {
                self.finish(full).map_err(|error| failed(self.source, &self.to, self.folder, &error))?;
            }
        }
        if let Some(last) = writer {
            self.finish(last).map_err(|error| failed(self.source, &self.to, self.folder, &error))?;
        }
        let raw = loaded.iter().chain(&listing.compacted_too);
        raw.clone()
            .try_for_each(|file| self.remove(file))
            .map_err(|error| failed(self.source, &self.to, self.folder, &error))?;
        old.iter()
            .try_for_each(|part| self.remove_part(part))
            .map_err(|error| failed(self.source, &self.to, self.folder, &error))?;
        Ok(count)
    }

    /// Those of some files whose rows and values all fit. Others stay as they are: what did not fit may fit when the
    /// source is declared otherwise, and a full refresh is to find it.
    async fn fitting(
        &self,
        loaded: Vec<BronzeFile>,
        columns: &SchemaRef,
        session: &SessionState,
        memo: &Memo,
    ) -> Result<Vec<BronzeFile>, BronzeError> {
        let options = &self.source.options;
        let rescues = options.metadata_columns.contains(&MetadataColumn::RescuedData);
        if options.on_bad_row == OnBadRow::Fail && !rescues {
            return Ok(loaded);
        }
        let strict = self.source.strictly();
        let how = format!("{:?} {:?}", strict.format, strict.options);
        let how = KeyMaker::new("whether all rows fit").text(&how).value(columns).finish();
        let mut fitting = Vec::new();
        for file in loaded {
            let stamp = (file.meta.location.as_ref(), file.meta.size, file.modified());
            let key = KeyMaker::new("whether all rows of a file fit").key(how).value(&stamp).finish();
            let fits = match memo.get::<bool>(key) {
                Some(fits) => fits,
                None => {
                    let one = std::slice::from_ref(&file);
                    let bad = scan::find_culprits(&strict, columns, one, session, self.folder, 1).await;
                    let known = match options.rescues_new_columns {
                        true => refuse_new_columns(&strict, columns, one, session, self.folder, memo).await,
                        false => Ok(()),
                    };
                    let fits = bad.is_empty() && known.is_ok();
                    memo.put(key, &fits);
                    fits
                }
            };
            fitting.extend(fits.then_some(file));
        }
        Ok(fitting)
    }

    /// What a part has beside the lineage: the columns of files.
    fn columns(&self, schema: &SchemaRef) -> Result<SchemaRef, BronzeError> {
        let known = file_columns::fields(self.source);
        let kept = |field: &&Arc<Field>| !known.iter().any(|known| known.name() == field.name());
        let columns: Vec<Arc<Field>> = schema.fields().iter().filter(kept).cloned().collect();
        match columns.iter().find(|field| LINEAGE.iter().any(|column| column.name() == field.name())) {
            Some(field) => Err(BronzeError::Archive {
                source_name: self.source.name.clone(),
                file: self.source.path.clone(),
                why: format!("its files have a column `{}`, which compacted rows have of their own", field.name()),
            }),
            None => Ok(Arc::new(Schema::new(columns))),
        }
    }

    /// Small parts that are written again together with new files, and the files in them: as in a log-structured merge
    /// a part takes part when as much has come since, so that a row is written a few times and parts stay few.
    fn parts_to_merge(
        &self,
        listing: &Listing,
        loaded: &[BronzeFile],
        columns: &Schema,
    ) -> (Vec<Arc<Part>>, Vec<BronzeFile>) {
        let mut parts: BTreeMap<String, (Arc<Part>, Vec<BronzeFile>)> = BTreeMap::new();
        for file in &listing.files {
            if let Some(piece) = &file.compacted {
                let known = parts.entry(piece.part.meta.location.to_string());
                known.or_insert_with(|| (Arc::clone(&piece.part), Vec::new())).1.push(file.clone());
            }
        }
        let same = |field: &Arc<Field>| {
            columns.field_with_name(field.name()).is_ok_and(|now| now.data_type() == field.data_type())
        };
        // Of a source of whole dumps only the newest one is listed: what is not listed is not to be lost.
        let mut small: Vec<_> = parts
            .into_values()
            .filter(|(part, files)| part.files == files.len() && part.columns.fields().iter().all(same))
            .filter(|(part, _)| part.meta.size < self.target_size / 2)
            .collect();
        // By what was delivered: a tiny part is mostly Parquet.
        let delivered = |files: &[BronzeFile]| files.iter().map(|file| file.meta.size).sum::<u64>();
        small.sort_by_key(|(_, files)| delivered(files));
        let mut sum = delivered(loaded);
        let (mut old, mut again) = (Vec::new(), Vec::new());
        for (part, files) in small {
            if delivered(&files) > 2 * sum {
                break;
            }
            sum += delivered(&files);
            old.push(part);
            again.extend(files);
        }
        (old, again)
    }

    fn create(&self, columns: &SchemaRef) -> io::Result<PartWriter> {
        let id = chrono::Utc::now().timestamp_micros();
        let id = (id..).find(|id| !self.to.join(part_name(*id)).exists()).unwrap_or(id);
        let name = part_name(id);
        let hidden = self.to.join(format!(".{name}"));
        let fields = columns.fields().iter().cloned().chain(LINEAGE.iter().map(|column| {
            let data_type = match column {
                MetadataColumn::FilePath => DataType::Utf8,
                MetadataColumn::FileModifiedAt => utc(),
                _ => DataType::Int64,
            };
            Arc::new(Field::new(column.name(), data_type, false))
        }));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(io::Error::other)?))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_write_batch_size(PAGE_ROWS)
            .set_created_by(format!("lake {}", env!("CARGO_PKG_VERSION")))
            .build();
        let writer = ArrowWriter::try_new(File::create(&hidden)?, Arc::clone(&schema), Some(properties))?;
        Ok(PartWriter { name, hidden, writer, schema, columns: Arc::clone(columns), lines: Vec::new(), rows: 0 })
    }

    /// Adds the rows of a file, in their order.
    async fn write(
        &self,
        part: &mut PartWriter,
        file: &BronzeFile,
        columns: &SchemaRef,
        session: &SessionState,
    ) -> Result<(), BronzeError> {
        let bad = |why: String| BronzeError::File { file: file.shown(self.folder), why };
        let first = part.rows;
        let table =
            scan::scan(&self.source.strictly(), columns, std::slice::from_ref(file), self.folder, None, None).await?;
        let plan = LogicalPlanBuilder::scan("file", provider_as_source(table), None)?.build()?;
        let mut one = session.clone();
        // Rows are numbered as they come.
        one.config_mut().options_mut().execution.target_partitions = 1;
        let named = |error| scan::named_file(&error).unwrap_or_else(|| scan::bad_file(file, self.folder, &error));
        let mut rows = session::query(&one, plan).execute_stream().await.map_err(named)?;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(named)?;
            part.add(file, &batch, first).map_err(|error| bad(error.to_string()))?;
        }
        if first_changed(std::iter::once(file)).await.is_some() {
            return Err(bad("it changed while it was compacted; it is taken in anew by the next run".to_owned()));
        }
        let hash = match &file.compacted {
            Some(piece) => piece.hash.clone(),
            None => listing::hash(&file.store, &file.meta).map_err(|error| bad(error.to_string()))?,
        };
        let (path, size, modified, rows) = (file.path.clone(), file.meta.size, file.modified(), part.rows - first);
        part.lines.push(Line { path, size, modified, first, rows, hash });
        Ok(())
    }

    /// Makes a part known.
    fn finish(&self, part: PartWriter) -> io::Result<()> {
        let PartWriter { name, hidden, writer, columns, lines, rows, .. } = part;
        let file = writer.into_inner()?;
        file.sync_all()?;
        let size = file.metadata()?.len();
        fs::rename(hidden, self.to.join(&name))?;
        sync_folder(&self.to)?;
        fail_points::reached("part-written");
        let header = Header { size, columns: columns.as_ref().clone(), files: lines.len(), rows };
        let mut text = serde_json::to_vec(&header)?;
        for line in &lines {
            text.push(b'\n');
            serde_json::to_writer(&mut text, line)?;
        }
        text.push(b'\n');
        let index = parts::index_of(&name);
        let hidden = self.to.join(format!(".{index}"));
        fs::write(&hidden, text)?;
        File::open(&hidden)?.sync_all()?;
        fs::rename(hidden, self.to.join(index))?;
        sync_folder(&self.to)?;
        fail_points::reached("part-known");
        Ok(())
    }

    /// Takes away a raw file whose rows are in a part. It is looked at once more when nobody can put another one in its
    /// place: a new delivery of its name stays.
    fn remove(&self, file: &BronzeFile) -> io::Result<()> {
        let from = LocalFileSystem::new().path_to_filesystem(&file.meta.location)?;
        let below = from.strip_prefix(&self.base).map_err(io::Error::other)?.to_path_buf();
        let aside = self.base.join(LEAVING).join(&below);
        if let Some(parent) = aside.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::rename(&from, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        fail_points::reached("raw-set-aside");
        self.leave(&aside, &below, Some(file))?;
        fail_points::reached("raw-removed");
        Ok(())
    }

    /// A file that was set aside: gone if it is the one whose rows are known, else back where it was.
    fn leave(&self, aside: &Path, below: &Path, known: Option<&BronzeFile>) -> io::Result<()> {
        let now = fs::metadata(aside)?;
        let is = |known: &BronzeFile| {
            let modified = now.modified().map(chrono::DateTime::<chrono::Utc>::from);
            now.len() == known.meta.size && modified.is_ok_and(|at| at.timestamp_micros() == known.modified())
        };
        if known.is_some_and(is) {
            return fs::remove_file(aside);
        }
        match fs::hard_link(aside, self.base.join(below)) {
            // A still newer one is there.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let age = now.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
                let kept = self.to.join("_replaced").join(format!("{}.{age}", below.display()));
                if let Some(parent) = kept.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::rename(aside, kept)
            }
            Err(error) => Err(error),
            Ok(()) => fs::remove_file(aside),
        }
    }

    fn remove_part(&self, part: &Part) -> io::Result<()> {
        let path = LocalFileSystem::new().path_to_filesystem(&part.meta.location)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Without its index it counts no more.
        fs::remove_file(path.with_file_name(parts::index_of(&name)))?;
        fail_points::reached("part-forgotten");
        fs::remove_file(path)
    }

    /// What runs that died have left.
    fn clean_up(&self, listing: &Listing) -> io::Result<()> {
        for entry in fs::read_dir(&self.to)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let orphan =
                name.starts_with("part-") && name.ends_with(PART) && !self.to.join(parts::index_of(&name)).exists();
            if name.starts_with(".part-") || orphan {
                fs::remove_file(entry.path())?;
            }
        }
        let leaving = self.base.join(LEAVING);
        let mut folders = vec![leaving.clone()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let below = path.strip_prefix(&leaving).map_err(io::Error::other)?.to_path_buf();
                let name =
                    object_store::path::Path::from_absolute_path(self.base.join(&below)).map_err(io::Error::other)?;
                let known = listing.files.iter().find(|file| file.compacted.is_some() && file.meta.location == name);
                self.leave(&path, &below, known)?;
            }
        }
        listing.compacted_too.iter().try_for_each(|file| self.remove(file))?;
        let _ = fs::remove_dir_all(&leaving);
        Ok(())
    }
}

fn part_name(id: i64) -> String {
    format!("part-{id:019}{PART}")
}

/// A name is on disk when its folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn failed(source: &Source, to: &Path, folder: &Path, error: &io::Error) -> BronzeError {
    let source_name: TableName = source.name.clone();
    BronzeError::Compact {
        source_name,
        to: Store::local().shown(&to.to_string_lossy(), folder),
        why: error.to_string(),
    }
}

/// A part that is being written, under a name that is not listed.
struct PartWriter {
    name: String,
    hidden: PathBuf,
    writer: ArrowWriter<File>,
    schema: SchemaRef,
    columns: SchemaRef,
    lines: Vec<Line>,
    rows: u64,
}

impl PartWriter {
    /// Bytes so far, about.
    fn size(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    fn add(&mut self, file: &BronzeFile, batch: &RecordBatch, first: u64) -> datafusion::error::Result<()> {
        let rows = batch.num_rows();
        let number = i64::try_from(self.rows - first).unwrap_or(i64::MAX) + 1;
        let size = i64::try_from(file.meta.size).unwrap_or(i64::MAX);
        let lineage: [ArrayRef; 4] = [
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&file.path, rows))),
            Arc::new(Int64Array::from_value(size, rows)),
            Arc::new(TimestampMicrosecondArray::from_value(file.modified(), rows).with_timezone("UTC")),
            Arc::new(Int64Array::from_iter_values((number..).take(rows))),
        ];
        let columns = batch.columns().iter().cloned().chain(lineage).collect();
        self.writer.write(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?)?;
        if self.writer.in_progress_size() > GROUP_BYTES {
            self.writer.flush()?;
        }
        self.rows += rows as u64;
        Ok(())
    }
}

/// The hash of a file that has no bytes of its own any more.
pub(super) fn kept_hash(file: &BronzeFile) -> Option<&str> {
    file.compacted.as_ref().map(|Piece { hash, .. }| hash.as_str())
}
