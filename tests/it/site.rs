//! The documentation site in a real browser: `site/browse.mjs` does what a scenario says and tells what it saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sandbox::Sandbox;
use crate::services;

/// What a scenario saw, after nothing went wrong and nothing but the page itself was asked for. `None` without a browser.
#[track_caller]
pub fn browse(sandbox: &Sandbox, scenario: &str, argument: &Value) -> Option<Value> {
    let url = format!("file://{}", sandbox.path("page.html").display());
    let told = finish(browser(&url, scenario, argument)?);
    assert_eq!(told["requests"], json!([url]), "a page asks nobody");
    Some(told["seen"].clone())
}

fn browser(url: &str, scenario: &str, argument: &Value) -> Option<Child> {
    let (chromium, driver) = services::browser()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/site/browse.mjs");
    let argument = argument.as_str().map_or_else(|| argument.to_string(), str::to_owned);
    let mut command = Command::new("node");
    command.arg(script).arg(chromium).args([url, scenario, &argument]).current_dir(driver);
    Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("node starts"))
}

#[track_caller]
fn finish(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}\n{errors}");
    let told: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap();
    assert_eq!(told["trouble"], json!([]), "the console of the browser");
    told
}

pub fn generate(sandbox: &Sandbox) -> String {
    sandbox.ok(&["docs", "generate", "--path", "page.html"]);
    std::fs::read_to_string(sandbox.path("page.html")).unwrap()
}

/// The data inside a small page.
fn data(page: &str) -> Value {
    let start = page.find("id=\"lake-data\">").expect("the page has data") + "id=\"lake-data\">".len();
    let end = start + page[start..].find("</script>").unwrap();
    serde_json::from_str(&page[start..end]).unwrap()
}

/// The sample lake after two builds, with a failed model below it.
pub fn sample() -> Sandbox {
    let sandbox = Sandbox::sample();
    sandbox.write(
        "models/gold/exposures.yml",
        "exposures:\n  - { name: weekly, type: dashboard, label: Weekly board, owner: { name: Ada, email: ada@example.org }, \
         url: 'https://bi.example.org/1', depends_on: [ref('users_platforms')] }\n",
    );
    sandbox.ok(&["build"]);
    sandbox.ok(&["build"]);
    sandbox.write(
        "models/gold/broken.sql",
        "{{ config(materialized='table') }} select cast(platform as int) as n from {{ ref('views') }}\n",
    );
    assert_eq!(sandbox.lake(&["build"]).code, 1);
    sandbox
}

#[test]
fn every_page_opens_and_tells_what_the_lake_holds() {
    let sandbox = sample();
    generate(&sandbox);
    let pages = [
        "#/",
        "#/lineage",
        "#/quality",
        "#/health",
        "#/model/silver.views",
        "#/source/bronze.views",
        "#/exposure/weekly",
        "#/model/gold.broken",
        "#/nowhere",
    ];
    let Some(seen) = browse(&sandbox, "pages", &json!(pages)) else { return };
    let shows = |page: &str, texts: &[&str]| {
        let text = seen[page]["text"].as_str().unwrap_or_else(|| panic!("no page {page}"));
        for wanted in texts {
            assert!(text.contains(wanted), "{page} has no `{wanted}`:\n{text}");
        }
    };
    // The parts of a page scroll; the window has no second bar beside theirs.
    for (page, seen) in seen.as_object().unwrap().iter().filter(|(page, _)| page.starts_with('#')) {
        assert_eq!(seen["tooLong"], 0, "{page}");
    }
    shows("#/", &["courses", "2 sources, 6 models, 1 exposure", "Needs attention", "gold.broken", "29,206 rows"]);
    shows("#/quality", &["Failing rows", "not_null_views_viewed_at", "34", "Trend by node", "proved"]);
    shows(
        "#/health",
        &[
            "build, ",
            "Timeline",
            "critical path",
            "Skipped, and why",
            "no new files",
            "Slowest nodes",
            "silver.views",
            "15",
        ],
    );
    let views = [
        "Every view once, typed.",
        "learning-data",
        "incremental",
        "19,628",
        "viewed_at",
        "timestamp",
        "unique key",
        "34 rows fail",
        "select",
        "create",
        "Runs",
    ];
    shows("#/model/silver.views", &views);
    shows("#/source/bronze.views", &["csv", ".csv", "Producers write every column as text"]);
    shows("#/exposure/weekly", &["Weekly board", "Ada", "ada@example.org", "users_platforms"]);
    shows("#/model/gold.broken", &["error", "platform"]);
    shows("#/nowhere", &["Not found"]);
    assert_eq!(seen["#/model/silver.views"]["title"], "views · courses");
}

