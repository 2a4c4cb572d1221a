//! Histories of random deliveries, row for row what a simple model in memory says: for every key, what began when.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, UNIX_EPOCH};

use crate::sandbox::{Random, Sandbox, node};

const DAY: i64 = 86_400_000_000;
/// The first of January 2026, in microseconds since 1970.
const START: i64 = 1_767_225_600_000_000;

type Key = (Option<u64>, Option<&'static str>);

#[derive(Debug, Clone, PartialEq)]
struct Row {
    val: Option<u64>,
    colour: Option<u64>,
    /// Microseconds since 1970.
    at: Option<i64>,
}

/// What begins at a moment.
#[derive(Debug, Clone)]
enum Start {
    Row(Row),
    /// Nothing: the row is deleted. What it was.
    Gone(Row),
}

#[derive(Clone, Copy)]
struct Rules {
    timestamp: bool,
    /// `check_cols: all`, not `val` alone.
    all: bool,
    updated_at: bool,
    whole: bool,
    deletes: &'static str,
}

impl Rules {
    fn config(&self) -> String {
        let Self { timestamp, all, updated_at, deletes, .. } = *self;
        let mut parts = vec!["materialized='scd2', unique_key=['Id', 'Kind of']".to_owned()];
        parts.push(match (timestamp, all) {
            (true, _) => "strategy='timestamp'".to_owned(),
            (false, true) => "strategy='check', check_cols='all'".to_owned(),
            (false, false) => "strategy='check', check_cols=['val']".to_owned(),
        });
        if updated_at {
            parts.push("updated_at='At'".to_owned());
        }
        parts.push(format!("hard_deletes='{deletes}'"));
        parts.join(", ")
    }
}

struct Truth {
    rules: Rules,
    keys: BTreeMap<Key, BTreeMap<i64, Start>>,
    has_colour: bool,
}

impl Truth {
    fn deliver(&mut self, rows: &[(Key, Row)], now: i64, with_colour: bool) {
        let adds_colour = with_colour && !self.has_colour && !self.keys.is_empty();
        let all: BTreeSet<Key> = self.keys.keys().copied().chain(rows.iter().map(|(key, _)| *key)).collect();
        for key in all {
            let mut new: Vec<Row> = Vec::new();
            for (_, row) in rows.iter().filter(|(of, _)| *of == key) {
                let row = Row { colour: row.colour.filter(|_| with_colour), ..row.clone() };
                if !new.contains(&row) {
                    new.push(row);
                }
            }
            new.sort_by_key(|row| row.at);
            let starts = self.keys.entry(key).or_default();
            for row in &new {
                match self.rules.timestamp {
                    true => by_time(starts, row, adds_colour, self.rules.deletes == "new_record"),
                    false => by_values(
                        starts,
                        row,
                        now,
                        self.rules,
                        self.has_colour || with_colour && !adds_colour,
                        adds_colour,
                    ),
                }
            }
            let last = starts.last_key_value().map(|(at, start)| (*at, start.clone()));
            if !self.rules.whole {
                continue;
            }
            match (last, new.last()) {
                (Some((at, Start::Row(row))), None) if self.rules.deletes != "ignore" => {
                    starts.insert(now.max(at + 1), Start::Gone(row));
                }
                (Some((at, Start::Gone(_))), Some(row)) => {
                    starts.insert(now.max(at + 1), Start::Row(row.clone()));
                }
                _ => {}
            }
        }
        self.has_colour |= with_colour;
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for ((id, kind), starts) in &self.keys {
            let ends = starts.keys().skip(1).map(|at| Some(*at)).chain([None]);
            for ((from, start), to) in starts.iter().zip(ends) {
                let (row, gone) = match start {
                    Start::Row(row) => (row, false),
                    Start::Gone(row) => (row, true),
                };
                if !gone || self.rules.deletes == "new_record" {
                    let Row { val, colour, at } = row;
                    let current = to.is_none();
                    lines.push(format!("{id:?} {kind:?} {val:?} {colour:?} {at:?} {from}..{to:?} {current} {gone}"));
                }
            }
        }
        lines.sort();
        lines
    }
}

fn by_time(starts: &mut BTreeMap<i64, Start>, row: &Row, adds_colour: bool, tells_gone: bool) {
    let known = starts.values_mut().rev().find_map(|start| match start {
        Start::Row(known) if known.at == row.at => Some(known),
        _ => None,
    });
    match known {
        Some(known) if adds_colour && row.colour.is_some() => known.colour = row.colour,
        Some(_) => {}
        None => {
            let mut at = row.at.expect("rows by timestamp have one");
            // Where the end of a key is no row of its own, another version may begin at the moment of it.
            let is_taken = |start: &Start| tells_gone || matches!(start, Start::Row(_));
            while starts.get(&at).is_some_and(is_taken) {
                at += 1;
            }
            starts.insert(at, Start::Row(row.clone()));
        }
    }
}

fn by_values(
    starts: &mut BTreeMap<i64, Start>,
    row: &Row,
    now: i64,
    rules: Rules,
    compares_colour: bool,
    adds_colour: bool,
) {
    let last = starts.last_key_value().map(|(at, start)| (*at, start.clone()));
    let after = last.as_ref().map_or(i64::MIN, |(at, _)| *at);
    let begins =
        row.at.filter(|at| rules.updated_at && *at > after).unwrap_or_else(|| now.max(after.saturating_add(1)));
    match last {
        Some((at, Start::Row(known))) => {
            let same = match rules.all {
                true => known.val == row.val && known.at == row.at && (!compares_colour || known.colour == row.colour),
                false => known.val == row.val,
            };
            if !same {
                starts.insert(begins, Start::Row(row.clone()));
            } else if adds_colour && row.colour.is_some() {
                starts.insert(at, Start::Row(Row { colour: row.colour, ..known }));
            }
        }
        _ => {
            starts.insert(begins, Start::Row(row.clone()));
        }
    }
}

/// The table, as the model has it.
fn lines(sandbox: &Sandbox, truth: &Truth) -> Vec<String> {
    let colour = if truth.has_colour { "colour" } else { "arrow_cast(null, 'Int64')" };
    let deleted = if truth.rules.deletes == "new_record" { "is_deleted" } else { "false" };
    let micros = |column: &str| format!("arrow_cast({column}, 'Int64')");
    let rows = sandbox.query(&format!(
        "select \"Id\" as id, \"Kind of\" as kind, val, {colour} as colour, {} as at, {} as from_, {} as to_, is_current, \
         {deleted} as gone from {{{{ ref('things') }}}}",
        micros("\"At\""),
        micros("valid_from"),
        micros("valid_to"),
    ));
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let number = |key: &str| row.get(key).and_then(serde_json::Value::as_i64);
            let (id, kind, val, colour) =
                (number("id"), row.get("kind").and_then(|kind| kind.as_str()), number("val"), number("colour"));
            let (at, from, to) = (number("at"), number("from_").unwrap(), number("to_"));
            let (current, gone) = (row["is_current"].as_bool().unwrap(), row["gone"].as_bool().unwrap());
            format!("{id:?} {kind:?} {val:?} {colour:?} {at:?} {from}..{to:?} {current} {gone}")
        })
        .collect();
    lines.sort();
    lines
}

