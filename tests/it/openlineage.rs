//! Events of OpenLineage: of a run to a file and to a server, and of lineage without a run.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::artifacts::{python, shop};
use crate::reader::run;
use crate::sandbox::Sandbox;
use crate::services::Request;

const SCRIPT: &str = include_str!("artifacts/check_events.py");

/// Holds a file of events against the specification; returns which facets it has.
#[track_caller]
fn valid(python: &Path, path: &Path) -> Vec<String> {
    let found = run(Command::new(python).args(["-c", SCRIPT]).arg(path)).unwrap_or_else(|why| panic!("{why}"));
    serde_json::from_value(serde_json::from_str::<Value>(&found).unwrap()["facets"].take()).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What was told of a job, in order.
fn states(events: &[Value], job: &str) -> Vec<String> {
    let of_job = events.iter().filter(|event| event["job"]["name"] == job);
    of_job.map(|event| event["eventType"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn event<'a>(events: &'a [Value], job: &str, state: &str) -> &'a Value {
    let is = |event: &&Value| event["job"]["name"] == job && event["eventType"] == state;
    events.iter().find(is).unwrap_or_else(|| panic!("no {state} of {job}: {events:#?}"))
}

fn with(settings: &str) -> Sandbox {
    let sandbox = shop();
    let project = std::fs::read_to_string(sandbox.path("project.yml")).unwrap();
    sandbox.write("project.yml", format!("{project}openlineage: {settings}\n"));
    sandbox
}

#[test]
fn a_run_is_told_to_a_file() {
    let sandbox = with("{ file: .lake/events.ndjson, namespace: shops }");
    sandbox.ok(&["build"]);
    let path = sandbox.path(".lake/events.ndjson");
    let events = lines(&path);
    assert_eq!((&events[0]["eventType"], &events[0]["job"]["name"]), (&json!("START"), &json!("shop.build")));
    assert!(events.iter().all(|event| event["job"]["namespace"] == "shops"));
    for job in
        ["shop.build", "shop.silver.orders", "shop.silver.seen", "shop.seeds.regions", "shop.silver.orders.tests"]
    {
        assert_eq!(states(&events, job), ["START", "COMPLETE"], "{job}");
    }
    let (started, sums) = (event(&events, "shop.gold.sums", "START"), event(&events, "shop.gold.sums", "COMPLETE"));
    assert_eq!(started["run"]["runId"], sums["run"]["runId"]);
    assert_eq!(sums["run"]["facets"]["parent"]["run"]["runId"], events[0]["run"]["runId"]);
    let table = |model: &str| {
        let path = std::fs::canonicalize(sandbox.path("lake")).unwrap().join(model);
        json!({"namespace": "file", "name": path.to_str().unwrap()})
    };
    let named = |dataset: &Value| json!({"namespace": dataset["namespace"], "name": dataset["name"]});
    assert_eq!(named(&sums["inputs"][0]), table("silver/orders"));
    assert_eq!(named(&sums["outputs"][0]), table("gold/sums"));
    let facets = &sums["outputs"][0]["facets"];
    assert_eq!(facets["schema"]["fields"][1]["name"], "total");
    assert_eq!(facets["version"]["datasetVersion"], "0");
    let total = &facets["columnLineage"]["fields"]["total"]["inputFields"][0];
    assert_eq!((named(total), &total["field"]), (table("silver/orders"), &json!("amount")));
    assert_eq!(total["transformations"][0]["type"], "DIRECT");
    assert_eq!(sums["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"], 2);
    let tests = &event(&events, "shop.silver.orders.tests", "COMPLETE")["inputs"][0]["inputFacets"];
    let assertions = tests["dataQualityAssertions"]["assertions"].as_array().unwrap();
    let even = assertions.iter().find(|assertion| assertion["assertion"] == "is_even").unwrap();
    assert_eq!(
        (&even["success"], &even["column"], &even["severity"]),
        (&json!(false), &json!("amount"), &json!("warn"))
    );
    let metrics = &tests["dataQualityMetrics"];
    assert_eq!((&metrics["rowCount"], &metrics["columnMetrics"]["amount"]["max"]), (&json!(2), &json!(21.0)));
    assert_eq!(metrics["columnMetrics"]["customer"].get("max"), None, "it is sensitive");

    // A node that fails, and those that wait for it; the file goes on.
    sandbox.write("in/orders/2.csv", "id,customer,amount,at\n3,c,-5000,2026-01-02T00:00:00\n");
    assert_eq!(sandbox.lake(&["build"]).code, 1);
    assert_eq!(sandbox.lake(&["test", "--select", "sums"]).code, 0);
    let events = lines(&path);
    let failed = event(&events, "shop.silver.orders", "FAIL");
    assert!(failed["run"]["facets"]["errorMessage"]["message"].as_str().unwrap().contains("orders"), "{failed}");
    assert_eq!(states(&events, "shop.build"), ["START", "COMPLETE", "START", "FAIL"]);
    assert_eq!(states(&events, "shop.gold.sums"), ["START", "COMPLETE"], "it did not start");
    assert_eq!(states(&events, "shop.test"), ["START", "COMPLETE"]);
    if let Some(python) = python() {
        let facets = valid(&python, &path);
        for facet in [
            "schema",
            "columnLineage",
            "dataQualityAssertions",
            "dataQualityMetrics",
            "outputStatistics",
            "errorMessage",
            "parent",
            "sql",
            "documentation",
            "symlinks",
            "version",
            "jobType",
            "processing_engine",
        ] {
            assert!(facets.iter().any(|found| found == facet), "{facet}: {facets:?}");
        }
    }
}

#[test]
fn lineage_is_told_without_a_run() {
    let sandbox = shop();
    let printed = sandbox.ok(&["docs", "--format", "openlineage", "--select", "gold.*"]);
    sandbox.write("events.ndjson", &printed);
    let events = lines(&sandbox.path("events.ndjson"));
    let jobs: Vec<&str> = events.iter().map(|event| event["job"]["name"].as_str().unwrap()).collect();
    assert_eq!(jobs, ["shop.gold.kept", "shop.gold.once", "shop.gold.sums", "shop.gold.where"]);
    assert!(events.iter().all(|event| event.get("run").is_none() && event["job"]["namespace"] == "shop"));
    if let Some(python) = python() {
        assert!(valid(&python, &sandbox.path("events.ndjson")).contains(&"columnLineage".to_owned()));
    }
}

/// What a server was sent: path, authorization and body.
type Received = Arc<Mutex<Vec<(String, Option<String>, Value)>>>;

/// A server that answers every request with this status.
fn server(status: u16) -> (String, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, received) = (format!("http://{}", listener.local_addr().unwrap()), Received::default());
    let kept = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || answer(stream.unwrap(), status, &kept));
        }
    });
    (url, received)
}

