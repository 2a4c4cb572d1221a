//! Templates, YAML and data files that went wrong in every way: no panic, no hang, no memory without bounds. A few
//! seconds here; `LAKE_FUZZ_SECONDS` is the long form.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use datafusion::datasource::file_format::file_compression_type::FileCompressionType;

use crate::file_sources::{arrow_bytes, avro_bytes, parquet_bytes};
use crate::text_files::compressed;

#[path = "../../fuzz/targets.rs"]
mod targets;

/// Words that make more of a mutation than letters do.
const TEMPLATE_WORDS: &[&str] = &[
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "{%-",
    "-%}",
    "{{-",
    "-}}",
    "{% endmacro %}",
    "{% macro m(x) %}",
    "{% endfor %}",
    "{% for i in range(100000) %}",
    "{% for i in range(10 ** 9) %}",
    "{% call m(1) %}",
    "{% endcall %}",
    "{% set x %}",
    "{% endset %}",
    "{% raw %}",
    "{% endraw %}",
    "{% if is_incremental() %}",
    "{% endif %}",
    "{{ m(m(1)) }}",
    "{{ caller() }}",
    "{{ ref('other') }}",
    "{{ source('bronze', 'views') }}",
    "{{ config(materialized='incremental') }}",
    "{{ var('a') }}",
    "| trim",
    "| indent(4)",
    "| length",
    "~",
    "'",
    "\"",
    "é",
    "\u{10ffff}",
    "\u{feff}",
    "\r\n",
    "__lake_mark(1)",
    "{{ __lake_mark(99) }}",
    "{{ x * 1000000 }}",
    "[[[[[[[[",
    "{{{{{{{{",
    "((((((((",
    "{% include 'macros' %}",
    "{% extends 'macros' %}",
    "{% import 'macros' as m %}",
];
const YAML_WORDS: &[&str] = &[
    "&a ",
    "*a",
    "<<: *a",
    "!!binary ",
    "- ",
    ": ",
    "? ",
    "|\n",
    ">\n",
    "---\n",
    "...\n",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "#",
    "\t",
    "~",
    "null",
    "1e999",
    "0x",
    "-",
    "é",
    "\u{feff}",
    "\r\n",
    "[[[[[[[[",
    "{{{{",
    "%YAML 1.2\n",
    "models:\n",
    "unit_tests: [{ name: t, model: g, given: [{ input: ref('g'), format: csv, rows: 'a,b' }], expect: { rows: [a: 1] } }]\n",
    "unit_tests: [{ name: t, macro: m, cases: [{ args: [1, null], expect: [1] }] }]\n",
    "format: csv\nrows: |\n  a,\"b\n",
    "columns:\n",
    "  - name: m\n",
    "data_tests: [unique]",
    "constraints: [{ type: not_null }]",
    "config: { lints: { unused-cte: deny } }",
    "10MB",
    "\u{85}",
    "\0",
];

/// Inputs that were trouble once, or would be.
fn known_trouble() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let part = targets::PART as char;
    let join = |model: &str, macros: &str| {
        let mut input = model.as_bytes().to_vec();
        input.push(targets::PART);
        input.extend_from_slice(macros.as_bytes());
        input
    };
    assert_eq!(part as u32, 0xff);
    let templates = vec![
        join("{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}", ""),
        join("{% for i in range(10 ** 9) %}{% endfor %}", ""),
        join("{{ again(1) }}", "{% macro again(n) %}{{ again(n + 1) }}{{ again(n + 1) }}{% endmacro %}"),
        join("{{ m() }}", "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}"),
        join(&"{% if true %}".repeat(2000), ""),
        join(&format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)), ""),
        join(&format!("{{{{ {}1 }}}}", "-".repeat(5000)), ""),
        join(&format!("{{{{ 1{} }}}}", " ~ 1".repeat(5000)), ""),
        join("{{ 'x' * 1000000000 }}", ""),
        join(
            "{% set ns = namespace(x='abcdefgh') %}{% for i in range(64) %}{% set ns.x = ns.x[:1000] ~ ns.x[:1000] %}{% endfor %}{{ ns.x }}",
            "",
        ),
        join("{% include 'macros' %}{{ m() }}", "{% macro m() %}x{% endmacro %}{{ undefined }}"),
        join("{% extends 'gold/m.sql' %}", ""),
    ];
    let laughs: String = (1..30)
        .map(|at| format!("a{at}: &a{at} [*a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}]\n", at - 1))
        .collect();
    let yaml = vec![
        format!("a0: &a0 [x, x, x, x]\n{laughs}").into_bytes(),
        "[".repeat(20_000).into_bytes(),
        "{a: ".repeat(5_000).into_bytes(),
        "- ".repeat(20_000).into_bytes(),
        format!("models:\n{}", (0..3000).map(|at| format!("{}- a:\n", " ".repeat(at))).collect::<String>())
            .into_bytes(),
        b"a: &a [*a]\n".to_vec(),
        b"? ? ? ? ?\n: &b\n".to_vec(),
        b"models: {<<: {<<: {<<: 1}}}\n".to_vec(),
    ];
    (templates, yaml)
}

