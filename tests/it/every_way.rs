//! Builds that are killed, over every way to make a table, one by one and in one burst: after the next build each table is
//! row for row what builds that nobody disturbs have made.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use chrono::{Days, Utc};

use crate::sandbox::{Random, Sandbox};

const SOURCES: &str = "sources:
  - name: raw
    root: in
    tables:
      - name: items
        path: items/
        format: csv
        on_bad_row: quarantine
        columns:
          - { name: id, data_type: bigint }
          - { name: op, data_type: varchar }
          - { name: value, data_type: varchar }
          - { name: day, data_type: date }
          - { name: at, data_type: timestamp }
          - { name: seen, data_type: timestamp }
";

/// The moments at which a build can be killed on its way from staged rows to published tables.
const POINTS: [&str; 8] = [
    "staged",
    "quarantine-staged",
    "quarantine-noted",
    "manifest-written",
    "journal",
    "burst",
    "published",
    "left-out",
];

/// Each way, and a view that has all rows of all of them as text.
pub fn house() -> Sandbox {
    let columns = "id, op, value, day, at, seen";
    let taken = format!("select {columns} from {{{{ source('raw', 'items') }}}}");
    let incremental = |more: &str, sql: &str| format!("{{{{ config(materialized='incremental', {more}) }}}}\n{sql}");
    let begin = Utc::now().date_naive().checked_sub_days(Days::new(4)).unwrap();
    let batches =
        format!("incremental_strategy='microbatch', event_time='at', batch_size='day', begin='{begin}', lookback=5");
    let latest = "unique_key='id', sequence_by='seen', delete_when=\"op = 'D'\"";
    let history = "{{ config(materialized='scd2', unique_key='id', strategy='timestamp', updated_at='seen') }}\n";
    let changes = "select id, value, _change_type as change from {{ ref('latest', changes=true) }} where _change_type <> 'update_preimage'";
    let whole = "select value, day, count(*) as n from {{ source('raw', 'items', changes=false) }} group by value, day";
    let of = |model: &str, columns: &str| {
        format!("select '{model}' as model, concat_ws('|', {columns}) as line from {{{{ ref('{model}') }}}}")
    };
    let all = [
        of("appended", "id, op, value, day, at, seen"),
        of("latest", "id, value, day, seen"),
        of("versions", "id, value, valid_from, coalesce(cast(valid_to as varchar), 'now'), is_current"),
        of("of_keys", "id, value, seen"),
        of("by_day", "value, day, n"),
        of("daily", "id, value, at"),
        of("copied", "id, value"),
        of("total", "value, n, name"),
    ];
    Sandbox::new(&[
        ("sources.yml", SOURCES),
        ("seeds/names.csv", "value,name\na,Ann\nb,Bob\nc,Cid\n"),
        ("models/silver/appended.sql", &incremental("event_time='at'", &taken)),
        ("models/silver/latest.sql", &incremental(latest, &taken)),
        (
            "models/silver/versions.sql",
            &format!("{history}select id, max(value) as value, seen from ({taken}) group by id, seen"),
        ),
        ("models/silver/of_keys.sql", &incremental("unique_key='id', incremental_strategy='delete+insert'", &taken)),
        (
            "models/silver/by_day.sql",
            &incremental("partition_by='day', incremental_strategy='insert_overwrite'", whole),
        ),
        ("models/gold/daily.sql", &incremental(&batches, "select id, value, at from {{ ref('appended') }}")),
        ("models/gold/copied.sql", &incremental("unique_key='id', delete_when=\"change = 'delete'\"", changes)),
        (
            "models/gold/total.sql",
            "{{ config(materialized='table') }} select l.value, n.name, count(*) as n from {{ ref('latest') }} l left join {{ ref('names') }} n on n.value = l.value group by l.value, n.name",
        ),
        ("models/gold/all_rows.sql", &all.join("\nunion all\n")),
        (
            "models/silver/tests.yml",
            "models:\n  - name: latest\n    columns: [{ name: id, data_tests: [unique, not_null] }]\n\
             \x20 - name: appended\n    columns: [{ name: value, data_tests: [{ accepted_values: { values: [a, b], on_violation: quarantine } }] }]\n",
        ),
    ])
}

/// New keys, changed ones, late ones, deletes, and a row that cannot be read.
pub fn deliver(sandboxes: &[&Sandbox], number: u64) {
    let mut random = Random(0xde11_0000 + number);
    let today = Utc::now().date_naive();
    let mut text = "id,op,value,day,at,seen\n".to_owned();
    for row in 0..12 {
        let id = random.below(8 + 2 * number);
        let op = if random.below(6) == 0 { "D" } else { "U" };
        let value = ["a", "b", "c"][random.below(3) as usize];
        let day = today.checked_sub_days(Days::new(random.below(4))).unwrap();
        // A late row is as old as some delivery before; no two rows of a key have the same time.
        let seen = 1000 * (number - random.below(number.min(3) + 1)) + 20 * number % 1000 + row;
        let seen = chrono::DateTime::from_timestamp(1_700_000_000 + seen as i64, (number * 1000) as u32).unwrap();
        let seen = seen.format("%Y-%m-%d %H:%M:%S%.6f");
        text.push_str(&format!("{id},{op},{value},{day},{day} 10:00:00,{seen}\n"));
    }
    text.push_str("many,U,a,2026-01-01,never,2026-01-01 00:00:00\n");
    sandboxes.iter().for_each(|sandbox| sandbox.write(&format!("in/items/{number:04}.csv"), &text));
}