/// What could not be of a history, whatever came in: overlaps, empty versions, two current ones.
fn assert_sound(sandbox: &Sandbox) {
    let wrong = sandbox.query(
        "select * from (select *, lead(valid_from) over (partition by \"Id\", \"Kind of\" order by valid_from) as next, \
         sum(case when is_current then 1 else 0 end) over (partition by \"Id\", \"Kind of\") as currents from {{ ref('things') }}) as t \
         where valid_to <= valid_from or valid_to > next or (valid_to is null) <> is_current or currents > 1 \
         or (valid_to is null and next is not null)",
    );
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// What happens at the source.
struct World {
    random: Random,
    /// Its state, for deliveries of all of it.
    state: BTreeMap<Key, Row>,
    day: i64,
    number: usize,
}

impl World {
    fn key(&mut self) -> Key {
        let id = self.random.below(4);
        ((id > 0).then_some(id), [None, Some("a"), Some("B b")][self.random.below(3) as usize])
    }

    fn row(&mut self, rules: Rules) -> Row {
        let day = self.random.below(self.day as u64 + 3) as i64;
        let nameless = !rules.timestamp && self.random.below(6) == 0;
        Row {
            val: Some(self.random.below(4)).filter(|val| *val > 0),
            colour: Some(self.random.below(3)).filter(|colour| *colour > 0),
            at: (!nameless).then_some(START + day * DAY),
        }
    }

    /// The rows of the next delivery, some of them twice.
    fn rows(&mut self, rules: Rules) -> Vec<(Key, Row)> {
        let mut rows: Vec<(Key, Row)> = if rules.whole {
            for _ in 0..self.random.below(7) {
                let (key, row) = (self.key(), self.row(rules));
                match self.random.below(4) {
                    0 => drop(self.state.remove(&key)),
                    // As it was, with another value: only a comparison sees it.
                    1 if self.state.contains_key(&key) => self.state.get_mut(&key).unwrap().val = row.val,
                    _ => drop(self.state.insert(key, row)),
                }
            }
            self.state.iter().map(|(key, row)| (*key, row.clone())).collect()
        } else {
            let mut rows: BTreeMap<(Key, Option<i64>), Row> = BTreeMap::new();
            for _ in 0..self.random.below(7) {
                let (key, row) = (self.key(), self.row(rules));
                rows.insert((key, row.at.filter(|_| rules.timestamp)), row);
            }
            rows.into_iter().map(|((key, _), row)| (key, row)).collect()
        };
        let twice: Vec<_> = rows.iter().filter(|_| self.random.below(6) == 0).cloned().collect();
        rows.extend(twice);
        rows
    }
}

fn csv(rows: &[(Key, Row)]) -> String {
    let text = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let line = |((id, kind), row): &(Key, Row)| {
        let at = row.at.and_then(chrono::DateTime::from_timestamp_micros);
        let at = at.map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default();
        format!("{},{},{},{},{at}\n", text(*id), kind.unwrap_or_default(), text(row.val), text(row.colour))
    };
    "Id,Kind of,val,colour,At\n".to_owned() + &rows.iter().map(line).collect::<String>()
}

fn model(rules: Rules, with_colour: bool) -> String {
    let columns =
        if with_colour { "\"Id\", \"Kind of\", val, \"At\", colour" } else { "\"Id\", \"Kind of\", val, \"At\"" };
    format!("{{{{ config({}) }}}}\nselect {columns} from {{{{ source('raw', 'things') }}}}\n", rules.config())
}

const SOURCES: &str = "sources:
  - name: raw
    root: in
    tables:
      - name: things
        path: things/
        format: csv
        columns:
          - { name: Id, data_type: bigint }
          - { name: Kind of, data_type: varchar }
          - { name: val, data_type: bigint }
          - { name: colour, data_type: bigint }
          - { name: At, data_type: timestamp }
";

fn follow(rules: Rules, seed: u64) {
    let rounds: usize = std::env::var("LAKE_SOAK_ROUNDS").map_or(5, |count| count.parse().unwrap());
    let sources = format!("{SOURCES}{}", if rules.whole { "        snapshot: true\n" } else { "" });
    let sandbox = Sandbox::new(&[("sources.yml", &sources), ("models/silver/things.sql", &model(rules, false))]);
    let mut truth = Truth { rules, keys: BTreeMap::new(), has_colour: false };
    let mut world = World { random: Random(seed), state: BTreeMap::new(), day: 1, number: 0 };
    let mut with_colour = false;
    for round in 0..rounds {
        if !with_colour && round > 1 && world.random.below(2) == 0 {
            with_colour = true;
            sandbox.write("models/silver/things.sql", model(rules, true));
        }
        let deliveries = if round == 0 { 1 } else { world.random.below(4) };
        let mut batch: Vec<(Key, Row)> = Vec::new();
        for _ in 0..deliveries {
            (world.day, world.number) = (world.day + 1, world.number + 1);
            let mut rows = world.rows(rules);
            if rules.timestamp && !rules.whole {
                // Files of one run are one delivery: what they say of one key and time is one row.
                for (key, row) in &mut rows {
                    match batch.iter().find(|(known, other)| known == key && other.at == row.at) {
                        Some((_, same)) => *row = same.clone(),
                        None => batch.push((*key, row.clone())),
                    }
                }
            }
            let now = START + world.day * DAY;
            let date = chrono::DateTime::from_timestamp_micros(now).unwrap();
            let name = match rules.whole {
                true => format!("in/things/{}.csv", date.format("%Y-%m-%d")),
                false => format!("in/things/n{}.csv", world.number),
            };
            sandbox.write(&name, csv(&rows));
            let time = UNIX_EPOCH + Duration::from_micros(now as u64);
            std::fs::File::options().write(true).open(sandbox.path(&name)).unwrap().set_modified(time).unwrap();
            if !rules.timestamp || rules.whole {
                truth.deliver(&rows, now, with_colour);
            }
        }
        if rules.timestamp && !rules.whole && deliveries > 0 {
            truth.deliver(&batch, 0, with_colour);
        }
        if world.random.below(3) == 0 {
            let point = ["manifest-written", "staged", "published"][world.random.below(3) as usize];
            let point = format!("{point}:{}", 1 + world.random.below(3));
            let run = sandbox.command(&["build"]).env("LAKE_FAIL_POINT", point).output().unwrap();
            assert!(run.status.success() || run.status.signal() == Some(6), "{run:?}");
        }
        sandbox.ok(&["build"]);
        let shown = format!("{}, seed {seed}, round {round}", rules.config());
        let (found, expected) = (lines(&sandbox, &truth), truth.lines());
        assert_eq!(found, expected, "{shown}");
        assert_sound(&sandbox);
        let again = sandbox.json(&["build"]);
        assert_eq!(node(&again, "silver.things")["status"], "skipped", "{shown}");
    }
    assert!(truth.lines().len() > 5 && truth.keys.values().any(|starts| starts.len() > 1), "nothing happened");
}

const TIMESTAMP: Rules = Rules { timestamp: true, all: false, updated_at: true, whole: true, deletes: "ignore" };
const CHECK: Rules = Rules { timestamp: false, updated_at: false, ..TIMESTAMP };

#[test]
fn changes_by_timestamp() {
    follow(Rules { whole: false, ..TIMESTAMP }, 0x5cd2);
    follow(Rules { whole: false, ..TIMESTAMP }, 0xfeed);
}

#[test]
fn changes_by_check() {
    follow(Rules { whole: false, ..CHECK }, 0xabba);
    follow(Rules { whole: false, all: true, updated_at: true, ..CHECK }, 0xbee);
}

#[test]
fn dumps_by_timestamp() {
    for (seed, deletes) in [(0x11, "ignore"), (0x2222, "invalidate"), (0x3333, "new_record")] {
        follow(Rules { deletes, ..TIMESTAMP }, seed);
    }
}

#[test]
fn dumps_by_check() {
    for (seed, deletes) in [(0x44, "ignore"), (0x5555, "invalidate"), (0x6666, "new_record")] {
        follow(Rules { deletes, all: seed == 0x44, ..CHECK }, seed);
    }
}

#[test]
fn dumps_by_check_with_times() {
    for (seed, deletes) in [(0x77, "ignore"), (0x8888, "invalidate"), (0x9999, "new_record")] {
        follow(Rules { deletes, all: true, updated_at: true, ..CHECK }, seed);
    }
}