/// Real files, as a start.
fn corpus(extensions: &[&str]) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join("models"), root.join("macros"), root.join("templates")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            let wanted = path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted));
            if path.is_dir() {
                folders.push(path);
            } else if wanted {
                found.push(std::fs::read(path).unwrap());
            }
        }
    }
    let top = ["project.yml", "sources.yml"].iter().filter(|_| extensions.contains(&"yml"));
    found.extend(top.map(|name| std::fs::read(root.join(name)).unwrap()));
    found.sort();
    assert!(!found.is_empty(), "there is no corpus");
    found
}

/// SplitMix64: a few lines, and the same numbers everywhere.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % limit.max(1) as u64) as usize
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let (a, b) = (self.below(length + 1), self.below(length + 1));
        a.min(b)..a.max(b)
    }
}

fn mutated(corpus: &[Vec<u8>], words: &[&str], numbers: &mut Numbers) -> Vec<u8> {
    let mut input = corpus[numbers.below(corpus.len())].clone();
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(input.len() + 1);
        match numbers.below(7) {
            0 | 1 => {
                let word = words[numbers.below(words.len())];
                input.splice(at..at, word.bytes());
            }
            2 => drop(input.drain(numbers.range(input.len()))),
            3 => {
                let copy = input[numbers.range(input.len())].to_vec();
                input.splice(at..at, copy);
            }
            4 => {
                let other = &corpus[numbers.below(corpus.len())];
                let piece = other[numbers.range(other.len())].to_vec();
                input.splice(at..at, piece);
            }
            5 => input.insert(at, targets::PART),
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = numbers.below(256) as u8;
                }
            }
        }
        input.truncate(20_000);
    }
    input
}

/// No input may take longer, in a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// All inputs together may take this much more than the corpus does.
const MOST_MEMORY: u64 = 700 << 20;

/// Feeds a target: what was trouble once, then mutations.
fn feed(target: fn(&[u8]), first: Vec<Vec<u8>>, corpus: Vec<Vec<u8>>, words: &'static [&'static str], cases: usize) {
    let seconds = std::env::var("LAKE_FUZZ_SECONDS").ok().and_then(|text| text.parse::<u64>().ok());
    let seed = if seconds.is_some() { std::process::id().into() } else { 1 };
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (send, inputs) = mpsc::sync_channel::<Vec<u8>>(0);
    let (done, finished) = mpsc::channel::<()>();
    // As much stack as the program gives its own threads.
    let stack = 256 << 20;
    let worker = std::thread::Builder::new().stack_size(stack).spawn(move || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(stack).build().unwrap();
        for input in inputs {
            pool.install(|| target(&input));
            done.send(()).unwrap();
        }
    });
    let mut numbers = Numbers(seed);
    let mut count = 0;
    let before = peak_memory().unwrap_or_default();
    let mutations = std::iter::repeat_with(|| mutated(&corpus, words, &mut numbers));
    let trace = std::env::temp_dir().join(format!("lake-fuzz-{}", std::process::id()));
    for input in first.into_iter().chain(mutations) {
        if until.map_or(count >= cases, |until| Instant::now() > until) {
            break;
        }
        count += 1;
        if until.is_some() {
            // What a dead process leaves behind.
            std::fs::write(&trace, &input).unwrap();
        }
        let text = String::from_utf8_lossy(&input).into_owned();
        send.send(input).unwrap();
        match finished.recv_timeout(LIMIT) {
            Ok(()) => {
                let now = peak_memory().unwrap_or_default();
                assert!(
                    now < before + MOST_MEMORY,
                    "seed {seed}, input {count}: from {before} to {now} bytes\n{text:?}"
                );
            }
            Err(error) => panic!("seed {seed}, input {count}: {error}\n{text:?}"),
        }
    }
    drop(send);
    worker.unwrap().join().unwrap();
    let _ = std::fs::remove_file(&trace);
    if until.is_some() {
        eprintln!("{count} inputs");
    }
}