pub fn lines(sandbox: &Sandbox) -> Vec<String> {
    let rows = sandbox.query("select model, line from gold.all_rows order by model, line");
    rows.iter().map(|row| format!("{} {}", row["model"].as_str().unwrap(), row["line"].as_str().unwrap())).collect()
}

/// A house whose builds are killed, and one whose builds are not.
struct Houses {
    disturbed: Sandbox,
    undisturbed: Sandbox,
    delivered: u64,
    killed: usize,
}

impl Houses {
    fn new() -> Self {
        let mut houses = Self { disturbed: house(), undisturbed: house(), delivered: 0, killed: 0 };
        houses.deliver();
        houses.disturbed.ok(&["build"]);
        houses.undisturbed.ok(&["build"]);
        houses.assert_alike("the first build");
        houses
    }

    fn deliver(&mut self) {
        deliver(&[&self.disturbed, &self.undisturbed], self.delivered);
        self.delivered += 1;
    }

    #[track_caller]
    fn assert_alike(&self, what: &str) {
        let (found, expected) = (lines(&self.disturbed), lines(&self.undisturbed));
        let differ = found.iter().filter(|line| !expected.contains(line)).map(|line| format!("+ {line}"));
        let differ = differ.chain(expected.iter().filter(|line| !found.contains(line)).map(|line| format!("- {line}")));
        assert!(found == expected, "{what}, delivery {}:\n{}", self.delivered, differ.collect::<Vec<_>>().join("\n"));
        assert!(expected.iter().any(|line| line.starts_with("versions")), "{expected:?}");
    }

    /// Delivers, lets a build be killed by `kill`, builds, and compares. Says whether it was killed.
    fn round(&mut self, args: &[&str], what: &str, kill: impl FnOnce(&Sandbox, &[&str]) -> bool) -> bool {
        self.deliver();
        let died = kill(&self.disturbed, args);
        self.killed += usize::from(died);
        self.disturbed.ok(&["build"]);
        self.undisturbed.ok(&["build"]);
        self.assert_alike(what);
        died
    }
}

/// How many builds the long form kills.
fn kills() -> Option<u64> {
    std::env::var("LAKE_SOAK_KILLS").ok().map(|count| count.parse().unwrap())
}

fn arguments(atomic: bool) -> &'static [&'static str] {
    if atomic { &["build", "--atomic"] } else { &["build"] }
}

fn killed_at_points(atomic: bool) {
    let mut houses = Houses::new();
    for point in POINTS {
        let mut reached = 0;
        // The first table, the second and so on, as far as the build comes; the short form takes one of them.
        let hits: &[u32] = match (kills(), point) {
            (Some(_), _) => &[1, 2, 4, 7],
            // One table leaves rows out.
            (None, "left-out") => &[1],
            (None, _) => &[2],
        };
        for hit in hits {
            let armed = format!("{point}:{hit}");
            let died = houses.round(arguments(atomic), &armed, |sandbox, args| {
                let run = sandbox.command(args).env("LAKE_FAIL_POINT", &armed).output().unwrap();
                assert!(run.status.signal().is_some() || run.status.success(), "{armed}: {run:?}");
                run.status.signal().is_some()
            });
            if !died {
                break;
            }
            reached += 1;
        }
        let expected = match point {
            "journal" => atomic && kills().is_some(),
            "burst" => atomic,
            "published" => !atomic,
            _ => true,
        };
        assert_eq!(reached > 0, expected, "{point}");
    }
}

#[test]
fn killed_at_every_point() {
    killed_at_points(false);
}

#[test]
fn killed_at_every_point_of_a_burst() {
    killed_at_points(true);
}

#[test]
fn killed_at_any_time() {
    let kills = kills().unwrap_or(6);
    let (mut houses, mut random) = (Houses::new(), Random(0xa11_3a75));
    let start = Instant::now();
    houses.round(&["build"], "nothing happened", |_, _| false);
    // It was two builds, and a comparison.
    let mut whole = start.elapsed() / 2;
    for number in 0..kills {
        houses.round(arguments(number % 2 == 1), "killed at some time", |sandbox, args| {
            let mut build = sandbox.start(args);
            let moment = random.moment(whole);
            std::thread::sleep(moment);
            build.kill().unwrap();
            let status = build.wait().unwrap();
            assert!(status.signal() == Some(9) || status.success(), "{status}");
            whole = if status.success() { whole.min(moment.max(Duration::from_millis(50))) } else { whole };
            status.signal().is_some()
        });
    }
    assert!(houses.killed > 0 || kills == 0, "no build was still running when it was killed");
}
