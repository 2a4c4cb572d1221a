//! What the conversion has to say, line by line, and the report that it becomes.

use serde::Serialize;

use crate::words::plural;

/// How much a finding asks of the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It does not work until somebody acts.
    Todo,
    /// It works, and may mean something else.
    Look,
    /// It was converted.
    Done,
}

impl Level {
    const ALL: [Self; 3] = [Self::Todo, Self::Look, Self::Done];

    /// The word in front of a line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Todo => "todo",
            Self::Look => "look",
            Self::Done => "done",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Todo => "To do",
            Self::Look => "To look at",
            Self::Done => "Done",
        }
    }
}

/// One thing that is not as it was, or could not be converted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The file of the dbt project, relative to its folder.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// How much it asks.
    pub level: Level,
    /// What is there.
    pub what: String,
    /// What was done, or must be.
    pub action: String,
}

impl Finding {
    /// One line of the report.
    pub fn text(&self) -> String {
        format!("{}  {}:{}  {}: {}", self.level.word(), self.file, self.line, self.what, self.action)
    }
}

/// All findings of a conversion.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn push(
        &mut self,
        level: Level,
        file: &str,
        line: usize,
        what: impl Into<String>,
        action: impl Into<String>,
    ) {
        let finding = Finding { file: file.to_owned(), line, level, what: what.into(), action: action.into() };
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    /// In the order of files and lines.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.0.sort();
        self.0
    }
}

/// How many of each kind were converted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// SQL models.
    pub models: usize,
    /// CSV files.
    pub seeds: usize,
    /// Snapshots, which are models now.
    pub snapshots: usize,
    /// Source tables.
    pub sources: usize,
    /// Singular and generic tests with a file of their own.
    pub tests: usize,
    /// Files of macros.
    pub macros: usize,
}

impl Counts {
    /// `12 models, 2 seeds`.
    pub fn text(&self) -> String {
        let all = [
            (self.models, "model"),
            (self.snapshots, "snapshot"),
            (self.seeds, "seed"),
            (self.sources, "source table"),
            (self.tests, "test file"),
            (self.macros, "macro file"),
        ];
        let some = all.into_iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = some.map(|(count, noun)| plural(count as u64, noun)).collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }
}

/// `3 to do, 1 to look at, 9 done`.
pub fn totals(findings: &[Finding]) -> String {
    let of = |level| findings.iter().filter(|finding| finding.level == level).count();
    let parts = Level::ALL.map(|level| format!("{} {}", of(level), level.title().to_lowercase()));
    parts.join(", ")
}

/// The report as Markdown, for a file beside the project.
pub fn markdown(name: &str, counts: &Counts, findings: &[Finding]) -> String {
    let mut text = format!(
        "# {name}, from dbt\n\n{}: {}.\n\nLines are those of the dbt project.\n",
        counts.text(),
        totals(findings)
    );
    for level in Level::ALL {
        let mut of_level = findings.iter().filter(|finding| finding.level == level).peekable();
        if of_level.peek().is_none() {
            continue;
        }
        text.push_str(&format!("\n## {}\n\n", level.title()));
        for finding in of_level {
            text.push_str(&format!("- `{}:{}` {}: {}\n", finding.file, finding.line, finding.what, finding.action));
        }
    }
    text
}
