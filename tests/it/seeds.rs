//! Seeds: CSV files of the project as tables.

use std::collections::BTreeSet;

use serde_json::json;

use crate::materialize::rows;
use crate::reader;
use crate::sandbox::{Sandbox, node};

const COUNTRIES: &str = "code,name,population,since\nDE,\"Germany, north\",83,1990-10-03\nFR,France,68,\nNA,,,\n";

const PROPERTIES: &str = "
seeds:
  - name: countries
    description: Where customers live
    config: { tags: [static], column_types: { population: double } }
    columns:
      - { name: code, description: ISO 3166, data_tests: [unique, not_null] }
      - { name: since, data_type: date }
";

/// A project with a seed and a model that reads it.
fn countries(files: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new(&[
        ("seeds/countries.csv", COUNTRIES),
        ("seeds/properties.yml", PROPERTIES),
        (
            "models/gold/large.sql",
            "{{ config(materialized='table') }} select code, name from {{ ref('countries') }} where population > 70",
        ),
    ]);
    files.iter().for_each(|(path, text)| sandbox.write(path, text));
    sandbox
}

fn reason(sandbox: &Sandbox, args: &[&str], name: &str) -> (String, String) {
    let report = sandbox.json(args);
    let part = |key: &str| node(&report, name)[key].as_str().unwrap().to_owned();
    (part("status"), part("reason"))
}

#[test]
fn a_seed_is_a_table_that_ref_reads() {
    let sandbox = countries(&[]);
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "seeds.countries")["rows"], 3, "{report}");
    assert_eq!(node(&report, "seeds.countries")["tests"].as_array().unwrap().len(), 2);
    assert_eq!(rows(&sandbox, "countries"), ["DE Germany, north 83.0 1990-10-03", "FR France 68.0", "NA"]);
    assert_eq!(rows(&sandbox, "gold.large"), ["DE Germany, north"]);
    if let Some(python) = reader::python() {
        reader::assert_agree(&python, &sandbox, "lake", "seeds.countries");
    }
}

#[test]
fn a_seed_is_loaded_again_exactly_when_its_content_or_its_settings_change() {
    let sandbox = countries(&[]);
    sandbox.ok(&["build"]);
    let skipped = |why: &str| {
        let (status, reason) = reason(&sandbox, &["build"], "seeds.countries");
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("skipped", "unchanged: seeds/countries.csv is as it was"),
            "{why}"
        );
    };
    skipped("nothing changed");
    // Another time, the same bytes.
    sandbox.write("seeds/countries.csv", COUNTRIES);
    skipped("touched");
    sandbox.write("seeds/properties.yml", PROPERTIES.replace("Where customers live", "Countries"));
    let described = reason(&sandbox, &["build"], "seeds.countries");
    assert_eq!(described, ("success".to_owned(), "descriptions changed".to_owned()));
    skipped("a description");
    sandbox.write("seeds/countries.csv", format!("{COUNTRIES}IT,Italy,59,1861-03-17\n"));
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "seeds.countries")["reason"], "seeds/countries.csv changed");
    assert_eq!(node(&report, "gold.large")["status"], "success");
    sandbox.write("seeds/properties.yml", PROPERTIES.replace("population: double", "population: varchar"));
    sandbox.write("models/gold/large.sql", "select 1 as one");
    let (_, why) = reason(&sandbox, &["build"], "seeds.countries");
    assert_eq!(why, "its definition changed: how files are read of seeds.countries");
    assert_eq!(sandbox.value("select population from seeds.countries where code = 'IT'"), "59");
    assert_eq!(
        reason(&sandbox, &["seed", "--full-refresh"], "seeds.countries").1,
        "full refresh; its rows are what they were"
    );
}

#[test]
fn a_seed_whose_tests_fail_is_not_published() {
    let sandbox = countries(&[]);
    sandbox.ok(&["build"]);
    sandbox.write("seeds/countries.csv", "code,name,population,since\nDE,Germany,83,\nDE,Doubled,1,\n");
    sandbox.lake(&["build"]).assert_failed(1, "unique_countries_code");
    assert_eq!(rows(&sandbox, "countries").len(), 3);
    assert_eq!(rows(&sandbox, "gold.large").len(), 1);
    // `seed` runs no tests, as in dbt.
    sandbox.ok(&["seed"]);
    assert_eq!(rows(&sandbox, "countries").len(), 2);
    sandbox.lake(&["test"]).assert_failed(1, "unique_countries_code");
}

