//! Alerts: who is told how a run ended, of what, in which shape, and not twice.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::reader::run;
use crate::sandbox::{Run, Sandbox, snapshots};
use crate::services::Request;

const SOURCES: &str = "sources:
  - name: raw
    tables:
      - name: items
        path: in/items/
        format: csv
        columns: [{ name: id, data_type: bigint }, { name: value, data_type: varchar, meta: { sensitive: true } }]
";

const PROPERTIES: &str = "groups:
  - { name: finance, owner: { name: Finance team, email: finance@acme.example } }
models:
  - name: items
    config: { owner: anna, tags: [web] }
    columns:
      - { name: id, data_tests: [{ not_null: { name: items_have_ids } }] }
      - { name: value, data_tests: [{ accepted_values: { name: known_values, arguments: { values: [a, b] }, config: { severity: warn, owner: ben } } }] }
  - name: total
    config: { group: finance, tags: [money] }
";

const GOOD: &str = "id,value\n1,a\n2,b\n";
const BAD: &str = "id,value\n1,a\n,CANARY\n,b\n";

/// A shop with these channels. Its first build is fine, if nothing else is said.
fn shop(channels: &str) -> Sandbox {
    let project = format!(
        "name: shop\ntarget: dev\ntargets:\n  dev: {{ root: lake }}\n  prod: {{ root: lake_prod }}\nnotifications:\n{channels}"
    );
    Sandbox::new(&[
        ("project.yml", &project),
        ("sources.yml", SOURCES),
        ("models/all.yml", PROPERTIES),
        (
            "models/silver/items.sql",
            "{{ config(materialized='table') }} select id, value from {{ source('raw', 'items') }}",
        ),
        ("models/gold/total.sql", "{{ config(materialized='table') }} select count(*) as n from {{ ref('items') }}"),
        ("models/gold/other.sql", "{{ config(materialized='table') }} select 1 as one"),
        ("in/items/1.csv", GOOD),
    ])
}

/// What a server was sent.
pub type Received = Arc<Mutex<Vec<Request>>>;

/// A server that answers every request so.
pub fn server(answer: &'static str) -> (String, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, received) = (format!("http://{}/T0/secret-path", listener.local_addr().unwrap()), Received::default());
    let kept = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || respond(stream.unwrap(), answer, &kept));
        }
    });
    (url, received)
}