#[test]
fn the_graph_has_the_nodes_and_edges_of_the_project() {
    let sandbox = sample();
    generate(&sandbox);
    let lineage = sandbox.json(&["docs"]);
    let Some(seen) = browse(&sandbox, "graph", &json!("")) else { return };
    let (nodes, edges) = (lineage["nodes"].as_array().unwrap(), lineage["edges"].as_array().unwrap());
    assert_eq!(seen["whole"], json!({"nodes": nodes.len(), "edges": edges.len()}));
    let pair = |from: &Value, to: &Value| (from.as_str().unwrap().to_owned(), to.as_str().unwrap().to_owned());
    let wanted: BTreeSet<_> = edges.iter().map(|edge| pair(&edge["from"], &edge["to"])).collect();
    let rows = seen["list"].as_array().unwrap();
    let up: BTreeSet<_> = rows
        .iter()
        .flat_map(|row| row["reads"].as_array().unwrap().iter().map(|from| pair(from, &row["node"])))
        .collect();
    let down: BTreeSet<_> =
        rows.iter().flat_map(|row| row["readBy"].as_array().unwrap().iter().map(|to| pair(&row["node"], to))).collect();
    assert_eq!((&up, &down), (&wanted, &wanted));
    let names: BTreeSet<&str> = rows.iter().filter_map(|row| row["node"].as_str()).collect();
    assert_eq!(names, nodes.iter().filter_map(|node| node["name"].as_str()).collect());
}

#[test]
fn the_graph_is_narrowed_and_walked_through() {
    let sandbox = sample();
    generate(&sandbox);
    let selections = [
        "+course_progress",
        "views+1",
        "tag:gold",
        "+exposure:weekly",
        "silver,config.materialized:incremental",
        "nobody",
    ];
    let Some(seen) = browse(&sandbox, "focus", &json!(selections)) else { return };
    for (text, nodes) in [
        ("+course_progress", 5),
        ("views+1", 5),
        ("+exposure:weekly", 4),
        ("silver,config.materialized:incremental", 2),
    ] {
        let listed = if text.contains("config") {
            2
        } else {
            sandbox.json(&["docs", "--select", text])["nodes"].as_array().unwrap().len()
        };
        assert_eq!((seen[text]["nodes"].as_u64(), listed), (Some(nodes), nodes as usize), "{text}: {seen}");
    }
    assert_eq!(seen["tag:gold"]["nodes"], 4);
    assert!(seen["nobody"].as_str().unwrap().contains("Nothing is called nobody"), "{seen}");
    assert_eq!(seen["withoutFirstLayer"], json!({"nodes": 7, "edges": 7, "hash": "#/lineage?layers=bronze"}));
    assert_eq!(seen["Tag"], json!({"nodes": 4, "edges": seen["Tag"]["edges"], "hash": "#/lineage?tag=gold"}));
    assert_eq!(seen["Status"], json!({"nodes": 1, "edges": 0, "hash": "#/lineage?status=error"}));
    let keys = json!(["ArrowRight", "ArrowRight", "ArrowLeft", "Escape", "ArrowDown", "Enter"]);
    let walked = browse(&sandbox, "keyboard", &keys).unwrap();
    let said = |at: usize| walked[at]["said"].as_str().unwrap();
    assert!(said(0).starts_with("bronze.") && said(0).contains("read by 1 node"), "{walked}");
    assert!(said(1).starts_with("silver.") && said(2).starts_with("bronze."), "{walked}");
    assert_eq!(said(3), "", "{walked}");
    assert!(walked[5]["hash"].as_str().unwrap().starts_with("#/source/bronze."), "{walked}");
}

