//! A folder with files of sources that lasts as long as a unit test.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;

use super::BronzeError;
use crate::project::Source;

/// A folder that goes with its owner.
pub struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// A new folder in `.lake/` of the project.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(project: &Path) -> Result<Self, BronzeError> {
        let folder = project.join(".lake").join("unit_tests").join(uuid::Uuid::new_v4().to_string());
        fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
        Ok(Self { folder })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder of a source.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(&self, source: &Source) -> Result<(), BronzeError> {
        let folder = self.folder.join(&source.path);
        fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))
    }

    /// Delivers a file of a source, at this moment or now: of several the later ones are newer.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn deliver(
        &self,
        source: &Source,
        number: usize,
        rows: &[RecordBatch],
        at: Option<DateTime<Utc>>,
    ) -> Result<(), BronzeError> {
        self.make(source)?;
        let path = self.folder.join(&source.path).join(format!("run_{:03}.parquet", number + 1));
        let Some(first) = rows.first() else { return Ok(()) };
        let write = || -> io::Result<()> {
            let file = fs::File::create(&path)?;
            let mut writer = ArrowWriter::try_new(file.try_clone()?, first.schema(), None)?;
            for batch in rows {
                writer.write(batch)?;
            }
            writer.close()?;
            file.set_modified(at.map_or_else(SystemTime::now, SystemTime::from))
        };
        write().map_err(|error| failed(&path, &error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is taken away by `lake clean`.
        let _ = fs::remove_dir_all(&self.folder);
        if let Some(parent) = self.folder.parent() {
            // Only if it is empty.
            let _ = fs::remove_dir(parent);
        }
    }
}

fn failed(path: &Path, error: &io::Error) -> BronzeError {
    BronzeError::File { file: path.display().to_string(), why: error.to_string() }
}
