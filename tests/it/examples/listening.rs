//! `examples/listening`: plays of songs by day, sessions, the songs of the longest ones, and what leaves the lake.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use chrono::NaiveDateTime;
use serde_json::{Value, json};

use super::{Example, warnings};
use crate::reader;
use crate::sandbox::{names, node};

/// A song by artist and track.
type Song = (String, String);

/// The plays of all files: user, time, and the place in the file, from below; and the song.
fn plays(example: &Example) -> Vec<((String, NaiveDateTime, i64), Song)> {
    let folder = example.sandbox.path("data/inbox/plays");
    let mut plays = Vec::new();
    for name in names(&folder) {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        for (line, place) in text.lines().zip(1..) {
            let [user, at, _, artist, _, track] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let at = NaiveDateTime::parse_from_str(at, "%Y-%m-%dT%H:%M:%SZ").unwrap();
            plays.push(((user.to_owned(), at, -place), (artist.to_owned(), track.to_owned())));
        }
    }
    plays.sort();
    plays
}

/// The sessions of all users, each with its songs.
fn sessions(example: &Example) -> BTreeMap<(String, u64), Vec<Song>> {
    let mut sessions: BTreeMap<(String, u64), Vec<Song>> = BTreeMap::new();
    let (mut number, mut before) = (0, None);
    for ((user, at, _), song) in plays(example) {
        number = match &before {
            Some((other, last)) if *other == user => {
                number + u64::from((at - *last as NaiveDateTime).num_seconds() > 1200)
            }
            _ => 1,
        };
        before = Some((user.clone(), at));
        sessions.entry((user, number)).or_default().push(song);
    }
    sessions
}

/// The ten songs as the table should have them.
fn top_songs(example: &Example) -> Vec<Value> {
    let mut longest: Vec<_> = sessions(example).into_iter().collect();
    longest.sort_by_key(|(key, songs)| (std::cmp::Reverse(songs.len()), key.clone()));
    longest.truncate(50);
    let mut songs: BTreeMap<Song, (u64, BTreeSet<(String, u64)>)> = BTreeMap::new();
    for (session, played) in longest {
        for song in played {
            let (plays, of) = songs.entry(song).or_default();
            *plays += 1;
            of.insert(session.clone());
        }
    }
    let mut songs: Vec<_> = songs.into_iter().collect();
    songs.sort_by_key(|(song, (plays, _))| (std::cmp::Reverse(*plays), song.clone()));
    let row = |(rank, ((artist, track), (plays, of))): (u64, (Song, (u64, BTreeSet<_>)))| json!({"rank": rank, "artist_name": artist, "track_name": track, "plays": plays, "sessions": of.len()});
    (1..=10).zip(songs).map(row).collect()
}