fn answer(stream: TcpStream, status: u16, received: &Received) {
    let (mut reader, mut writer) = (BufReader::new(stream.try_clone().unwrap()), stream);
    while let Ok(Some(request)) = Request::read(&mut reader) {
        let body = serde_json::from_slice(&request.body).unwrap();
        let key = request.header("authorization").map(str::to_owned);
        received.lock().unwrap().push((format!("{} {}", request.method, request.path), key, body));
        let _ = write!(writer, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
    }
}

#[test]
fn a_run_is_told_to_a_server() {
    let (url, received) = server(201);
    let sandbox = with("{ url: \"{{ env_var('MARQUEZ') }}/\", api_key: \"{{ env_var('MARQUEZ_API_KEY') }}\" }");
    let environment = [("MARQUEZ", url.as_str()), ("MARQUEZ_API_KEY", "xyzzy")];
    let output = sandbox.command(&["build"]).envs(environment).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("OpenLineage"), "{said}");
    let received = received.lock().unwrap();
    let events: Vec<Value> = received.iter().map(|(_, _, body)| body.clone()).collect();
    assert_eq!(states(&events, "shop.build"), ["START", "COMPLETE"]);
    assert_eq!(states(&events, "shop.gold.sums"), ["START", "COMPLETE"]);
    let key = Some("Bearer xyzzy".to_owned());
    assert!(received.iter().all(|(path, found, _)| path == "POST /api/v1/lineage" && *found == key));
}

#[test]
fn the_environment_says_where_events_go() {
    let (url, received) = server(200);
    let sandbox = shop();
    let say = |more: &[(&str, &str)]| {
        let environment =
            [("OPENLINEAGE_URL", url.as_str()), ("OPENLINEAGE_NAMESPACE", "prod"), ("OPENLINEAGE_ENDPOINT", "events")];
        let output =
            sandbox.command(&["build", "--select", "regions"]).envs(environment).envs(more.iter().copied()).output();
        assert!(output.unwrap().status.success());
    };
    say(&[("OPENLINEAGE_DISABLED", "true")]);
    assert!(received.lock().unwrap().is_empty());
    say(&[]);
    let received = received.lock().unwrap();
    assert!(received.len() >= 4, "{received:?}");
    assert!(
        received.iter().all(|(path, key, event)| {
            path == "POST /events" && key.is_none() && event["job"]["namespace"] == "prod"
        })
    );
}

#[test]
fn what_cannot_be_told_is_a_warning() {
    // Nobody listens.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (refusing, received) = server(500);
    let cases = [
        (format!("{{ url: 'http://{nobody}' }}"), "did not reach `http://127.0.0.1"),
        (format!("{{ url: '{refusing}' }}"), "it answered 500"),
        ("{ url: 'ftp://x' }".to_owned(), "`ftp://x/api/v1/lineage` is no address of a server"),
        ("{ file: project.yml/x }".to_owned(), "cannot be written to"),
        ("{ file: x, namespace: \"{{ env_var('NOBODY_SET_THIS') }}\" }".to_owned(), "NOBODY_SET_THIS"),
    ];
    for (settings, why) in cases {
        let built = with(&settings).lake(&["build"]);
        assert_eq!(built.code, 0, "{}", built.stderr);
        let is_told =
            built.stderr.contains("not all events of OpenLineage could be sent") && built.stderr.contains(why);
        assert!(is_told, "{settings}: {}", built.stderr);
    }
    assert_eq!(received.lock().unwrap().len(), 3, "it is left alone after three");
    // A server that never answers holds nobody up for long.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = format!("{{ url: 'http://secret:word@{}', timeout: 1s }}", silent.local_addr().unwrap());
    let built = with(&settings).lake(&["build"]);
    assert!(built.code == 0 && built.stderr.contains("could be sent"), "{}", built.stderr);
    assert!(!built.stderr.contains("word@"), "{}", built.stderr);
}

#[test]
fn settings_that_are_wrong_are_told() {
    let refused = |settings: &str, why: &str| with(settings).lake(&["compile"]).assert_failed(2, why);
    refused("{ file: x, adress: y }", "unknown key `adress`");
    refused("{ namespace: x }", "these events go nowhere");
    refused("{ url: x, timeout: soon }", "write a length of time");
    refused("{ url: x, api_key: xyzzy }", "env_var('OPENLINEAGE_API_KEY')");
    let shown = with("{ url: x, api_key: xyzzy }").lake(&["compile"]);
    assert!(!format!("{}{}", shown.stdout, shown.stderr).contains("xyzzy"), "{}", shown.stderr);
}
