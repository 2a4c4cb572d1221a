//! `examples/movies`: internal CSV and nightly dumps of a vendor.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Example, warnings};
use crate::sandbox::node;

const REAL_DUMP: &str = "data/real/vendor/2022-01-01";

fn real() -> Example {
    Example::copy("movies").at("real", "data/lake_real")
}

/// One table of a dump.
fn dump(example: &Example, night: &str, table: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(example.sandbox.path(&format!("{night}/{table}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn write(example: &Example, night: &str, table: &str, records: &[Value]) {
    example.sandbox.write(&format!("{night}/{table}.json"), serde_json::to_string(records).unwrap());
}

/// The dump of another night as it was, apart from what `change` does to a table.
fn next_night(example: &Example, from: &str, to: &str, change: impl Fn(&str, &mut Vec<Value>)) {
    for table in ["authors", "books", "reviews"] {
        let mut records = dump(example, from, table);
        change(table, &mut records);
        write(example, to, table, &records);
    }
}

fn all_warnings(report: &Value) -> BTreeMap<String, u64> {
    let nodes = report["nodes"].as_array().unwrap();
    nodes.iter().flat_map(|node| warnings(report, node["name"].as_str().unwrap())).collect()
}

#[track_caller]
fn assert_counts(example: &Example, expected: [(&str, u64); 5]) {
    assert_eq!(example.counts(expected.map(|(model, _)| model)), expected.map(|(_, rows)| rows), "{expected:?}");
}

const REAL_COUNTS: [(&str, u64); 5] =
    [("movies", 91), ("streams", 9_652), ("books", 103), ("reviews", 501), ("authors", 201)];

#[test]
fn the_real_data_has_its_known_rows_and_flaws_however_often_it_is_built() {
    let example = real();
    let report = example.build(&[]);
    assert_counts(&example, REAL_COUNTS);
    let known = [
        ("authors_without_a_birth_date", 1),
        ("authors_without_a_name", 1),
        ("books_of_unknown_authors", 8),
        ("reviews_of_unknown_movies", 248),
        ("reviews_updated_before_they_were_created", 249),
    ];
    let known: BTreeMap<String, u64> = known.map(|(name, count)| (name.to_owned(), count)).into();
    assert_eq!(all_warnings(&report), known);
    let of_reviews = node(&report, "trusted.reviews")["tests"].as_array().unwrap();
    let to_books = of_reviews.iter().find(|test| test["name"] == "reviews_of_unknown_books").unwrap();
    assert_eq!(to_books["status"], "pass", "{to_books}");
    example.assert_rests();
    // The vendor sends the same again the next night, and nothing is doubled.
    next_night(&example, REAL_DUMP, "data/real/vendor/2022-01-02", |_, _| {});
    example.build(&[]);
    assert_counts(&example, REAL_COUNTS);
    assert_eq!(example.counts(["vendor_authors", "vendor_books", "vendor_reviews"]), [201, 103, 501]);
    example.build(&["--full-refresh"]);
    assert_counts(&example, REAL_COUNTS);
    example.assert_rests();
}

#[test]
fn the_business_questions_have_the_answers_of_the_real_data() {
    let example = real();
    example.build(&[]);
    // Counted by a program of its own over the same files.
    let number = |sql: &str| example.value(sql).as_f64().unwrap();
    let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
    let based = "select streamed_movies, based_on_a_book from {{ ref('movies_based_on_books') }}";
    assert_eq!(example.query(based), [json!({"streamed_movies": 91, "based_on_a_book": 85})]);
    near(number("select share from {{ ref('movies_based_on_books') }}"), 85.0 / 91.0);
    let outage = "select outage, users, streams from {{ ref('users_in_outages') }}";
    assert_eq!(example.query(outage), [json!({"outage": "christmas morning", "users": 4, "streams": 4})]);
    let nations = "select * from {{ ref('movies_by_author_nationality') }} order by movies desc, nationality limit 3";
    let top: Vec<(String, u64)> = example
        .query(nations)
        .iter()
        .map(|row| (row["nationality"].as_str().unwrap().to_owned(), row["movies"].as_u64().unwrap()))
        .collect();
    assert_eq!(top, [("italians".to_owned(), 12), ("mexicans".to_owned(), 11), ("albanians".to_owned(), 9)]);
    let one =
        "select movies, streams from {{ ref('movies_by_author_nationality') }} where nationality = 'singaporeans'";
    assert_eq!(example.query(one), [json!({"movies": 3, "streams": 326})]);
    assert_eq!(example.count("movies_by_author_nationality"), 56);
    near(number("select minutes from {{ ref('average_stream') }}"), 721.778_802_320_762_6);
    near(number("select share_of_the_movie from {{ ref('average_stream') }}"), 8.087_229_405_927_742);
    near(number("select size_mb from {{ ref('median_stream_size') }}"), 935.901_447_521_277_3);
    let week = json!({"first_day": "2021-12-24", "last_day": "2021-12-30", "users": 739});
    assert_eq!(example.query("select * from {{ ref('users_who_watched_half') }}"), [week]);
    example.assert_read_by_others();
}

#[test]
fn the_look_alike_is_built_from_nothing_and_again() {
    let example = Example::copy("movies");
    example.assert_generated("data/sample");
    let report = example.build(&[]);
    let last = "data/sample/vendor/2021-12-31";
    let of = |table| dump(&example, last, table).len() as u64;
    let (authors, books, reviews) = (of("authors"), of("books"), of("reviews"));
    assert_counts(
        &example,
        [("movies", 24), ("streams", 500), ("books", books), ("reviews", reviews), ("authors", authors)],
    );
    let flaws = all_warnings(&report);
    assert_eq!(flaws["authors_without_a_name"], 1);
    assert_eq!(flaws["books_of_unknown_authors"], 3);
    assert_eq!(flaws["reviews_of_unknown_movies"], 59, "{flaws:?}");
    assert!(flaws["reviews_updated_before_they_were_created"] * 3 > reviews, "{flaws:?}");
    // A comma in quotes, an accent, a middle dot, and an en dash that the vendor writes in upper case.
    let odd = "select display_title from {{ ref('movies') }} where title in \
               ('the good, the bad and the ugly', 'amélie', 'wall·e', 'star wars: episode ii – attack of the clones')";
    assert_eq!(example.query(odd).len(), 4);
    let joined = "select count(distinct movie_title) as n from {{ ref('movie_books') }} where movie_title in \
                  ('wall·e', 'amélie', 'star wars: episode ii – attack of the clones')";
    assert_eq!(example.value(joined), 3);
    example.assert_rests();
    example.ok(&["test"]);
}

#[test]
fn every_night_is_a_step_of_the_history() {
    let example = Example::copy("movies");
    example.build(&[]);
    let book = |name: &str| {
        let sql = format!(
            "select publisher, cast(valid_from as date) as since, cast(valid_to as date) as until, is_current \
             from {{{{ ref('vendor_books') }}}} where name = '{name}' order by valid_from"
        );
        example.query(&sql)
    };
    let changed = [
        json!({"publisher": "Left Book Club", "since": "2021-12-29", "until": "2021-12-30", "is_current": false}),
        json!({"publisher": "Pavilion & Sons", "since": "2021-12-30", "is_current": true}),
    ];
    assert_eq!(book("The Last Winter"), changed);
    // Away for a night, and back.
    let back = book("The Last Harvest");
    let times: Vec<_> = back.iter().map(|version| (version["since"].as_str(), version["until"].as_str())).collect();
    assert_eq!(times, [(Some("2021-12-29"), Some("2021-12-30")), (Some("2021-12-31"), None)]);
    // The next night an author dies, a book goes for good, and a review is another one.
    let counts = || example.counts(["vendor_authors", "books", "vendor_reviews", "reviews"]);
    let before = counts();
    let (last, next) = ("data/sample/vendor/2021-12-31", "data/sample/vendor/2022-01-01");
    next_night(&example, last, next, |table, records| match table {
        "authors" => records[0]["metadata"]["died_at"] = "2021-12-31T00:00:00.000+0000".into(),
        "books" => records.retain(|book| book["name"] != "The Last Winter"),
        _ => {
            records.retain(|review| review["books"][0]["metadata"]["title"] != "THE LAST WINTER");
            records[0]["rating"] = json!({"rate": 3, "label": "THREE"});
        }
    });
    let gone = (dump(&example, last, "reviews").len() - dump(&example, next, "reviews").len()) as u64;
    example.build(&[]);
    assert_eq!(counts(), [before[0] + 1, before[1] - 1, before[2] + 1, before[3] - gone]);
    assert!(book("The Last Winter").iter().all(|version| version["is_current"] == false));
    example.assert_rests();
    example.assert_read_by_others();
}

#[test]
fn a_dump_that_was_cut_off_deletes_nothing() {
    let example = Example::copy("movies");
    example.build(&[]);
    let (last, next) = ("data/sample/vendor/2021-12-31", "data/sample/vendor/2022-01-01");
    let books = || example.counts(["books", "vendor_books"]);
    let before = books();
    next_night(&example, last, next, |table, records| {
        if table == "books" {
            records.truncate(3);
        }
    });
    example.lake(&["build"]).assert_failed(1, "few_keys_vanish");
    assert_eq!(books(), before);
    // The vendor sends it again, whole.
    write(&example, next, "books", &dump(&example, last, "books"));
    example.build(&[]);
    assert_eq!(books(), before);
    example.assert_rests();
}

#[test]
fn days_of_streams_come_late_and_are_corrected() {
    let example = Example::copy("movies");
    let path = |day: u32| format!("data/sample/internal/streams_2021-12-{day}.csv");
    let christmas = std::fs::read_to_string(example.sandbox.path(&path(25))).unwrap();
    std::fs::remove_file(example.sandbox.path(&path(25))).unwrap();
    example.build(&[]);
    let users = || example.value("select users from {{ ref('users_in_outages') }}").as_u64().unwrap();
    assert_eq!((example.count("streams"), users()), (450, 0));
    example.sandbox.write(&path(25), &christmas);
    let report = example.build(&[]);
    assert_eq!(node(&report, "raw.internal_streams")["files_read"], 1);
    assert_eq!(example.count("streams"), 500);
    let before = users();
    // The day is delivered again with one stream of the outage more, 07:30 to 07:40 on local clocks.
    let more = "Unforgiven,user001@crist.biz,10.5,2021-12-25T07:30:00.000+0100,2021-12-25T07:40:00.000+0100\n";
    example.sandbox.write(&path(25), format!("{christmas}{more}"));
    let report = example.build(&[]);
    assert_eq!(node(&report, "raw.internal_streams")["files_read"], 1);
    assert_eq!((example.count("streams"), users()), (501, before + 1));
    // The same day once more, by hand.
    example.build(&["--select", "internal_streams+", "--files", "*2021-12-25*"]);
    assert_eq!(example.count("streams"), 501);
    example.assert_rests();
}

#[test]
fn a_movie_that_comes_later_brings_its_streams() {
    let example = Example::copy("movies");
    let path = "data/sample/internal/movies.csv";
    let all = std::fs::read_to_string(example.sandbox.path(path)).unwrap();
    let without: String =
        all.lines().filter(|line| !line.starts_with("Jaws")).map(|line| format!("{line}\n")).collect();
    example.sandbox.write(path, without);
    let report = example.lake(&[
        "build",
        "--output",
        "json",
        "--vars",
        "{known: {dev: {authors_without_a_name: 1, \
         authors_without_a_birth_date: 1, books_of_unknown_authors: 3, reviews_of_unknown_movies: 99, reviews_of_unknown_books: 0}}}",
    ]);
    assert_eq!(report.code, 0, "{}", report.stdout);
    assert!(report.stdout.contains("streams_of_unknown_movies"), "{}", report.stdout);
    let left = example.count("streams");
    assert!(left < 500);
    // One more unknown movie than is known of is an error, and what is published stays.
    example.lake(&["build"]).assert_failed(1, "reviews_of_unknown_movies");
    example.sandbox.write(path, all);
    example.build(&[]);
    assert_eq!(example.counts(["movies", "streams"]), [24, 500]);
}