/// A table of songs as a file of fields with something between.
fn as_text(songs: &[Value], columns: &[&str], between: &str) -> String {
    let field = |value: &Value| match value {
        Value::String(text) if text.contains(['"', ',', '\t']) => format!("\"{}\"", text.replace('"', "\"\"")),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let line = |row: &Value| columns.iter().map(|name| field(&row[*name])).collect::<Vec<_>>().join(between) + "\n";
    songs.iter().map(line).collect()
}

const ALL: [&str; 5] = ["rank", "artist_name", "track_name", "plays", "sessions"];

#[track_caller]
fn assert_songs(example: &Example) {
    let songs = top_songs(example);
    assert_eq!(example.query("select * from {{ ref('top_songs') }} order by rank"), songs);
    let csv = std::fs::read_to_string(example.sandbox.path("exports/dev/top_songs.csv")).unwrap();
    assert_eq!(csv, ALL.join(",") + "\n" + &as_text(&songs, &ALL, ","));
}

fn exported(report: &Value) -> Vec<(String, String)> {
    let exports = report["exports"].as_array().cloned().unwrap_or_default();
    let text = |export: &Value, key: &str| export[key].as_str().unwrap_or_default().to_owned();
    let mut found: Vec<_> = exports.iter().map(|export| (text(export, "name"), text(export, "status"))).collect();
    found.sort();
    found
}

#[test]
fn plays_become_sessions_and_songs() {
    let example = Example::copy("listening");
    example.assert_generated("data/inbox");
    let report = example.build(&[]);
    assert_eq!(exported(&report).iter().filter(|(_, status)| status == "success").count(), 3, "{report:#}");
    let all = plays(&example).len() as u64;
    let counts = ["plays_raw", "plays", "fact_plays", "fact_sessions", "top_sessions", "top_songs"];
    let counts = counts.map(|model| example.count(model));
    assert_eq!(counts, [all, all, all, sessions(&example).len() as u64, 50, 10]);
    // Ids are often empty, and how many are is told.
    let missing = |field: usize| {
        let of_file =
            |name: String| std::fs::read_to_string(example.sandbox.path("data/inbox/plays").join(name)).unwrap();
        let texts: Vec<String> = names(&example.sandbox.path("data/inbox/plays")).into_iter().map(of_file).collect();
        let empty = |line: &&str| line.split('\t').nth(field) == Some("");
        texts.iter().flat_map(|text| text.lines()).filter(empty).count() as u64
    };
    let warned = warnings(&report, "silver.plays");
    assert_eq!(warned["not_null_plays_artist_id"], missing(2));
    assert_eq!(warned["not_null_plays_track_id"], missing(4));
    assert_songs(&example);
    // Equal ones on both sides of a limit: the data has them, or the order of the rest is not tested.
    let tied = "select count(*) from {{ ref('fact_sessions') }} where tracks = (select min(tracks) from {{ ref('top_sessions') }})";
    assert!(
        example.value(tied).as_u64()
            > example.value(&tied.replace("ref('fact_sessions')", "ref('top_sessions')")).as_u64()
    );
    let songs = top_songs(&example);
    assert_eq!(songs[8]["plays"], songs[9]["plays"]);
    assert_eq!(songs[8]["track_name"], "\"Heroes\"");
    // Exactly twenty minutes stay in, one second more does not; midnight is no end.
    let of_user = |user: &str| {
        let sql = format!(
            "select max(session_number) as n, count(distinct day) as d from {{{{ ref('fact_plays') }}}} where userid = '{user}'"
        );
        example.query(&sql)
    };
    assert_eq!(of_user("user_900001"), [json!({"n": 1, "d": 1})]);
    assert_eq!(of_user("user_900002"), [json!({"n": 4, "d": 1})]);
    assert_eq!(of_user("user_900003"), [json!({"n": 1, "d": 2})]);
    // A quote that does not end swallows nothing.
    assert_eq!(
        example.value("select count(*) from {{ ref('dim_songs') }} where track_name = 'Born Slippy (12\" Mix'"),
        1
    );
    // For the bulk load: no header, tabs, compressed.
    let packed = example.sandbox.path("exports/dev/ui/top_songs.tsv.gz");
    let unpacked = Command::new("gzip").arg("-dc").arg(packed).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&unpacked.stdout), as_text(&songs, &ALL[..4], "\t"));
    assert!(std::fs::read(example.sandbox.path("exports/dev/ui/top_sessions.parquet")).unwrap().starts_with(b"PAR1"));
    example.assert_rests();
    example.assert_read_by_others();
    assert_eq!(names(&example.sandbox.path("data/lake/bronze/plays_raw")).len(), 9, "a folder for each day");
}

#[test]
fn a_day_comes_again_and_days_are_loaded_again() {
    let example = Example::copy("listening");
    example.build(&[]);
    // What is loaded again is what it was.
    let report = example.build(&["--since", "2009-05-02", "--until", "2009-05-04"]);
    assert!(node(&report, "bronze.plays_raw")["reason"].as_str().unwrap().contains("3 again"), "{report:#}");
    assert_eq!(node(&report, "gold.top_songs")["status"], "skipped");
    assert!(exported(&report).iter().all(|(_, status)| status == "skipped"), "{report:#}");
    assert_songs(&example);
    // A day is corrected: the session over midnight loses its end, and a song wins.
    let day = "data/inbox/plays/plays_2009-05-03.tsv";
    let text = std::fs::read_to_string(example.sandbox.path(day)).unwrap();
    let kept: String =
        text.lines().filter(|line| !line.starts_with("user_900003")).map(|line| format!("{line}\n")).collect();
    let more: String = (0..40)
        .map(|at| format!("user_000001\t2009-05-03T01:{:02}:00Z\t\tNina Simone\t\tSinnerman\n", 59 - at))
        .collect();
    assert!(kept.len() < text.len());
    example.sandbox.write(day, kept + &more);
    // A new day arrives at the same time.
    example.sandbox.write(
        "data/inbox/plays/plays_2009-05-08.tsv",
        "user_000002\t2009-05-08T10:00:00Z\t\tBjörk\t\tJóga\nuser_new\t2009-05-08T09:59:00Z\t\tBjörk\t\tHunter\n",
    );
    let report = example.build(&[]);
    let reason = node(&report, "bronze.plays_raw")["reason"].as_str().unwrap().to_owned();
    assert_eq!(reason, "files in inbox.plays: 1 new, 1 changed");
    assert!(exported(&report).iter().all(|(_, status)| status == "success"), "{report:#}");
    assert_songs(&example);
    assert_eq!(example.count("plays_raw"), plays(&example).len() as u64);
    assert_eq!(example.count("fact_sessions"), sessions(&example).len() as u64);
    assert_eq!(example.value("select gender from {{ ref('dim_listeners') }} where userid = 'user_new'"), Value::Null);
    example.assert_rests();
    // All from nothing is the same.
    let before = example.query("select * from {{ ref('fact_plays') }} order by play_id");
    example.build(&["--full-refresh"]);
    assert_eq!(example.query("select * from {{ ref('fact_plays') }} order by play_id"), before);
    // A file that somebody took away is written again, though no table changed.
    std::fs::remove_file(example.sandbox.path("exports/dev/top_songs.csv")).unwrap();
    let report = example.build(&[]);
    assert_eq!(exported(&report)[1], ("export.top_songs_csv".to_owned(), "success".to_owned()), "{report:#}");
    assert_songs(&example);
}