#[test]
fn search_finds_models_columns_and_tests() {
    let sandbox = sample();
    generate(&sandbox);
    let words = json!(["users_platforms", "chapters_viewed", "not_null_views_user", "late", "platfrom"]);
    let Some(seen) = browse(&sandbox, "search", &words) else { return };
    assert_eq!(seen[0]["hash"], "#/model/gold.users_platforms");
    assert_eq!(seen[1]["hash"], "#/column/gold.course_progress.chapters_viewed");
    assert_eq!(seen[2]["hash"], "#/quality/not_null_views_user_id");
    // Of a description, and with two letters in each other's place.
    assert!(seen[3]["hash"].as_str().unwrap().contains("views"), "{seen}");
    assert!(seen[4]["first"].as_str().unwrap().contains("platform"), "{seen}");
    assert!(seen.as_array().unwrap().iter().all(|found| found["open"] == false), "{seen}");
}

#[test]
fn a_column_shows_where_it_comes_from_and_what_it_reaches() {
    let sandbox = sample();
    generate(&sandbox);
    let Some(seen) = browse(&sandbox, "columns", &json!({"node": "silver.views", "column": "chapter_id"})) else {
        return;
    };
    assert_eq!(seen["first"], json!({"nodes": 3, "edges": 3, "hash": "#/column/silver.views.chapter_id"}));
    let wanted = [
        "bronze.views.chapter_id",
        "gold.course_progress.chapters_viewed",
        "gold.course_progress.progress",
        "silver.views.chapter_id",
    ];
    let known = sandbox.json(&["docs", "--column", "silver.views.chapter_id"]);
    for edge in known["downstream"].as_array().unwrap().iter().filter(|edge| edge["use"] != "filter") {
        let column = format!("{}.{}", edge["to"]["table"].as_str().unwrap(), edge["to"]["column"].as_str().unwrap());
        assert!(wanted.contains(&column.as_str()), "{column}");
    }
    let columns: BTreeSet<&str> = seen["columns"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for column in wanted {
        assert!(columns.contains(format!("#/column/{column}").as_str()), "{column} in {columns:?}");
    }
    assert!(seen["filters"]["edges"].as_u64() > seen["first"]["edges"].as_u64(), "{seen}");
}

#[test]
fn the_site_is_accessible_in_both_themes() {
    let sandbox = sample();
    generate(&sandbox);
    let pages = json!([
        "#/",
        "#/lineage",
        "#/lineage?node=silver.views",
        "#/column/silver.views.platform",
        "#/quality",
        "#/health",
        "#/model/silver.views",
        "#/source/bronze.views",
        "#/exposure/weekly"
    ]);
    let Some(found) = browse(&sandbox, "accessibility", &pages) else { return };
    assert_eq!(found, json!([]), "{found:#}");
}

#[test]
fn a_project_without_a_lake_has_a_site_too() {
    let sandbox = Sandbox::sample();
    std::fs::remove_dir_all(sandbox.path("data/bronze/views")).unwrap();
    generate(&sandbox);
    let Some(seen) = browse(
        &sandbox,
        "pages",
        &json!(["#/", "#/quality", "#/health", "#/model/gold.course_progress", "#/source/bronze.views"]),
    ) else {
        return;
    };
    let text = |page: &str| seen[page]["text"].as_str().unwrap().to_owned();
    assert!(text("#/").contains("none yet") && text("#/quality").contains("not run"), "{seen:#}");
    assert!(text("#/health").contains("No run yet"), "{seen:#}");
    assert!(text("#/model/gold.course_progress").contains("progress"), "{seen:#}");
    assert!(text("#/source/bronze.views").contains("cannot be listed"), "{seen:#}");
    // And one without a model.
    let empty = Sandbox::new(&[]);
    generate(&empty);
    let seen = browse(&empty, "pages", &json!(["#/", "#/lineage", "#/quality", "#/health"])).unwrap();
    assert!(seen["#/"]["text"].as_str().unwrap().contains("No models yet"), "{seen:#}");
}

#[test]
fn what_people_write_is_text_and_nothing_else() {
    let sandbox = Sandbox::new(&[
        (
            "models/gold/odd.sql",
            "-- </script><script>document.title='taken'</script> <!--\nselect 1 as \"a<b>&'\", '</script>' as t\n",
        ),
        (
            "models/gold/odd.yml",
            "models:\n  - name: odd\n    description: |\n      # <img src=x onerror=alert(1)>\n\n      <b>bold</b> [bad](javascript:alert(1)) [good](https://example.org) ![x](https://example.org/x.png) `</script>`\n    columns: [{ name: t, description: '<script>alert(1)</script>' }]\n",
        ),
    ]);
    let page = generate(&sandbox);
    assert_eq!(page.matches("</script>").count(), 2, "data and code end once each");
    let Some(seen) = browse(&sandbox, "pages", &json!(["#/model/gold.odd"])) else { return };
    let text = seen["#/model/gold.odd"]["text"].as_str().unwrap();
    for wanted in ["<img src=x onerror=alert(1)>", "<b>bold</b> bad good", "<script>alert(1)</script>", "a<b>&'"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert_eq!(seen["#/model/gold.odd"]["title"], "odd · sandbox");
}

const SENSITIVE: &str = "sources:\n  - name: raw\n    tables:\n      - name: users\n        path: in/users/\n        format: csv\n        columns:\n          - { name: id, data_type: bigint }\n          - { name: email, data_type: varchar META }\n          - { name: town, data_type: varchar }\n";

#[test]
fn sensitive_values_are_not_in_the_page_even_if_they_were_kept_before() {
    let sandbox = Sandbox::new(&[
        ("sources.yml", &SENSITIVE.replace("META", "")),
        (
            "models/silver/users.sql",
            "{{ config(materialized='table', profile='full') }}\nselect * from {{ source('raw', 'users') }}\n",
        ),
        (
            "models/silver/users.yml",
            "models:\n  - name: users\n    columns:\n      - name: town\n        data_tests: [{ accepted_values: { values: [Bonn], severity: warn } }]\n",
        ),
        ("in/users/1.csv", "id,email,town\n1,ada@example.org,Bonn\n2,grace@example.org,Ulm\n3,grace@example.org,Ulm\n"),
    ]);
    sandbox.ok(&["build"]);
    let open = generate(&sandbox);
    assert!(
        open.contains("grace@example.org") && open.contains("ada@example.org"),
        "values that are for everybody are told"
    );
    // Called sensitive later: what the lake keeps of earlier runs is not masked.
    sandbox.write("sources.yml", SENSITIVE.replace("META", ", meta: { sensitive: pii }"));
    let page = generate(&sandbox);
    assert!(!page.contains("grace@example.org") && !page.contains("ada@example.org"));
    let found = data(&page);
    let node = found["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "silver.users").unwrap();
    let email = node["columns"].as_array().unwrap().iter().find(|column| column["name"] == "email").unwrap();
    assert_eq!(email["sensitive"], "raw.users.email");
    assert_eq!(email["profile"], json!({"nulls": 0, "distinct": 2, "exact": true, "masked": true}));
    assert_eq!(found["failures"][0]["rows"][0], json!({"id": 2, "email": "***", "town": "Ulm"}));
    let Some(seen) = browse(&sandbox, "pages", &json!(["#/model/silver.users"])) else { return };
    let text = seen["#/model/silver.users"]["text"].as_str().unwrap();
    assert!(text.contains("sensitive") && text.contains("masked"), "{text}");
}

#[test]
fn a_thousand_models_are_a_small_page_and_a_readable_graph() {
    const MODELS: usize = 1000;
    let mut files: Vec<(String, String)> = Vec::new();
    let mut edges = 0;
    for at in 0..MODELS {
        let (layer, row) = (["staging", "silver", "gold", "mart"][at / 250], at % 250);
        let reads = if at < 250 {
            "(select 1 as id, 'a' as kind)".to_owned()
        } else {
            edges += 1;
            format!("{{{{ ref('m{:04}') }}}}", at - 250)
        };
        let mut sql = format!("select id, upper(kind) as kind, count(*) as n from {reads} as base");
        if at >= 250 && row > 0 {
            edges += 1;
            let _ = write!(sql, " join (select id as other from {{{{ ref('m{:04}') }}}}) as o on other = id", at - 251);
        }
        files.push((format!("models/{layer}/g{}/m{at:04}.sql", row / 50), format!("{sql} group by 1, 2\n")));
    }
    let names: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let sandbox = Sandbox::new(&names);
    let page = generate(&sandbox);
    assert!(page.len() < 3 << 20, "{} bytes", page.len());
    let Some(seen) = browse(&sandbox, "large", &json!("#/model/mart.m0999")) else { return };
    assert_eq!((&seen["whole"], &seen["heading"]), (&json!({"nodes": MODELS, "edges": edges}), &json!("m0999")));
    assert_eq!(seen["pictures"], 3, "the wheel and the mouse move the graph");
}

/// `lake docs serve`, ended when this is dropped.
struct Served {
    child: Child,
    port: u16,
}

impl Served {
    fn start(sandbox: &Sandbox) -> Self {
        let mut command = sandbox.command(&["docs", "serve", "--port", "0", "--output", "json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.find_map(|line| line.ok().filter(|line| line.contains("url"))).expect("it says where it is");
        let port = line.rsplit(':').next().unwrap().chars().filter(char::is_ascii_digit).collect::<String>();
        // Whoever prints into a pipe that nobody reads is stopped.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port: port.parse().unwrap() }
    }

    /// The whole answer to a request.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn orders() -> Sandbox {
    Sandbox::new(&[
        ("models/gold/orders.sql", "select 1 as id\n"),
        ("models/gold/orders.yml", "models: [{ name: orders, description: the first words }]\n"),
    ])
}

#[test]
fn a_served_site_answers_to_this_machine_alone() {
    let sandbox = orders();
    let served = Served::start(&sandbox);
    let page = served.ask(&format!("GET / HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", served.port));
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("the first words"), "{}", &page[..200]);
    assert!(page.contains("connect-src 'self'"), "a served page may ask for news");
    let head = served.ask("HEAD / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: evil.example.org\r\n\r\n", "403"),
        ("GET / HTTP/1.1\r\n\r\n", "403"),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        ("POST / HTTP/1.1\r\nHost: localhost\r\ncontent-length: 0\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let answer = served.ask(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    let mut stream = TcpStream::connect(("127.0.0.1", served.port)).unwrap();
    // It may be refused before it is sent whole.
    let _ = stream.write_all(long.as_bytes());
    assert!(served.ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").contains("200 OK"), "and goes on");
    let taken = sandbox.lake(&["docs", "serve", "--port", &served.port.to_string()]);
    taken.assert_failed(2, "cannot listen on port");
}

#[test]
fn a_served_site_follows_the_project() {
    let sandbox = orders();
    let served = Served::start(&sandbox);
    let mut events = BufReader::new(TcpStream::connect(("127.0.0.1", served.port)).unwrap());
    events.get_mut().set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    events.get_mut().write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut next = |wanted: &str| {
        let start = Instant::now();
        let mut line = String::new();
        while !line.starts_with(wanted) {
            line.clear();
            assert!(
                events.read_line(&mut line).unwrap() > 0 && start.elapsed() < Duration::from_secs(120),
                "no `{wanted}`"
            );
        }
    };
    next("event: page");
    sandbox.write("models/gold/orders.sql", "select nope as id\n");
    next("event: trouble");
    sandbox.write("models/gold/orders.sql", "select 2 as id\n");
    next("event: page");
    let url = format!("http://localhost:{}/", served.port);
    let Some(mut child) = browser(&url, "live", &json!("#/model/gold.orders")) else { return };
    // It reads along until the page is there.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert!(ready["before"]["text"].as_str().unwrap().contains("the first words"), "{ready}");
    sandbox.write("models/gold/orders.yml", "models: [{ name: orders, description: other words }]\n");
    let told: Value = serde_json::from_str(&lines.next().expect("the browser saw the page again").unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!((&told["trouble"], &told["seen"]["after"]["hash"]), (&json!([]), &json!("#/model/gold.orders")));
    assert!(told["seen"]["after"]["text"].as_str().unwrap().contains("other words"), "{told}");
    let asked: BTreeMap<String, usize> =
        told["requests"].as_array().unwrap().iter().map(|url| (url.to_string(), 1)).collect();
    assert!(asked.keys().all(|asked| asked.starts_with(&format!("\"{url}"))), "{asked:?}");
}
