//! The pages of docs/, those of the examples and README.md are run: files that they name are written into a project of the page's own, `$` lines of `console`
//! blocks are called there, and what they print is compared with what the page says, the nodes of a run in any order.
//!
//! A page begins in an empty folder, or with `<!-- project: courses -->` in a copy of the sample lake, or with
//! `<!-- project: examples/movies -->` in one of an example. In what is expected `...` stands for lines and `[..]` for a part
//! of one; times, bytes and memory of a run count as equal. `console,norun` is not run, and `console,fails` exits with an error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use regex::Regex;

use crate::sandbox::{Sandbox, names};

/// Pages with something that is run, and how many blocks of each are not.
const PAGES: &[(&str, usize)] = &[
    ("../README.md", 1),
    ("../examples/movies/README.md", 1),
    ("../examples/vehicles/README.md", 1),
    ("../examples/customers/README.md", 1),
    ("../examples/listening/README.md", 0),
    ("start.md", 0),
    ("from-dbt.md", 0),
    ("projects.md", 0),
    ("sources.md", 0),
    ("models.md", 0),
    ("history.md", 0),
    ("tests.md", 1),
    ("unit-tests.md", 1),
    ("exports.md", 0),
    ("running.md", 0),
    ("selection.md", 0),
    ("environments.md", 1),
    ("diff.md", 2),
    ("documentation.md", 0),
    ("progress.md", 1),
    ("events.md", 1),
    ("alerts.md", 1),
    ("scheduling.md", 6),
];

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// A fenced block: what stands behind the fence, and its lines in the page.
struct Block<'a> {
    info: &'a str,
    first: usize,
    lines: Vec<&'a str>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let (mut found, mut open): (Vec<Block<'_>>, Option<Block<'_>>) = (Vec::new(), None);
    for (at, line) in text.lines().enumerate() {
        match (open.as_mut(), line.strip_prefix("```")) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => block.lines.push(line),
            (None, Some(info)) => open = Some(Block { info, first: at + 1, lines: Vec::new() }),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    found
}

/// The file that a block is: named behind the fence, or in a comment on its first line.
fn file_of<'a>(block: &Block<'a>) -> Option<&'a str> {
    let is_path = |text: &&str| {
        let endings = ["yml", "sql", "csv", "md", "json", "ndjson"];
        text.rsplit_once('.').is_some_and(|(_, ending)| endings.contains(&ending)) && !text.contains([' ', '{', '*'])
    };
    let named = block.info.split_once(' ').map(|(_, name)| name.trim()).filter(is_path);
    let first = block.lines.first().copied().unwrap_or_default();
    let comment = first.strip_prefix("# ").or_else(|| first.strip_prefix("-- ")).map(str::trim);
    named.or_else(|| comment.filter(is_path))
}

/// Commands of a block with what is expected of each, and the lines where that stands.
fn commands<'a>(block: &Block<'a>) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in &block.lines {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => found.push((command, Vec::new())),
            (None, Some((_, expected))) => expected.push(line),
            (None, None) => panic!("a console block begins with `$ `, not `{line}`"),
        }
    }
    found
}

static TIME: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\d+\.\d+ ?s\b").unwrap());
/// Bytes of a run, and the memory that it took.
static COSTS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(, [\d.]+ [kMG]?B)?, [\d.]+ [kMG]?B of memory").unwrap());
static NUMBERED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^( *\d+ of \d+ +|(export|published together)\b)").unwrap());
static SPACES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r" +").unwrap());

fn plain(line: &str) -> String {
    let line = TIME.replace_all(line, "0.00s");
    let line = COSTS.replace(&line, ", 0 MB of memory");
    SPACES.replace_all(line.trim_end(), " ").into_owned()
}

/// Lines of a run in one order, without their numbers: which node comes first depends on how long each took before.
fn ordered<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let numbered = |line: &'a str| NUMBERED.find(line).map(|number| &line[number.end()..]);
    let Some(first) = lines.iter().position(|line| numbered(line).is_some()) else { return lines.to_vec() };
    let count = lines[first..].iter().take_while(|line| NUMBERED.is_match(line) || line.starts_with(' ')).count();
    let mut nodes: Vec<Vec<&str>> = Vec::new();
    for line in &lines[first..first + count] {
        match (numbered(line), nodes.last_mut()) {
            (Some(rest), _) => nodes.push(vec![rest]),
            (None, Some(node)) => node.push(line),
            (None, None) => {}
        }
    }
    nodes.sort();
    [&lines[..first], &nodes.concat(), &lines[first + count..]].concat()
}