/// Words of data files.
const ROW_WORDS: &[&str] = &[
    ",",
    ";",
    "\t",
    "\"",
    "\"\"",
    "'",
    "!",
    "#",
    "\n",
    "\r",
    "\r\n",
    "\0",
    "\u{feff}",
    "a,b,c,d,e,f,g,h\n",
    "1",
    "-1",
    "1e9",
    "1e999",
    "99999999999999999999999999999999999999999",
    "0.00000000000000000001",
    "NaN",
    "true",
    "null",
    "2024-02-30",
    "01.02.2024",
    "2024-10-27 02:30:00",
    "9999-12-31T23:59:59.999999999+14:00",
    "-292277-01-01",
    "[",
    "]",
    "{",
    "}",
    ":",
    "{\"a\":",
    "{\"a\":{\"b\":[",
    "[[[[[[[[[[[[[[[[",
    "{\"a\":1}",
    "\\u0000",
    "\\ud800",
    "\\",
    "PAR1",
    "ARROW1",
    "Obj\u{1}",
    "é",
    "\u{10ffff}",
];

/// Good files of every reader, each behind the byte that chooses it.
fn good_files() -> Vec<Vec<u8>> {
    let csv = "a,b,c,d,e,f,g,h\n1,1.5,01.02.2024,2024-08-01T10:00:00Z,true,\"[1,2]\",\"x,\"\"y\",0.5\n2,,,,,,,\n";
    let lines =
        "{\"a\":1,\"b\":1.5,\"c\":\"01.02.2024\",\"e\":true,\"f\":[1],\"s\":{\"t\":null}}\n{\"a\":\"2\",\"g\":\"x\"}\n";
    let array = "[{\"a\":1,\"g\":\"]\"},\n {\"n\":[[1],[]],\"s\":{\"t\":[{}]}}]";
    let path = "[{\"a\":{\"b\":[{\"a\":1},{\"g\":\"]\"}]}},{\"a\":{\"b\":{\"a\":2}},\"n\":[[1],[]]}]";
    let batch = datafusion::arrow::json::ReaderBuilder::new(std::sync::Arc::new(schema()))
        .build(std::io::Cursor::new(lines))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let bytes = |at: usize| -> Vec<u8> {
        let (name, settings) = targets::READERS[at];
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let text = match settings {
            _ if settings.contains("ndjson") => lines,
            _ if settings.contains("record_path") => path,
            _ if settings.contains("json") => array,
            _ => csv,
        };
        match name.rsplit('.').next() {
            Some("gz") => compressed(FileCompressionType::GZIP, text.as_bytes()),
            Some("bz2") => compressed(FileCompressionType::BZIP2, text.as_bytes()),
            Some("xz") => compressed(FileCompressionType::XZ, text.as_bytes()),
            Some("zst") => compressed(FileCompressionType::ZSTD, text.as_bytes()),
            Some("parquet") => parquet_bytes(&batch),
            Some("avro") => avro_bytes(&batch),
            Some("arrow") => arrow_bytes(&batch),
            Some("tsv") => text.replace(',', "\t").into_bytes(),
            _ if at == 3 => utf16(text),
            _ => text.as_bytes().to_vec(),
        }
    };
    let with_choice = |at: usize| [vec![u8::try_from(at).unwrap()], bytes(at)].concat();
    (0..targets::READERS.len()).map(with_choice).collect()
}

fn schema() -> datafusion::arrow::datatypes::Schema {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    let list = DataType::List(Field::new("item", DataType::Int64, true).into());
    Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Decimal128(20, 4), true),
        Field::new("f", list, true),
        Field::new("g", DataType::Utf8, true),
    ])
}

