//! The kinds of diagnostics, by the kebab-case name that users see and search for.

use std::fmt;

/// What kind of mistake a diagnostic reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Id {
    /// A file that cannot be read, or is missing.
    MissingFile,
    /// YAML that does not parse.
    YamlSyntax,
    /// A key that means nothing where it stands.
    UnknownKey,
    /// A key that must be there and is not.
    MissingKey,
    /// A value of the wrong type or outside what is allowed.
    InvalidValue,
    /// A name that cannot be a name.
    InvalidName,
    /// Two things of one name.
    DuplicateName,
    /// Jinja that does not parse or does not run.
    Template,
    /// `ref()` of a model that does not exist.
    UnknownRef,
    /// `source()` of a source that is not declared.
    UnknownSource,
    /// Models that depend on one another.
    Cycle,
    /// SQL that does not parse.
    SqlSyntax,
    /// A table named in SQL without `ref` or `source`.
    UnknownTable,
    /// A column that its input does not have.
    UnknownColumn,
    /// A function that does not exist.
    UnknownFunction,
    /// Types that do not fit together.
    TypeMismatch,
    /// Any other fault that makes a model's SQL impossible to plan.
    InvalidSql,
    /// A data test that cannot run as declared.
    InvalidTest,
    /// A selector that names nothing or does not parse.
    UnknownSelector,
    /// A source whose files cannot be found or understood.
    SourceFiles,
    /// YAML that describes something that does not exist.
    Orphan,
}

impl Id {
    /// The name that users see.
    pub fn name(self) -> &'static str {
        match self {
            Self::MissingFile => "missing-file",
            Self::YamlSyntax => "yaml-syntax",
            Self::UnknownKey => "unknown-key",
            Self::MissingKey => "missing-key",
            Self::InvalidValue => "invalid-value",
            Self::InvalidName => "invalid-name",
            Self::DuplicateName => "duplicate-name",
            Self::Template => "template",
            Self::UnknownRef => "unknown-ref",
            Self::UnknownSource => "unknown-source",
            Self::Cycle => "dependency-cycle",
            Self::SqlSyntax => "sql-syntax",
            Self::UnknownTable => "unknown-table",
            Self::UnknownColumn => "unknown-column",
            Self::UnknownFunction => "unknown-function",
            Self::TypeMismatch => "type-mismatch",
            Self::InvalidSql => "invalid-sql",
            Self::InvalidTest => "invalid-test",
            Self::UnknownSelector => "unknown-selector",
            Self::SourceFiles => "source-files",
            Self::Orphan => "orphan-properties",
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
