//! The arguments of `lake diff`.

use clap::Args;

use super::args::SelectArgs;

/// What to compare.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The model whose table is compared; without one, the project is, with the compile in --state
    #[arg(value_name = "MODEL", conflicts_with_all = ["select", "exclude", "selector"])]
    pub(super) model: Option<String>,
    /// Two versions of the table: 3..5, 3.. to the newest, ..5 from the one before [default: the last two]
    #[arg(long, value_name = "A..B", requires = "model", value_parser = versions)]
    pub(super) versions: Option<Versions>,
    /// The tables of two targets, as they are now: dev,prod
    #[arg(long, value_name = "A,B", requires = "model", conflicts_with = "versions", value_parser = targets)]
    pub(super) targets: Option<[String; 2]>,
    /// Columns to tell rows apart by [default: of `unique_key`, or of a unique test]
    #[arg(long, value_name = "COLUMN", requires = "model", value_delimiter = ',')]
    pub(super) key: Vec<String>,
    /// Examples of each kind
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(super) limit: usize,
    /// Which nodes; --state names what to compare with.
    #[command(flatten)]
    pub(super) selection: SelectArgs,
}

/// Two versions of a table: the one before, and the newest, where they are not said.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Versions {
    pub(super) from: Option<u64>,
    pub(super) to: Option<u64>,
}

/// `3..5`, `3..`, `..5`, or `3` for `3..`.
fn versions(text: &str) -> Result<Versions, String> {
    let number = |text: &str| match text {
        "" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| format!("`{text}` is not a version: write 3..5, 3.. or ..5")),
    };
    let (from, to) = text.split_once("..").unwrap_or((text, ""));
    Ok(Versions { from: number(from.trim())?, to: number(to.trim())? })
}

/// `dev,prod`.
fn targets(text: &str) -> Result<[String; 2], String> {
    match text.split(',').map(str::trim).collect::<Vec<_>>().as_slice() {
        [one, other] if !one.is_empty() && !other.is_empty() => Ok([(*one).to_owned(), (*other).to_owned()]),
        _ => Err("it takes two targets: dev,prod".to_owned()),
    }
}