/// Whether lines are as expected, `...` being any number of them.
fn fits(expected: &[&str], found: &[&str]) -> bool {
    match (expected.split_first(), found.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first.trim() == "..." => (0..=found.len()).any(|skip| fits(rest, &found[skip..])),
        (Some((expected, rest)), Some((line, more))) => fits_line(&plain(expected), &plain(line)) && fits(rest, more),
        _ => false,
    }
}

/// Whether a line is as expected, `[..]` being any part of it.
fn fits_line(expected: &str, line: &str) -> bool {
    let mut parts = expected.split("[..]");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The folder that a page begins in.
fn project(text: &str) -> Sandbox {
    let first = text.lines().next().unwrap_or_default();
    match first.strip_prefix("<!-- project: ").and_then(|rest| rest.strip_suffix(" -->")) {
        Some("courses") => Sandbox::sample(),
        Some("shop of dbt") => {
            let sandbox = Sandbox::empty();
            crate::from_dbt::copy_shop(&sandbox, "coffee_shop");
            sandbox
        }
        Some(other) => {
            Sandbox::example(other.strip_prefix("examples/").unwrap_or_else(|| panic!("no project {other}")))
        }
        None => Sandbox::empty(),
    }
}

/// Calls a command line as a shell would; runs have one thread, so that their lines come in one order.
fn call(folder: &Path, line: &str) -> (bool, String) {
    let one_thread = "lake() { case \"$1\" in build|run|test|seed|retry) command lake \"$@\" --threads 1;; *) command lake \"$@\";; esac; }";
    let program = Path::new(env!("CARGO_BIN_EXE_lake")).parent().unwrap().display();
    let output = Command::new("sh")
        .args(["-c", &format!("{one_thread}; {line}")])
        .current_dir(folder)
        .env_clear()
        .env("NO_COLOR", "1")
        .env("HOME", folder)
        .env("PATH", format!("{program}:/usr/bin:/bin"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), text)
}

/// Runs a page; returns its text with what was printed in place of what was expected where they differ, and these places.
fn run(name: &str, text: &str) -> (String, Vec<String>) {
    let sandbox = project(text);
    let mut folder = sandbox.path("");
    let (mut made, mut wrong) = (Vec::new(), Vec::new());
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for block in blocks(text) {
        if let Some(file) = file_of(&block) {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{}\n", block.lines.join("\n"))).unwrap();
            continue;
        }
        let info: Vec<&str> = block.info.split(',').collect();
        if info[0] != "console" || info.contains(&"norun") {
            continue;
        }
        let mut shown: Vec<String> = Vec::new();
        for (command, expected) in commands(&block) {
            shown.push(format!("$ {command}"));
            if let Some(inner) = command.strip_prefix("cd ") {
                folder = folder.join(inner);
                assert!(folder.is_dir(), "{name}: {command}");
                continue;
            }
            let (succeeded, output) = call(&folder, command);
            let root = sandbox.path("");
            let output = output.replace(root.to_str().unwrap().trim_end_matches('/'), "~");
            if succeeded == info.contains(&"fails") {
                wrong.push(format!("{name}: `{command}` {}:\n{output}", if succeeded { "succeeds" } else { "fails" }));
            }
            let found: Vec<&str> = output.trim_end().lines().collect();
            let gap = expected.last().is_some_and(|line| line.is_empty());
            let expected = if gap { &expected[..expected.len() - 1] } else { &expected[..] };
            if fits(&ordered(expected), &ordered(&found)) {
                shown.extend(expected.iter().map(|line| (*line).to_owned()));
            } else {
                wrong.push(format!("{name}: `{command}` printed\n{output}"));
                shown.extend(found.iter().map(|line| line.trim_end().to_owned()));
            }
            if gap {
                shown.push(String::new());
            }
        }
        made.push((block.first, block.lines.len(), shown));
    }
    for (first, count, shown) in made.into_iter().rev() {
        lines.splice(first..first + count, shown);
    }
    (lines.join("\n") + "\n", wrong)
}

#[track_caller]
fn assert_runs(name: &str) {
    let path = docs().join(name);
    let text = fs::read_to_string(&path).unwrap();
    let (made, wrong) = run(name, &text);
    if std::env::var("LAKE_GUIDE").is_ok_and(|value| value == "write") {
        fs::write(&path, made).unwrap();
        return;
    }
    assert!(
        wrong.is_empty(),
        "{}\n\nif that is right: LAKE_GUIDE=write cargo test --locked --test it guide:: and look at the difference",
        wrong.join("\n")
    );
}

macro_rules! pages {
    ($($test:ident: $page:literal,)*) => {
        $(#[test]
        fn $test() {
            assert_runs($page);
        })*

        const TESTED: &[&str] = &[$($page),*];
    };
}

pages! {
    readme: "../README.md",
    movies: "../examples/movies/README.md",
    vehicles: "../examples/vehicles/README.md",
    customers: "../examples/customers/README.md",
    listening: "../examples/listening/README.md",
    start: "start.md",
    from_dbt: "from-dbt.md",
    projects: "projects.md",
    sources: "sources.md",
    models: "models.md",
    history: "history.md",
    tests: "tests.md",
    unit_tests: "unit-tests.md",
    exports: "exports.md",
    running: "running.md",
    selection: "selection.md",
    environments: "environments.md",
    diff: "diff.md",
    documentation: "documentation.md",
    progress: "progress.md",
    events: "events.md",
    alerts: "alerts.md",
    scheduling: "scheduling.md",
}

#[test]
fn blocks_that_are_not_run_are_few_and_known() {
    assert_eq!(PAGES.iter().map(|(page, _)| *page).collect::<Vec<_>>(), TESTED);
    // The first page says what the others are about.
    let mut there: Vec<String> = names(&docs()).into_iter().filter(|name| name.ends_with(".md")).collect();
    there.retain(|name| name != "README.md" && !PAGES.iter().any(|(page, _)| page == name));
    assert_eq!(there, [""; 0], "pages that are not run");
    for (page, known) in PAGES {
        let text = fs::read_to_string(docs().join(page)).unwrap();
        let all = blocks(&text);
        let consoles: Vec<_> = all.iter().filter(|block| block.info.starts_with("console")).collect();
        let not_run = consoles.iter().filter(|block| block.info.contains("norun")).count();
        assert_eq!(not_run, *known, "{page}: blocks that say `norun`");
        assert!(consoles.len() > not_run, "{page} has no example that is run");
    }
}

/// Links of all pages lead to files that are there, and to headings of them.
#[test]
fn links_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    pages.extend(
        ["movies", "vehicles", "customers", "listening"].map(|name| root.join(format!("examples/{name}/README.md"))),
    );
    for folder in [docs(), docs().join("reference"), root.join("examples")] {
        pages.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()));
    }
    let mut broken = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for target in link.captures_iter(&text).map(|found| found[1].to_owned()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let is_there =
                path.exists() && (heading.is_empty() || anchors(&path).iter().any(|anchor| anchor == heading));
            if !is_there {
                broken.push(format!("{}: {target}", page.strip_prefix(root).unwrap().display()));
            }
        }
    }
    assert_eq!(broken, [""; 0]);
}

/// The anchors that GitHub gives to the headings of a page.
fn anchors(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let mut is_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        is_code ^= line.starts_with("```");
        if line.starts_with('#') && !is_code {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            found.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    found
}

#[test]
fn expected_lines_have_gaps() {
    assert!(fits(&["a [..] c", "...", "z  in 1.20s"], &["a b c", "x", "y", "z in 0.01s"]));
    assert!(!fits(&["a [..] c"], &["a b d"]));
    assert!(!fits(&["a", "..."], &["b"]));
    assert!(fits_line("[..]b[..]", "abc") && !fits_line("[..]b", "abc"));
    let (one, other) = (["1 of 2  b", "  x", "2 of 2  a", "end"], ["1 of 2  a", "2 of 2  b", "  x", "end"]);
    assert_eq!(ordered(&one), ordered(&other));
}
