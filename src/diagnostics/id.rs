//! The kinds of diagnostics, by the kebab-case name that users see and search for.

use std::fmt;

/// What kind of mistake a diagnostic reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Id {
    /// A file that cannot be read.
    UnreadableFile,
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
    /// A template that asks a database.
    Introspection,
    /// What a template warns of by `exceptions.warn()`.
    TemplateWarning,
    /// `doc()` of a block that does not exist.
    UnknownDoc,
    /// Something of dbt that is not here.
    NotSupported,
    /// Models that depend on one another.
    Cycle,
    /// A private model that another group reads.
    PrivateModel,
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
    /// A unit test that cannot run as declared.
    InvalidUnitTest,
    /// A source whose files cannot be found or understood.
    SourceFiles,
    /// YAML that describes something that does not exist.
    Orphan,
    /// A model whose columns are not those of its contract.
    ContractBroken,
    /// A sensitive column in a layer that it must not reach.
    SensitiveColumn,
    /// A common table expression that nothing reads.
    UnusedCte,
    /// Two tables side by side without a condition.
    CrossJoin,
    /// `not in` over a subquery that can return NULL.
    NotInNullable,
    /// A comparison of text with something else.
    ComparedTypes,
    /// A name that hides another one which is read instead.
    ShadowedName,
    /// `select *` where columns are promised.
    StarInContract,
    /// `limit` that does not say which rows.
    UnorderedLimit,
    /// A column of a contract that may be NULL and must not.
    NullInContract,
    /// `union` of columns in another order.
    UnionByPosition,
}

/// Every kind with its name and its code, in the order of the codes.
const ALL: &[(Id, &str, &str)] = &[
    (Id::UnreadableFile, "unreadable-file", "L0001"),
    (Id::YamlSyntax, "yaml-syntax", "L0002"),
    (Id::UnknownKey, "unknown-key", "L0003"),
    (Id::MissingKey, "missing-key", "L0004"),
    (Id::InvalidValue, "invalid-value", "L0005"),
    (Id::InvalidName, "invalid-name", "L0006"),
    (Id::DuplicateName, "duplicate-name", "L0007"),
    (Id::Orphan, "orphan-properties", "L0008"),
    (Id::Template, "template", "L0101"),
    (Id::UnknownRef, "unknown-ref", "L0102"),
    (Id::UnknownSource, "unknown-source", "L0103"),
    (Id::Cycle, "dependency-cycle", "L0104"),
    (Id::Introspection, "introspection", "L0105"),
    (Id::TemplateWarning, "template-warning", "L0106"),
    (Id::UnknownDoc, "unknown-doc", "L0107"),
    (Id::NotSupported, "not-supported", "L0108"),
    (Id::PrivateModel, "private-model", "L0110"),
    (Id::SqlSyntax, "sql-syntax", "L0201"),
    (Id::UnknownTable, "unknown-table", "L0202"),
    (Id::UnknownColumn, "unknown-column", "L0203"),
    (Id::UnknownFunction, "unknown-function", "L0204"),
    (Id::TypeMismatch, "type-mismatch", "L0205"),
    (Id::InvalidSql, "invalid-sql", "L0206"),
    (Id::InvalidTest, "invalid-test", "L0207"),
    (Id::ContractBroken, "contract-broken", "L0208"),
    (Id::InvalidUnitTest, "invalid-unit-test", "L0209"),
    (Id::SensitiveColumn, "sensitive-column", "L0210"),
    (Id::SourceFiles, "source-files", "L0301"),
    (Id::UnusedCte, "unused-cte", "L0401"),
    (Id::CrossJoin, "cross-join", "L0402"),
    (Id::NotInNullable, "not-in-nullable", "L0403"),
    (Id::ComparedTypes, "compared-types", "L0404"),
    (Id::ShadowedName, "shadowed-name", "L0405"),
    (Id::StarInContract, "star-in-contract", "L0406"),
    (Id::UnorderedLimit, "unordered-limit", "L0407"),
    (Id::NullInContract, "null-in-contract", "L0408"),
    (Id::UnionByPosition, "union-by-position", "L0409"),
];

/// What `lake explain` prints: a section for each code.
const PAGES: &str = include_str!("pages.md");

impl Id {
    fn entry(self) -> &'static (Self, &'static str, &'static str) {
        ALL.iter().find(|(id, _, _)| *id == self).expect("every kind is in the list")
    }

    /// The name that users see: `unknown-ref`.
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    /// The code that users see: `L0102`.
    pub fn code(self) -> &'static str {
        self.entry().2
    }

    /// The kind of a code or name, letters of any case.
    pub fn find(text: &str) -> Option<Self> {
        let is = |known: &str| known.eq_ignore_ascii_case(text);
        ALL.iter().find(|(_, name, code)| is(name) || is(code)).map(|(id, _, _)| *id)
    }

    /// All codes with their names.
    pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
        ALL.iter().map(|(_, name, code)| (*code, *name))
    }

    /// The kinds that the `lints` setting of a model may silence or make errors.
    pub fn lints() -> impl Iterator<Item = &'static str> {
        ALL.iter().filter(|(_, _, code)| code.starts_with("L04")).map(|(_, name, _)| *name)
    }

    /// What the kind means and what to do about it, in Markdown.
    pub fn page(self) -> &'static str {
        let heading = format!("## {}", self.code());
        let start = PAGES.find(&heading).expect("every code has a page");
        let rest = &PAGES[start..];
        let end = rest[2..].find("\n## ").map_or(rest.len(), |at| at + 2);
        rest[..end].trim_end()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_code_of_its_own_and_a_page() {
        let mut codes: Vec<&str> = Id::all().map(|(code, _)| code).collect();
        for (id, name, code) in ALL {
            assert!(id.page().starts_with(&format!("## {code} {name}\n")), "{code} {name}");
            assert_eq!((Id::find(name), Id::find(&code.to_lowercase())), (Some(*id), Some(*id)));
        }
        codes.dedup();
        assert_eq!(codes.len(), ALL.len());
        assert_eq!(PAGES.matches("\n## ").count() + 1, ALL.len());
    }
}
