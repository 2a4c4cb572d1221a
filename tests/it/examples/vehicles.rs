//! `examples/vehicles`: event files of a fleet, through five layers into reports, and from dev to prod.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Example;
use crate::sandbox::{names, node};

const INBOX: &str = "data/inbox";

/// All lines of all files.
fn lines(example: &Example) -> Vec<Value> {
    let folder = example.sandbox.path(INBOX);
    let read = |name: String| std::fs::read_to_string(folder.join(name)).unwrap();
    let texts: Vec<String> = names(&folder).into_iter().map(read).collect();
    texts.iter().flat_map(|text| text.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What tells events apart.
fn key(event: &Value) -> [String; 5] {
    ["event", "on", "at", "organization_id"]
        .map(|name| event[name].as_str().unwrap().to_owned())
        .into_iter()
        .chain([event["data"]["id"].as_str().unwrap().to_owned()])
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

/// Each event once.
fn events(example: &Example) -> Vec<Value> {
    let once: BTreeMap<[String; 5], Value> = lines(example).into_iter().map(|event| (key(&event), event)).collect();
    once.into_values().collect()
}

fn is_in_bounds(event: &Value) -> bool {
    event["at"].as_str().unwrap().starts_with("2019")
}

fn line(event: &str, vehicle: &str, at: &str, place: &str) -> String {
    format!(
        "{{\"event\":\"{event}\",\"on\":\"vehicle\",\"at\":\"{at}\",\"data\":{{\"id\":\"{vehicle}\"{place}}},\"organization_id\":\"org-nord\"}}\n"
    )
}

/// How many rows a query has.
#[track_caller]
fn count(example: &Example, from: &str) -> u64 {
    example.value(&format!("select count(*) from {from}")).as_u64().unwrap()
}

#[test]
fn events_become_a_warehouse() {
    let example = Example::copy("vehicles");
    example.assert_generated(INBOX);
    assert_eq!(names(&example.sandbox.path(INBOX)).len(), 720);
    let report = example.build(&[]);
    let (lines, events) = (lines(&example), events(&example));
    assert!(lines.len() > events.len(), "events come twice");
    assert_eq!(example.count("raw_events"), lines.len() as u64);
    assert_eq!(example.count("stg_events"), events.len() as u64);
    // Bounds leave out wrong clocks, and no event because it has no place.
    let of_vehicles: Vec<&Value> = events.iter().filter(|event| event["on"] == "vehicle").collect();
    let good: Vec<&&Value> = of_vehicles.iter().filter(|event| is_in_bounds(event)).collect();
    let without_place = good.iter().filter(|event| event["data"].get("location").is_none()).count();
    assert!(without_place > 50 && of_vehicles.len() - good.len() == 5);
    assert_eq!(example.count("fact_vehicle_events"), good.len() as u64);
    assert_eq!(count(&example, "{{ ref('fact_vehicle_events') }} where latitude is null"), without_place as u64);
    assert_eq!(node(&report, "semantic.sem_vehicle_events")["rows_quarantined"], 5);
    assert_eq!(
        count(
            &example,
            "quarantine.semantic__sem_vehicle_events where \"row\" like '%1970-%' or \"row\" like '%2035-%'"
        ),
        5
    );
    // The busiest vehicles, and nothing that tells which they are.
    let mut busy: BTreeMap<&str, u64> = BTreeMap::new();
    good.iter().for_each(|event| *busy.entry(event["data"]["id"].as_str().unwrap()).or_default() += 1);
    assert_eq!(example.count("dim_vehicle"), busy.len() as u64);
    let mut most: Vec<u64> = busy.values().copied().collect();
    most.sort_by_key(|count| std::cmp::Reverse(*count));
    let top = example.query("select rank, vehicle, events from {{ ref('top_vehicles') }} order by rank");
    assert_eq!(top.iter().map(|row| row["events"].as_u64().unwrap()).collect::<Vec<_>>(), most[..10]);
    assert!(top.iter().all(|row| !busy.contains_key(row["vehicle"].as_str().unwrap())));
    // The last hour of the first of them, on a map.
    let path = example.query("select * from {{ ref('top_vehicle_path') }} order by step");
    assert!(path.len() > 10 && path.len() < most[0] as usize, "{}", path.len());
    let map = std::fs::read_to_string(example.sandbox.path("exports/dev/top_vehicle_path.geojson")).unwrap();
    let map: Value = serde_json::from_str(&map).unwrap();
    assert_eq!((&map["type"], &map["geometry"]["type"]), (&json!("Feature"), &json!("LineString")));
    let places = map["geometry"]["coordinates"].as_array().unwrap();
    assert_eq!(places.len(), path.len());
    assert_eq!(places[0], json!([path[0]["longitude"], path[0]["latitude"]]));
    let csv = std::fs::read_to_string(example.sandbox.path("exports/dev/top_vehicles.csv")).unwrap();
    assert_eq!(csv.lines().count(), 11);
    // Names of files tell local time, three hours behind; `4` is not `04`.
    let recorded = "select cast(min(recorded_at) as varchar) from {{ ref('stg_events') }} where source_file like '%2019-06-01-15-17-4-events.json'";
    assert_eq!(example.value(recorded), "2019-06-01T18:17:04Z");
    let load = example.query("select files, lines, new_events, duplicates from {{ ref('deliveries') }}");
    let duplicates = lines.len() - events.len();
    assert_eq!(
        load,
        [json!({"files": 720, "lines": lines.len(), "new_events": events.len(), "duplicates": duplicates})]
    );
    example.assert_rests();
    example.assert_read_by_others();
}

#[test]
fn every_layer_says_where_its_rows_come_from_and_has_a_profile() {
    let example = Example::copy("vehicles");
    example.build(&[]);
    let models = [
        "raw_events",
        "stg_events",
        "sem_vehicle_events",
        "sem_operating_period_events",
        "dim_vehicle",
        "dim_organization",
        "fact_vehicle_events",
        "fact_operating_periods",
        "events_per_vehicle",
    ];
    for model in models {
        let layers = example.query(&format!(
            "select layer, count(*) as n, count(source_system) as a, count(source_file) as b, count(load_timestamp) as c, \
             count(created_at) as d, count(updated_at) as e from {{{{ ref('{model}') }}}} group by layer"
        ));
        let [row] = layers.as_slice() else { panic!("{model}: {layers:?}") };
        assert!(["a", "b", "c", "d", "e"].iter().all(|column| row[*column] == row["n"]), "{model}: {row}");
    }
    // Rows, NULLs and distinct values of each column of each version, and of what is sensitive no value.
    for model in models.into_iter().chain(["top_vehicles", "top_vehicle_path"]) {
        let profiled = example.query(&format!(
            "select column_name, rows, nulls, distinct_values from _lake.profiles where split_part(node, '.', 2) = '{model}'"
        ));
        let rows = example.count(model);
        for column in &profiled {
            let name = column["column_name"].as_str().unwrap();
            let nulls = format!("select count(*) from {{{{ ref('{model}') }}}} where \"{name}\" is null");
            assert_eq!((&column["rows"], &column["nulls"]), (&rows.into(), &example.value(&nulls)), "{model}.{name}");
        }
        assert!(!profiled.is_empty(), "{model}");
    }
    let shown = example.ok(&["profile", "stg_events"]);
    let line =
        |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{shown}")).to_owned();
    assert!(line("latitude").contains("***") && !line("latitude").contains("52."), "{shown}");
    assert!(line("event ").contains("update 8"), "{shown}");
    let seconds =
        "select count(*) from _lake.node_results where node = 'staging.stg_events' and seconds > 0 and rows > 0";
    assert_eq!(example.value(seconds), 1);
}

#[test]
fn later_deliveries_repeat_events_bring_new_kinds_and_lines_that_are_none() {
    let example = Example::copy("vehicles");
    example.build(&[]);
    let (before, rows) = (events(&example).len() as u64, lines(&example).len() as u64);
    let first: Value = serde_json::from_str(
        std::fs::read_to_string(example.sandbox.path(INBOX).join("2019-06-01-15-18-1-events.json"))
            .unwrap()
            .lines()
            .next()
            .unwrap(),
    )
    .unwrap();
    let stamps = format!(
        "select cast(created_at as varchar) as created, cast(updated_at as varchar) as updated, source_file as file \
         from {{{{ ref('stg_events') }}}} where event_at = timestamp '{}' and entity_id = '{}'",
        first["at"].as_str().unwrap().trim_end_matches('Z'),
        first["data"]["id"].as_str().unwrap()
    );
    let old = example.query(&stamps);
    // An event that was taken in comes again; a new kind brings fields of its own; and a line is no event.
    let battery = ",\"battery\":{\"percent\":81}";
    let text = format!("{first}\n{}", line("charge", "7-new", "2019-06-01T21:00:04.500Z", battery));
    example.sandbox.write(&format!("{INBOX}/2019-06-01-18-0-4-events.json"), text);
    example.sandbox.write(
        &format!("{INBOX}/2019-06-01-18-0-5-events.json"),
        line("register", "7-new", "2019-06-01T21:00:04Z", "") + "{\"event\":\"upd\n",
    );
    // The rules for kinds of events are of the layers above; `raw` and `staging` take in what there is.
    let run = example.lake(&["build", "--output", "json"]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(run.code, 1, "{report:#}");
    assert_eq!(node(&report, "raw.raw_events")["rows_quarantined"], 1);
    assert_eq!(node(&report, "semantic.sem_vehicle_events")["status"], "error");
    assert_eq!(count(&example, "quarantine.fleet__events where file_path like '%18-0-5%' and row_number = 2"), 1);
    assert_eq!((example.count("raw_events"), example.count("stg_events")), (rows + 3, before + 2));
    assert_eq!(
        example.value("select data['battery']['percent'] from {{ ref('raw_events') }} where event = 'charge'"),
        81
    );
    let new = example.query(&stamps);
    assert_eq!((old.len(), new.len()), (1, 1));
    assert_eq!(new[0]["created"], old[0]["created"]);
    assert!(new[0]["updated"].as_str() > old[0]["updated"].as_str(), "{old:?} {new:?}");
    assert!(new[0]["file"].as_str().unwrap().ends_with("2019-06-01-18-0-4-events.json"));
    // The new kind is allowed, and all goes on.
    for path in ["models/semantic/semantic.yml", "models/staging/staging.yml"] {
        let yaml = std::fs::read_to_string(example.sandbox.path(path)).unwrap();
        example.sandbox.write(
            path,
            yaml.replace("values: [update, register, deregister", "values: [charge, update, register, deregister"),
        );
    }
    let types = std::fs::read_to_string(example.sandbox.path("seeds/event_types.csv")).unwrap();
    example.sandbox.write("seeds/event_types.csv", types + "vehicle.charge,charge,vehicle,A vehicle is charged\n");
    example.build(&[]);
    assert_eq!(
        count(
            &example,
            "{{ ref('fact_vehicle_events') }} join {{ ref('dim_event_type') }} using (event_type_key) where event = 'charge'"
        ),
        1
    );
    let loads = example.query(
        "select lines, new_events, duplicates from {{ ref('deliveries') }} order by load_timestamp desc limit 1",
    );
    assert_eq!(loads, [json!({"lines": 3, "new_events": 2, "duplicates": 1})]);
    example.assert_rests();
}

#[test]
fn an_hour_comes_late_and_an_hour_comes_again() {
    let example = Example::copy("vehicles");
    let whole = Example::copy("vehicles");
    whole.build(&[]);
    // The files of one local hour are not there yet.
    let inbox = example.sandbox.path(INBOX);
    let aside = example.sandbox.path("aside");
    std::fs::create_dir_all(&aside).unwrap();
    let late: Vec<String> = names(&inbox).into_iter().filter(|name| name.starts_with("2019-06-01-16-")).collect();
    assert!(late.len() > 100, "{}", late.len());
    late.iter().for_each(|name| std::fs::rename(inbox.join(name), aside.join(name)).unwrap());
    example.build(&[]);
    late.iter().for_each(|name| std::fs::rename(aside.join(name), inbox.join(name)).unwrap());
    let report = example.build(&[]);
    assert_eq!(node(&report, "raw.raw_events")["files_read"], late.len());
    let tables = |example: &Example| {
        let facts =
            "select vehicle_key, event_type_key, event_at from {{ ref('fact_vehicle_events') }} order by 1, 2, 3";
        let periods = "select operating_period_id, planned_minutes, planned_at, deleted_at from {{ ref('fact_operating_periods') }} order by 1";
        let reports = "select vehicle, events from {{ ref('events_per_vehicle') }} order by 1";
        [facts, periods, reports].map(|sql| example.query(sql))
    };
    let expected = tables(&whole);
    assert_eq!(tables(&example), expected);
    // What `raw` has taken in it does not take in twice; all of it again gives the same.
    example.lake(&["build", "--files", "2019-06-01-16-*"]).assert_failed(1, "to read files again would double them");
    assert_eq!(tables(&example), expected);
    example.build(&["--full-refresh"]);
    assert_eq!(tables(&example), expected);
    // The periods are those of the files.
    let planned =
        events(&example).iter().filter(|event| event["on"] == "operating_period" && event["event"] == "create").count();
    assert!(expected[1].len() >= planned && planned > 100, "{planned}");
    example.assert_rests();
}

#[test]
fn prod_gets_what_passed_in_dev_again_and_again() {
    let example = Example::copy("vehicles");
    let promote = ["promote", "--from", "dev", "--to", "prod", "--atomic"];
    example.build(&[]);
    example.ok(&promote);
    let prod = |sql: &str| {
        let rows = example.sandbox.json(&["show", "--inline", sql, "--limit", "0", "--target", "prod"]);
        rows[0].as_object().unwrap_or_else(|| panic!("{rows}")).values().next().cloned().unwrap()
    };
    let events = "select count(*) from {{ ref('fact_vehicle_events') }}";
    let first = prod(events);
    assert_eq!(first, example.value(events));
    // Nothing is computed there again; its files are written by its own build.
    let report = example.sandbox.json(&["build", "--target", "prod"]);
    assert!(report["nodes"].as_array().unwrap().iter().all(|node| node["status"] == "skipped"), "{report:#}");
    assert!(example.sandbox.path("exports/prod/top_vehicles.csv").exists());
    // A delivery that breaks a rule reaches neither.
    let file = format!("{INBOX}/2019-06-01-18-0-4-events.json");
    let place = ",\"location\":{\"lat\":152.5,\"lng\":13.4,\"at\":\"2019-06-01T21:00:04Z\"}";
    example.sandbox.write(&file, line("update", "9-new", "2019-06-01T21:00:04Z", place));
    example.lake(&["build"]).assert_failed(1, "accepted_range");
    let run = example.lake(&promote);
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert_eq!(prod(events), first);
    // After a rollback of what took it in, and the right file, all goes on.
    example.ok(&["rollback", "raw_events", "--to", "0"]);
    example.sandbox.write(&file, line("update", "9-new", "2019-06-01T21:00:04Z", &place.replace("152", "52")));
    for hour in 1..3 {
        example.build(&[]);
        example.ok(&promote);
        assert_eq!(prod(events).as_u64(), first.as_u64().map(|events| events + hour));
        let (name, at) = (format!("{INBOX}/2019-06-01-19-{hour}-4-events.json"), format!("2019-06-01T22:0{hour}:04Z"));
        example.sandbox.write(&name, line("update", "9-new", &at, &place.replace("152", "52")));
    }
}

#[test]
fn what_is_sensitive_does_not_get_to_analysts() {
    let example = Example::copy("vehicles");
    example
        .sandbox
        .write("models/reporting/fleet.sql", "select vehicle_id, last_seen_at from {{ ref('dim_vehicle') }}");
    example.lake(&["compile"]).assert_failed(2, "sensitive column `vehicle_id` of `reporting.fleet` is not masked");
    example.sandbox.write(
        "models/reporting/fleet.sql",
        "select mask_hash(vehicle_id) as vehicle, last_seen_at from {{ ref('dim_vehicle') }}",
    );
    example.ok(&["compile"]);
    example.sandbox.write(
        "models/dwh/out.yml",
        "exports:\n  - { name: fleet, model: dim_vehicle, path: exports/fleet.csv, format: csv }\n",
    );
    example.lake(&["compile"]).assert_failed(2, "export `fleet` would write sensitive column `vehicle_id` as it is");
    // Who may read what is a table, and a test knows what must never be in it.
    let roles = example.sandbox.path("seeds/layer_access.csv");
    let text = std::fs::read_to_string(&roles).unwrap();
    assert_eq!(text.lines().skip(1).filter_map(|line| line.split(',').next()).collect::<BTreeSet<_>>().len(), 6);
    std::fs::remove_file(example.sandbox.path("models/dwh/out.yml")).unwrap();
    example.sandbox.write("seeds/layer_access.csv", text + "junior-analyst,raw,read\n");
    example.lake(&["build", "--select", "layer_access"]).assert_failed(1, "analysts_read_reporting_alone");
}