#[test]
fn the_commands_know_seeds() {
    let sandbox = countries(&[("seeds/geo/world/cities.csv", "city,zip\nBerlin,10115\n")]);
    sandbox
        .lake(&["run"])
        .assert_failed(1, "it reads the seed `seeds.countries`, which is not loaded: `lake seed` does");
    let report = sandbox.json(&["seed", "--select", "countries"]);
    assert_eq!(report["nodes"].as_array().unwrap().len(), 1, "{report}");
    sandbox.ok(&["run"]);
    let lines = |args: &[&str]| {
        let mut lines: Vec<String> = sandbox.ok(args).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(
        lines(&["ls", "--select", "resource_type:seed"]),
        ["geo.cities", "seeds.countries", "test:not_null_countries_code", "test:unique_countries_code"]
    );
    assert_eq!(lines(&["ls", "--resource-type", "seed"]), ["geo.cities", "seeds.countries"]);
    assert_eq!(lines(&["ls", "--resource-type", "seed", "--select", "tag:static"]), ["seeds.countries"]);
    assert_eq!(lines(&["ls", "--resource-type", "seed", "--select", "path:seeds/geo"]), ["geo.cities"]);
    assert_eq!(lines(&["ls", "--resource-type", "model", "--select", "countries+"]), ["gold.large"]);
    let columns = lines(&["ls", "--columns", "--select", "countries"]);
    assert!(
        columns.iter().any(|line| line.split_whitespace().eq(["seeds.countries.population", "double"])),
        "{columns:?}"
    );
    assert!(
        sandbox.ok(&["docs"]).contains("seeds.countries  (seed)\n└─ gold.large  (table)"),
        "{}",
        sandbox.ok(&["docs"])
    );
    sandbox.ok(&["docs", "generate"]);
    sandbox.ok(&["compile"]);
    let manifest = std::fs::read_to_string(sandbox.path(".lake/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let seed = &manifest["nodes"]["seed.sandbox.countries"];
    assert_eq!(seed["resource_type"], "seed", "{manifest}");
    assert_eq!(
        (&seed["original_file_path"], &seed["description"]),
        (&json!("seeds/countries.csv"), &json!("Where customers live"))
    );
    assert_eq!(seed["config"]["materialized"], "seed");
    let code = &seed["columns"]["code"];
    assert_eq!((&code["data_type"], &code["description"]), (&json!("varchar"), &json!("ISO 3166")));
    assert_eq!(manifest["child_map"]["seed.sandbox.countries"][0], json!("model.sandbox.large"));
}

#[test]
fn settings_of_seeds_come_from_the_project_too() {
    let sandbox = countries(&[("seeds/geo/cities.csv", "city;zip\nBerlin;010\n"), ("seeds/geo/off.csv", "a\n1\n")]);
    sandbox.write(
        "project.yml",
        "name: sandbox\ntargets:\n  dev: { root: lake }\nseeds:\n  +schema: raw\n  geo:\n    +delimiter: ';'\n    \
         cities: { +column_types: { zip: varchar } }\n    off: { enabled: false }\n",
    );
    sandbox.ok(&["build"]);
    assert_eq!(rows(&sandbox, "raw.cities"), ["Berlin 010"]);
    assert_eq!(rows(&sandbox, "raw.countries").len(), 3);
    let listed = sandbox.ok(&["ls", "--resource-type", "seed"]);
    assert_eq!(listed.lines().collect::<BTreeSet<_>>(), BTreeSet::from(["raw.cities", "raw.countries"]));
}

#[test]
fn a_change_of_a_seed_is_a_change_of_state() {
    let sandbox = countries(&[]);
    sandbox.ok(&["compile"]);
    std::fs::rename(sandbox.path(".lake"), sandbox.path("before")).unwrap();
    let modified =
        || sandbox.ok(&["ls", "--select", "state:modified+", "--state", "before", "--resource-type", "seed", "model"]);
    assert_eq!(modified(), "");
    sandbox.write("seeds/countries.csv", COUNTRIES.replace("68", "69"));
    assert_eq!(modified(), "seeds.countries\ngold.large\n");
    let told = sandbox.ok(&["diff", "--state", "before"]);
    assert!(told.contains("logic  seeds.countries") && told.contains("population"), "{told}");
}

#[test]
fn a_seed_that_is_not_utf_8_says_what_to_do() {
    let sandbox = countries(&[]);
    sandbox.write("seeds/countries.csv", b"code,name,population,since\nAT,\xd6sterreich,9,1955-01-01\n");
    sandbox.lake(&["compile"]).assert_failed(2, "save it as UTF-8");
    assert_eq!(sandbox.lake(&["compile", "--select", "large"]).code, 2);
}

#[test]
fn types_come_from_all_values() {
    let many: String = (0..5000).map(|n| format!("{n},2026-01-01\n")).collect();
    let sandbox = Sandbox::new(&[("seeds/many.csv", &format!("n,day\n{many}1.5,soon\n"))]);
    sandbox.ok(&["build"]);
    let columns = sandbox.ok(&["ls", "--columns"]);
    let columns: Vec<&str> = columns.split_whitespace().collect();
    assert_eq!(columns, ["seeds.many.n", "double", "seeds.many.day", "varchar"]);
}