#[test]
fn a_streaming_writer_and_files_fill_one_table() {
    let Some(python) = reader::python() else { return };
    let example = Example::copy("listening");
    example.build(&[]);
    let program = "
import sys, datetime as dt, pyarrow as pa
from deltalake import write_deltalake
columns = pa.schema([('userid', pa.string()), ('played_at', pa.timestamp('us')), ('artist_id', pa.string()),
    ('artist_name', pa.string()), ('track_id', pa.string()), ('track_name', pa.string()), ('day', pa.date32()),
    ('source_file', pa.string()), ('source_row', pa.int64())])
row = {'userid': 'user_streamed', 'played_at': dt.datetime(2009, 5, 7, 23, 59), 'artist_name': 'Björk',
    'track_name': 'Jóga', 'day': dt.date(2009, 5, 7), 'source_file': 'stream', 'source_row': 1}
write_deltalake(sys.argv[1], pa.Table.from_pylist([row], schema=columns), mode='append')
";
    let table = example.sandbox.path("data/lake/bronze/plays_raw");
    reader::run(Command::new(&python).args(["-c", program]).arg(&table)).unwrap();
    let all = plays(&example).len() as u64;
    let report = example.build(&[]);
    assert_eq!(node(&report, "bronze.plays_raw")["status"], "skipped");
    assert_eq!(example.count("fact_plays"), all + 1);
    // And files go on.
    example
        .sandbox
        .write("data/inbox/plays/plays_2009-05-08.tsv", "user_streamed\t2009-05-08T00:10:00Z\t\tBjörk\t\tJóga\n");
    example.build(&[]);
    let streamed =
        "select session_number, count(*) as n from {{ ref('fact_plays') }} where userid = 'user_streamed' group by 1";
    assert_eq!(example.query(streamed), [json!({"session_number": 1, "n": 2})]);
    example.assert_rests();
}

#[test]
fn contracts_and_environments_are_kept_apart() {
    let example = Example::copy("listening");
    // A model that promises other columns than it has does not compile.
    let songs = example.sandbox.path("models/gold/top_songs.sql");
    let sql = std::fs::read_to_string(&songs).unwrap();
    example
        .sandbox
        .write("models/gold/top_songs.sql", sql.replace("plays, sessions\nfrom ranked", "plays\nfrom ranked"));
    example.lake(&["compile"]).assert_failed(2, "sessions");
    std::fs::write(&songs, sql).unwrap();
    // An environment is a root, and a place for the files that leave it.
    example.build(&[]);
    let prod = Example::copy("listening").at("prod", "data/lake_prod");
    prod.build(&["--vars", "{most_played_songs: 3}"]);
    let lines =
        |example: &Example, path: &str| std::fs::read_to_string(example.sandbox.path(path)).unwrap().lines().count();
    assert_eq!((lines(&example, "exports/dev/top_songs.csv"), lines(&prod, "exports/prod/top_songs.csv")), (11, 4));
    assert!(!prod.sandbox.path("data/lake").exists());
}