/// Files that are small and would become large, or lie about their size.
fn hostile_files() -> Vec<Vec<u8>> {
    let at = |name: &str| u8::try_from(targets::READERS.iter().position(|(known, _)| *known == name).unwrap()).unwrap();
    let zeroes = vec![b'0'; 200 << 20];
    let mut files = vec![
        [vec![at("a.csv.gz")], compressed(FileCompressionType::GZIP, &zeroes)].concat(),
        [vec![at("a.json.zst")], compressed(FileCompressionType::ZSTD, &zeroes)].concat(),
        [vec![at("a.csv")], b"a,b\n\"".to_vec(), vec![b'\n'; 8 << 20]].concat(),
        [vec![at("a.csv")], vec![b'a'; 8 << 20]].concat(),
        [vec![at("a.json")], vec![b'['; 4 << 20]].concat(),
        [vec![at("a.json")], b"{\"a\":".repeat(100_000)].concat(),
        [vec![at("a.json") + 1], b"{\"a\":".repeat(100_000)].concat(),
    ];
    // A footer that is longer than the file, and one that is nothing.
    for length in [u32::MAX, 1 << 30, 8, 0] {
        let mut parquet = good_files().swap_remove(usize::from(at("a.parquet")));
        let end = parquet.len() - 8;
        parquet[end..end + 4].copy_from_slice(&length.to_le_bytes());
        files.push(parquet);
    }
    files.extend(["a.parquet", "a.avro", "a.arrow"].iter().flat_map(|name| lies(&good_files()[usize::from(at(name))])));
    files
}

/// A binary file in which one number is another: of rows, of bytes, or where something is. Numbers of Parquet and Avro are
/// as long as they need; those of Arrow have eight bytes.
fn lies(good: &[u8]) -> Vec<Vec<u8>> {
    let name = targets::READERS[usize::from(good[0])].0;
    // The largest 32-bit and 64-bit numbers and negative ones, zigzagged, and one that a small machine could believe.
    let varints: [&[u8]; 4] = [
        &[0xfe, 0xff, 0xff, 0xff, 0x0f],
        &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x80, 0x80, 0x80, 0x80, 0x08],
    ];
    let end = good.len();
    let (from, to) = match name {
        // The footer, and the header of the first page.
        "a.parquet" => (end - 8 - u32::from_le_bytes(good[end - 8..end - 4].try_into().unwrap()) as usize, end - 8),
        _ => (1, end),
    };
    let step = if std::env::var_os("LAKE_FUZZ_SECONDS").is_some() { 1 } else { 13 };
    let page = if name == "a.parquet" { 5..45 } else { 0..0 };
    let mut files = Vec::new();
    for (turn, at) in page.chain((from..to).step_by(step)).enumerate() {
        let mut file = good.to_vec();
        if name == "a.arrow" {
            // Lengths and offsets are aligned in the file, which begins after the byte that chooses its reader.
            let at = 1 + (at - 1) / 8 * 8;
            let number: u64 = [1 << 40, u64::MAX >> 1, 1 << 31, u64::MAX][turn % 4];
            file[at..(at + 8).min(end)].copy_from_slice(&number.to_le_bytes()[..8.min(end - at)]);
        } else {
            let number = varints[turn % 4];
            file.splice(at..=at, number.iter().copied());
            if name == "a.parquet" && at >= from {
                let (end, length) = (file.len(), (to - from + number.len() - 1) as u32);
                file[end - 8..end - 4].copy_from_slice(&length.to_le_bytes());
            }
        }
        files.push(file);
    }
    files
}

/// The most memory that this process has had, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

#[test]
fn no_data_file_panics_hangs_or_takes_all_memory() {
    let hostile = hostile_files();
    let cases = hostile.len() + 300;
    feed(|input| drop(targets::rows(input)), hostile, good_files(), ROW_WORDS, cases);
}

#[test]
fn good_files_of_every_reader_are_read() {
    for file in good_files() {
        let (name, settings) = targets::READERS[usize::from(file[0])];
        // Other quotes, a value that is no number in its land, and a header among the rows.
        let strange = ["skip_lines", "decimal_separator", "header: false"].iter().any(|word| settings.contains(word));
        assert!(strange || targets::rows(&file).is_empty(), "{name}, {settings}: {:?}", targets::rows(&file));
    }
}

#[test]
fn no_template_panics_or_hangs() {
    let corpus = corpus(&["sql"]);
    feed(targets::template, known_trouble().0, corpus, TEMPLATE_WORDS, 400);
}

#[test]
fn no_yaml_panics_or_hangs() {
    let corpus = corpus(&["yml"]);
    feed(targets::yaml, known_trouble().1, corpus, YAML_WORDS, 400);
}