fn respond(stream: TcpStream, answer: &str, received: &Received) {
    let (mut reader, mut writer) = (BufReader::new(stream.try_clone().unwrap()), stream);
    while let Ok(Some(request)) = Request::read(&mut reader) {
        received.lock().unwrap().push(request);
        if answer.is_empty() {
            // It never answers.
            std::thread::sleep(Duration::from_secs(60));
        }
        let (head, body) = answer.split_once('|').unwrap_or((answer, ""));
        let _ = write!(writer, "HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    }
}

/// The bodies that came since the last look.
pub fn taken(received: &Received) -> Vec<Value> {
    let requests = std::mem::take(&mut *received.lock().unwrap());
    requests.iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

fn lake(sandbox: &Sandbox, url: &str, args: &[&str]) -> Run {
    let output = sandbox.command(args).env("HOOK", url).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Event and id of each alert of a message of the shape for programs.
fn told(message: &Value) -> Vec<String> {
    let alerts = message["alerts"].as_array().unwrap().iter();
    let mut told: Vec<String> =
        alerts.map(|a| format!("{} {}", a["event"].as_str().unwrap(), a["id"].as_str().unwrap())).collect();
    told.sort();
    told
}

const WEBHOOK: &str =
    "  - { name: hook, type: webhook, url: \"{{ env_var('HOOK') }}\", on: [failure, warning, recovery, freshness] }\n";

#[track_caller]
fn assert_shown(name: &str, value: &Value) {
    let mut settings = snapshots();
    settings.add_filter(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "[run]");
    settings.add_filter(r"20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z| UTC)", "[time]");
    settings.add_filter(r#""seconds": [0-9.e-]+"#, "\"seconds\": [seconds]");
    settings.bind(|| insta::assert_snapshot!(name, serde_json::to_string_pretty(value).unwrap()));
}

#[test]
fn each_type_of_channel_has_its_own_shape() {
    let (url, received) = server("200 OK|ok");
    let channel = |name: &str, more: &str| {
        format!(
            "  - {{ name: {name}, type: {name}, url: \"{{{{ env_var('HOOK') }}}}\", on: [failure, warning], link: \"https://ci.example/1\"{more} }}\n"
        )
    };
    let header = ", headers: { authorization: \"Bearer {{ env_var('HOOK') }}\" }";
    let sandbox = shop(&[channel("slack", ""), channel("teams", ""), channel("webhook", header)].concat());
    sandbox.write("in/items/1.csv", BAD);
    let built = lake(&sandbox, &url, &["build"]);
    assert_eq!(built.code, 1, "{}", built.stderr);
    assert!(built.stderr.contains("told slack (slack): 1 failed, 1 warned"), "{}", built.stderr);
    let requests = std::mem::take(&mut *received.lock().unwrap());
    assert_eq!(requests.len(), 3, "one message each");
    for request in &requests {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/T0/secret-path"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert!(!String::from_utf8_lossy(&request.body).contains("CANARY"), "no value of a row is told");
    }
    let find = |key: &str| {
        let bodies = requests.iter().map(|request| (request, serde_json::from_slice::<Value>(&request.body).unwrap()));
        bodies.into_iter().find(|(_, body)| body.get(key).is_some()).unwrap()
    };
    let ((_, slack), (_, teams), (request, webhook)) = (find("blocks"), find("attachments"), find("version"));
    assert_eq!(request.header("authorization").unwrap(), format!("Bearer {url}"));
    assert_shown("alert_slack", &slack);
    assert_shown("alert_teams", &teams);
    assert_shown("alert_webhook", &webhook);
}

#[test]
fn what_goes_on_is_told_once_and_its_end_is_told_once() {
    let (url, received) = server("200 OK");
    let sandbox = shop(WEBHOOK);
    let build = |args: &[&str]| {
        lake(&sandbox, &url, args);
        taken(&received).iter().flat_map(told).collect::<Vec<_>>()
    };
    assert!(build(&["build"]).is_empty(), "all is well, and was");
    sandbox.write("in/items/1.csv", BAD);
    assert_eq!(build(&["build"]), ["failure test.items_have_ids", "warning test.known_values"]);
    assert!(build(&["build"]).is_empty(), "it is known");
    // One more row fails: it is the same failure. Another machine has no `.lake`.
    sandbox.write("in/items/1.csv", format!("{BAD},a\n"));
    std::fs::remove_dir_all(sandbox.path(".lake")).unwrap();
    assert!(build(&["build"]).is_empty());
    sandbox.write("in/items/1.csv", GOOD);
    assert_eq!(build(&["build"]), ["recovery test.items_have_ids", "recovery test.known_values"]);
    assert!(build(&["build"]).is_empty());
    assert!(build(&["test"]).is_empty());
    sandbox.write("in/items/1.csv", BAD);
    assert_eq!(build(&["build", "--no-notify"]), [""; 0]);
    assert_eq!(build(&["build"]), ["failure test.items_have_ids", "warning test.known_values"], "it is news again");
    // A model that fails for another reason is another failure.
    sandbox.write("in/items/1.csv", GOOD);
    sandbox.write("models/gold/other.sql", "{{ config(materialized='table') }} select 1 / 0 as one");
    let last = build(&["build"]);
    assert_eq!(last, ["failure model.gold.other", "recovery test.items_have_ids", "recovery test.known_values"]);
    sandbox.write("models/gold/other.sql", "{{ config(materialized='table') }} select cast('x' as bigint) as one");
    assert_eq!(build(&["build"]), ["failure model.gold.other"]);
    let remembered = sandbox.query("select event, subject, outcome from _lake.notifications order by sent_at, subject");
    assert_eq!(remembered.len(), 10, "{remembered:?}");
    assert_eq!(remembered[0], json!({"event": "failure", "subject": "test.items_have_ids", "outcome": "sent"}));
}

#[test]
fn what_goes_on_for_long_is_told_again() {
    let (url, received) = server("200 OK");
    let sandbox = shop(&WEBHOOK.replace("on:", "remind_after: 1s, on:"));
    sandbox.write("in/items/1.csv", BAD);
    lake(&sandbox, &url, &["build"]);
    let first = taken(&received).remove(0);
    std::thread::sleep(Duration::from_millis(1100));
    lake(&sandbox, &url, &["build"]);
    let again = taken(&received).remove(0);
    let alert = |message: &Value| message["alerts"][0].clone();
    assert_eq!((&alert(&first)["reminder"], &alert(&again)["reminder"]), (&json!(false), &json!(true)));
    let moment = |alert: &Value| chrono::DateTime::parse_from_rfc3339(alert["since"].as_str().unwrap()).unwrap();
    let (before, after) = (moment(&alert(&first)), moment(&alert(&again)));
    assert_eq!(before.timestamp_micros(), after.timestamp_micros(), "it is as old as it is");
}

#[test]
fn a_channel_hears_what_it_asks_for() {
    let (url, received) = server("200 OK");
    let all = "failure, warning, recovery, freshness";
    let channel = |name: &str, filter: &str| {
        format!(
            "  - {{ name: {name}, type: webhook, url: \"{{{{ env_var('HOOK') }}}}/{name}\", on: [{all}], {filter} }}\n"
        )
    };
    let filters = [
        ("by_owner", "owners: [ANNA]"),
        ("by_owner_of_test", "owners: [ben]"),
        ("by_group_below", "owners: [finance@acme.example]"),
        ("by_tag", "tags: [money]"),
        ("by_severity", "severity: warn"),
        ("by_model", "select: [gold.*]"),
        ("by_test", "select: known_values"),
        ("elsewhere", "targets: [prod]"),
        ("nobody", "owners: [somebody else]"),
        ("both", "owners: [anna], severity: [error]"),
    ];
    let channels: String = filters.iter().map(|(name, filter)| channel(name, filter)).collect();
    let sandbox = shop(&channels);
    sandbox.write("in/items/1.csv", BAD);
    assert_eq!(lake(&sandbox, &url, &["build"]).code, 1);
    let heard = || {
        let requests = std::mem::take(&mut *received.lock().unwrap());
        let mut heard: Vec<(String, Vec<String>)> = requests
            .iter()
            .map(|request| {
                let name = request.path.rsplit('/').next().unwrap().to_owned();
                (name, told(&serde_json::from_slice(&request.body).unwrap()))
            })
            .collect();
        heard.sort();
        heard
    };
    let (failure, warning) = ("failure test.items_have_ids", "warning test.known_values");
    let expected: Vec<(String, Vec<String>)> = [
        ("both", vec![failure]),
        ("by_group_below", vec![failure]),
        ("by_model", vec![failure]),
        ("by_owner", vec![failure, warning]),
        ("by_owner_of_test", vec![warning]),
        ("by_severity", vec![warning]),
        ("by_tag", vec![failure]),
        ("by_test", vec![warning]),
    ]
    .map(|(name, told)| (name.to_owned(), told.into_iter().map(str::to_owned).collect()))
    .into();
    assert_eq!(heard(), expected);
    assert_eq!(lake(&sandbox, &url, &["build", "--target", "prod"]).code, 1);
    assert_eq!(heard().iter().filter(|(name, _)| name == "elsewhere").count(), 1, "prod has a memory of its own");
}

#[test]
fn tables_that_are_published_together_wait_for_the_one_that_failed() {
    let (url, received) = server("200 OK");
    let sandbox = shop(WEBHOOK);
    sandbox.write(
        "models/all.yml",
        "groups:\n  - { name: finance, owner: { name: Finance team }, config: { publish: together } }\nmodels:
  - { name: other, config: { group: finance } }
  - name: total
    config: { group: finance }
    columns: [{ name: n, data_tests: [{ accepted_values: { name: many, arguments: { values: [99], quote: false } } }] }]\n",
    );
    assert_eq!(lake(&sandbox, &url, &["build"]).code, 1);
    let message = taken(&received).remove(0);
    assert_eq!(told(&message), ["failure test.many"]);
    assert_eq!(message["alerts"][0]["blocks"], json!(["gold.other"]));
}

#[test]
fn errors_do_not_tell_values_of_sensitive_columns() {
    let (url, received) = server("200 OK");
    let sandbox = shop(WEBHOOK);
    sandbox.write("in/items/1.csv", "id,value\n1,CANARY\n");
    sandbox.write(
        "models/gold/other.sql",
        "{{ config(materialized='table') }} select cast(value as bigint) as n from {{ ref('items') }}",
    );
    assert_eq!(lake(&sandbox, &url, &["build"]).code, 1);
    let message = taken(&received).remove(0);
    assert!(told(&message).contains(&"failure model.gold.other".to_owned()), "{message}");
    assert!(message.to_string().contains("cast") && !message.to_string().contains("CANARY"), "{message}");
}

#[test]
fn stale_sources_are_told() {
    let (url, received) = server("200 OK");
    let sandbox = shop(WEBHOOK);
    let freshness =
        "        freshness: { warn_after: { count: 1, period: hour }, error_after: { count: 1, period: day } }\n";
    sandbox.write("sources.yml", format!("{SOURCES}{freshness}"));
    let aged = |time: &str| run(Command::new("touch").args(["-d", time]).arg(sandbox.path("in/items/1.csv"))).unwrap();
    aged("3 days ago");
    assert_eq!(lake(&sandbox, &url, &["build"]).code, 0, "a build goes on");
    let message = taken(&received).remove(0);
    assert_eq!(told(&message), ["freshness source.raw.items"]);
    let alert = &message["alerts"][0];
    assert_eq!((&alert["severity"], &alert["line"]), (&json!("error"), &json!(4)));
    assert_eq!(alert["message"], "3 days old, fails after 1 day");
    assert_eq!(lake(&sandbox, &url, &["source", "freshness"]).code, 1);
    assert!(taken(&received).is_empty(), "it is known");
    aged("2 hours ago");
    assert_eq!(lake(&sandbox, &url, &["source", "freshness"]).code, 0);
    let message = taken(&received).remove(0);
    assert_eq!((&message["alerts"][0]["severity"], &message["status"]), (&json!("warn"), &json!("success")));
    aged("now");
    lake(&sandbox, &url, &["run"]);
    assert_eq!(told(&taken(&received)[0]), ["recovery source.raw.items"]);
}

#[test]
fn projects_that_do_not_compile_and_runs_that_end_early_are_told() {
    let (url, received) = server("200 OK");
    let sandbox = shop(WEBHOOK);
    sandbox.write("models/gold/other.sql", "select nope from {{ ref('items') }}");
    assert_eq!(lake(&sandbox, &url, &["build"]).code, 2);
    let message = taken(&received).remove(0);
    assert_eq!((told(&message), &message["status"]), (vec!["failure project".to_owned()], &json!("invalid")));
    let alert = &message["alerts"][0];
    assert_eq!((&alert["file"], &alert["line"]), (&json!("models/gold/other.sql"), &json!(1)));
    assert!(alert["message"].as_str().unwrap().contains("models/gold/other.sql:1: "), "{alert}");
    assert_eq!(lake(&sandbox, &url, &["build"]).code, 2);
    assert_eq!(lake(&sandbox, &url, &["compile"]).code, 2);
    assert!(taken(&received).is_empty(), "it is known, and a compile is no run");
    sandbox.write("models/gold/other.sql", "select 1 as one");
    assert_eq!(lake(&sandbox, &url, &["build"]).code, 0);
    assert_eq!(told(&taken(&received)[0]), ["recovery project"]);
    // Nothing but the channels can be read.
    let project = std::fs::read_to_string(sandbox.path("project.yml")).unwrap();
    sandbox.write("project.yml", project.replace("target: dev", "target: staging"));
    assert_eq!(lake(&sandbox, &url, &["build"]).code, 2);
    assert!(taken(&received)[0]["alerts"][0]["message"].as_str().unwrap().contains("there is no target `staging`"));
    // The run cannot begin.
    sandbox.write("project.yml", &project);
    lake(&sandbox, &url, &["build", "--select", "nobody"]).assert_failed(2, "nobody");
    let message = taken(&received).remove(0);
    assert_eq!((told(&message), &message["status"]), (vec!["failure run".to_owned()], &json!("died")));
    assert_eq!(lake(&sandbox, &url, &["build"]).code, 0);
    assert_eq!(told(&taken(&received)[0]), ["recovery run"]);
}

#[test]
fn what_cannot_be_sent_fails_no_run_and_is_sent_by_the_next() {
    let nobody = format!("http://{}/x", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let (refusing, refused) = server("500 Oh|no: secret-path");
    let (moved, followed) = server("307 Moved\r\nlocation: http://127.0.0.1:1/");
    let (silent, _) = server("");
    let sandbox = shop(&WEBHOOK.replace("on:", "timeout: 2s, on:"));
    sandbox.write("in/items/1.csv", BAD);
    let cases = [
        (nobody.as_str(), "onnection refused"),
        (&refusing, "it answered 500 Internal Server Error: no: "),
        (&moved, "redirects are not followed"),
        (&silent, "it did not answer within 2s"),
        ("http//x", "its `url` is no address"),
        ("ftp://x/secret-path", "its `url` begins with ftp:"),
    ];
    for (url, why) in cases {
        let built = lake(&sandbox, url, &["build", "--output", "json"]);
        assert_eq!(built.code, 1, "{}", built.stderr);
        assert!(
            built.stderr.contains("could not tell hook (webhook): ") && built.stderr.contains(why),
            "{}",
            built.stderr
        );
        assert!(!built.stderr.contains("127.0.0.1") && !built.stderr.contains("T0"), "{}", built.stderr);
        serde_json::from_str::<Value>(&built.stdout).unwrap();
    }
    // Programs hear of it as an event, also those that want to hear of results alone.
    let built = lake(&sandbox, "http//x", &["build", "--quiet", "--log-format", "json"]);
    let events: Vec<Value> = built.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is_told = |event: &Value| event["info"]["msg"].as_str().unwrap().contains("could not tell hook (webhook)");
    assert!(events.iter().any(|event| event["info"]["level"] == "warn" && is_told(event)), "{events:#?}");
    assert_eq!(refused.lock().unwrap().len(), 2, "it was asked once more");
    assert_eq!(followed.lock().unwrap().len(), 1);
    let unset = sandbox.lake(&["build", "--quiet"]);
    assert!(unset.code == 1 && unset.stderr.contains("HOOK"), "{}", unset.stderr);
    let failed =
        sandbox.value("select count(*) from _lake.notifications where outcome = 'failed' and error is not null");
    assert_eq!(failed, json!(16));
    let (url, received) = server("202 Accepted");
    lake(&sandbox, &url, &["build"]);
    assert_eq!(told(&taken(&received)[0]), ["failure test.items_have_ids", "warning test.known_values"]);
    // An empty address turns a channel off.
    assert!(!lake(&sandbox, "", &["build", "--full-refresh"]).stderr.contains("warning: could not"));
}

#[test]
fn a_command_reads_json_and_does_not_outlive_its_time() {
    let channels = "  - { name: log, type: command, command: \"cat > said.json; env > environment.txt\" }
  - { name: late, type: command, command: [sh, -c, \"sleep 61 & echo $! > child; wait\"], timeout: 1s }
  - { name: broken, type: command, command: [sh, -c, \"echo first >&2; echo it is {{ 'down' }} >&2; exit 3\"] }
";
    let sandbox = shop(channels);
    sandbox.write("in/items/1.csv", BAD);
    let built = sandbox.lake(&["build"]);
    assert_eq!(built.code, 1);
    let said: Value = serde_json::from_slice(&std::fs::read(sandbox.path("said.json")).unwrap()).unwrap();
    assert_eq!(
        (told(&said), &said["look"]),
        (vec!["failure test.items_have_ids".to_owned()], &json!(["lake retry --target dev"]))
    );
    assert_eq!(said["alerts"][0]["blocks"], json!(["gold.total"]));
    let environment = std::fs::read_to_string(sandbox.path("environment.txt")).unwrap();
    for line in ["LAKE_CHANNEL=log", "LAKE_EVENTS=failure", "LAKE_TARGET=dev", "LAKE_STATUS=error"] {
        assert!(environment.lines().any(|known| known == line), "{line}: {environment}");
    }
    assert!(built.stderr.contains("could not tell late (command): `sh` did not end within 1s"), "{}", built.stderr);
    assert!(
        built.stderr.contains("could not tell broken (command): `sh`: exit code 3: it is down"),
        "{}",
        built.stderr
    );
    let child = std::fs::read_to_string(sandbox.path("child")).unwrap();
    let state = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "what it started goes on: {state}");
}

/// A mail server; it ends when it is dropped.
struct MailServer {
    process: Child,
    port: String,
    mails: BufReader<std::process::ChildStdout>,
}

impl MailServer {
    fn start(sandbox: &Sandbox, mode: &str, pair: &[&str]) -> Option<Self> {
        sandbox.write("smtp.py", include_str!("alerts/smtp.py"));
        let mut command = Command::new("python3");
        command.arg(sandbox.path("smtp.py")).arg(mode).args(pair.iter().map(|file| sandbox.path(file)));
        let mut process = match command.stdout(Stdio::piped()).spawn() {
            Ok(process) => process,
            Err(error) if std::env::var_os("CI").is_none() => {
                eprintln!("skipped: no python3: {error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let mut mails = BufReader::new(process.stdout.take().unwrap());
        let mut port = String::new();
        mails.read_line(&mut port).unwrap();
        Some(Self { process, port: port.trim().to_owned(), mails })
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.mails.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A channel that writes mails to a server of this kind.
fn mail(tls: &str, port: &str) -> String {
    format!(
        "  - {{ name: mail, type: email, host: localhost, port: {port}, tls: {tls}, username: lake, password: \"{{{{ env_var('PASSWORD') }}}}\", \
         from: 'lake <lake@acme.example>', to: [anna@acme.example, ben@acme.example], timeout: 5s }}\n"
    )
}

#[test]
fn mails_are_plain_text_and_html() {
    let sandbox = Sandbox::empty();
    let Some(mut server) = MailServer::start(&sandbox, "none", &[]) else { return };
    let sandbox = shop(&mail("none", &server.port));
    sandbox.write("in/items/1.csv", BAD);
    let build = |password: &str| sandbox.command(&["build"]).env("PASSWORD", password).output().unwrap();
    let refused = String::from_utf8_lossy(&build("crayon").stderr).into_owned();
    assert!(refused.contains("could not tell mail (email): ") && refused.contains("535"), "{refused}");
    assert!(!refused.contains("crayon"), "what it was sent is not repeated: {refused}");
    let sent = build("pencil");
    assert!(String::from_utf8_lossy(&sent.stderr).contains("told mail (email): 1 failed"), "{sent:?}");
    let mail = server.next();
    assert_eq!(
        (&mail["from"], &mail["to"]),
        (&json!("lake@acme.example"), &json!(["anna@acme.example", "ben@acme.example"]))
    );
    assert_eq!(mail["login"], json!(["lake", "pencil"]));
    let data = mail["data"].as_str().unwrap().replace("=\n", "");
    for part in [
        "Subject: lake shop (dev): 1 failed",
        "Content-Type: multipart/alternative",
        "- items_have_ids (test of silver.items, owner anna): 2 rows fail",
        "models/all.yml:7",
        "lake test --failures items_have_ids --target dev",
        "not built because of it: gold.total",
        "<b>items_have_ids</b>",
    ] {
        assert!(data.contains(part), "{part}: {data}");
    }
    assert!(!data.contains("CANARY"), "{data}");
}

#[test]
fn mails_go_over_connections_that_are_encrypted_and_known() {
    let sandbox = Sandbox::empty();
    if !certificate(&sandbox) {
        return;
    }
    for tls in ["starttls", "tls"] {
        let Some(mut server) = MailServer::start(&sandbox, tls, &["leaf.pem", "leaf.key"]) else { return };
        let shop = shop(&mail(tls, &server.port));
        let test = |authority: &str| {
            let mut command = shop.command(&["notify", "--test"]);
            command.env("PASSWORD", "pencil").env("SSL_CERT_FILE", sandbox.path(authority)).output().unwrap()
        };
        let strange = test("other.pem");
        let said = String::from_utf8_lossy(&strange.stdout).into_owned();
        assert!(strange.status.code() == Some(1) && said.contains("certificate"), "{said}");
        let sent = test("ca.pem");
        assert!(sent.status.success(), "{sent:?}");
        let mail = server.next();
        assert_eq!((&mail["safe"], &mail["login"]), (&json!(true), &json!(["lake", "pencil"])));
    }
    // A server that does not offer it gets neither password nor mail.
    let Some(server) = MailServer::start(&sandbox, "none", &[]) else { return };
    let shop = shop(&mail("starttls", &server.port));
    let sent = shop.command(&["notify", "--test"]).env("PASSWORD", "pencil").output().unwrap();
    let said = String::from_utf8_lossy(&sent.stdout).into_owned();
    assert!(sent.status.code() == Some(1) && said.contains("STARTTLS"), "{said}");
}

/// `ca.pem`, and `leaf.pem` of it for localhost; `other.pem` of another authority. Whether there is an `openssl` to make them.
fn certificate(sandbox: &Sandbox) -> bool {
    let openssl = |line: &str| run(Command::new("openssl").args(line.split(' ')).current_dir(sandbox.path(".")));
    let authority = |name: &str| {
        openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN={name} -keyout {name}.key -out {name}.pem"
        ))
    };
    if let Err(why) = authority("ca") {
        assert!(std::env::var_os("CI").is_none(), "{why}");
        eprintln!("skipped: no certificate can be made: {why}");
        return false;
    }
    authority("other").unwrap();
    sandbox.write("leaf.ext", "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n");
    openssl("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout leaf.key -out leaf.csr").unwrap();
    openssl("x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile leaf.ext -out leaf.pem")
        .unwrap();
    true
}

#[test]
fn a_newcomer_sees_whether_it_works() {
    let (url, received) = server("200 OK");
    let channels = format!(
        "{WEBHOOK}  - {{ name: oncall, type: slack, url: \"{{{{ env_var('SLACK_WEBHOOK', '') }}}}\", targets: [prod] }}
  - {{ name: pager, type: teams, url: \"{{{{ env_var('NOBODY_SET_THIS') }}}}\" }}
  - {{ name: off, type: command, command: \"{{{{ env_var('NONE', '') }}}}\" }}
"
    );
    let sandbox = shop(&channels);
    let listed = lake(&sandbox, &url, &["notify"]);
    assert_eq!(listed.code, 0);
    snapshots().bind(|| insta::assert_snapshot!("notify_list", listed.stdout));
    let tested = lake(&sandbox, &url, &["notify", "--test"]);
    assert_eq!(tested.code, 1);
    snapshots().bind(|| insta::assert_snapshot!("notify_test", tested.stdout));
    let message = taken(&received).remove(0);
    assert_eq!((&message["test"], &message["title"]), (&json!(true), &json!("lake shop (dev): a test message")));
    assert_eq!(lake(&sandbox, &url, &["notify", "--test", "hook"]).code, 0);
    assert_eq!(taken(&received).len(), 1);
    lake(&sandbox, &url, &["notify", "--test", "off"]).assert_failed(1, "its address is empty");
    lake(&sandbox, &url, &["notify", "--test", "hok"]).assert_failed(2, "did you mean `hook`?");
    let listed = sandbox.command(&["notify", "--output", "json"]).env("HOOK", &url).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((&listed[0]["state"], &listed[2]["state"]), (&json!("ready"), &json!("error")));
    assert!(!listed.to_string().contains("secret-path"));
    let sandbox = Sandbox::new(&[("models/gold/g.sql", "select 1 as one")]);
    assert!(sandbox.lake(&["notify"]).stderr.contains("project.yml has no channels"));
}

#[test]
fn settings_that_are_wrong_are_told_with_their_place() {
    let channels = "  - { name: a, type: slak }
  - { name: b, type: slack, url: https://hooks.example/CANARY, on: [failures], tgas: [x] }
  - { name: c, type: email, host: x, from: a@b.c, password: CANARY, port: 99999, tls: ssl }
  - { name: d, type: webhook, url: \"{{ env_var('X') }}\", headers: { authorization: CANARY }, targets: [prd], timeout: soon }
  - { name: d, type: command, command: cat, host: x, severity: fatal }
  - { type: command, remind_after: 0s }
  - just a text
";
    let wrong = shop(channels).lake(&["compile"]);
    assert_eq!(wrong.code, 2);
    assert!(!wrong.stderr.contains("CANARY"), "{}", wrong.stderr);
    snapshots().bind(|| insta::assert_snapshot!("notifications_wrong", wrong.stderr));
    let selected = |select: &str, why: &str| {
        let channel = format!("  - {{ name: a, type: command, command: cat, select: '{select}' }}\n");
        shop(&channel).lake(&["compile"]).assert_failed(2, why);
    };
    selected("nobody", "nobody");
    selected("tagg:x", "did you mean");
    selected("state:modified", "not for channels: state:");
}
