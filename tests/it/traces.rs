//! The feature `otel`: a collector on loopback gets the spans of a build.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use crate::sandbox::Sandbox;

fn project() -> Sandbox {
    Sandbox::new(&[
        ("models/silver/items.sql", "{{ config(materialized='table') }} select 1 as id"),
        (
            "models/gold/broken.sql",
            "{{ config(materialized='table') }} select cast('x' || id as int) as id from {{ ref('items') }}",
        ),
        ("models/silver/items.yml", "models: [{ name: items, columns: [{ name: id, data_tests: [unique] }] }]"),
    ])
}

/// What one request says, which is answered with this status.
fn answered(mut stream: TcpStream, status: &str) -> Vec<u8> {
    let (mut read, mut buffer) = (Vec::new(), [0; 65536]);
    loop {
        let end = read.windows(4).position(|part| part == b"\r\n\r\n");
        let head = end.map(|end| String::from_utf8_lossy(&read[..end]).to_lowercase());
        let length = head.and_then(|head| {
            let line = head.lines().find_map(|line| line.strip_prefix("content-length:").map(str::to_owned))?;
            line.trim().parse::<usize>().ok()
        });
        if let (Some(end), Some(length)) = (end, length)
            && read.len() >= end + 4 + length
        {
            break;
        }
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            count => read.extend_from_slice(&buffer[..count]),
        }
    }
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).unwrap();
    read
}

/// A collector that answers so, and what it was sent.
fn collector(status: &'static str) -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, sent) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if tell.send(answered(stream.unwrap(), status)).is_err() {
                return;
            }
        }
    });
    (url, sent)
}

#[test]
fn a_collector_gets_a_span_for_each_node_and_phase() {
    let (url, sent) = collector("200 OK");
    let sandbox = project();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let output = sandbox
        .command(&["build"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
        .env("OTEL_SERVICE_NAME", "shop-lake")
        .env("TRACEPARENT", format!("00-{trace}-00f067aa0ba902b7-01"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("traces"), "{output:?}");
    let all: Vec<u8> = sent.try_iter().flatten().collect();
    let says = |text: &[u8]| all.windows(text.len()).any(|part| part == text);
    assert!(all.starts_with(b"POST /v1/traces"), "{}", String::from_utf8_lossy(&all));
    for text in [
        "shop-lake",
        "lake build",
        "invocation_id",
        "run",
        "silver.items",
        "gold.broken",
        "look",
        "stage",
        "plan",
        "execute",
        "test",
        "publish",
        "compile",
        "success",
        "first build",
        "error",
    ] {
        assert!(says(text.as_bytes()), "no `{text}` in {}", String::from_utf8_lossy(&all));
    }
    let id: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&trace[at * 2..at * 2 + 2], 16).unwrap()).collect();
    assert!(says(&id), "the trace is not that of the caller");
}

#[test]
fn a_collector_that_fails_is_a_warning() {
    let (refusing, _sent) = collector("503 Service Unavailable");
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for url in [refusing, nobody] {
        let sandbox = project();
        let mut command = sandbox.command(&["run", "--select", "items"]);
        let output = command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &url).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert!(stderr.contains("warning: not all traces could be sent"), "{stderr}");
    }
}

#[test]
fn without_an_address_nothing_is_sent() {
    let (url, sent) = collector("200 OK");
    let sandbox = project();
    let output = sandbox
        .command(&["run", "--select", "items"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
        .env("OTEL_SDK_DISABLED", "true")
        .output()
        .unwrap();
    assert!(output.status.success() && sent.try_recv().is_err(), "{output:?}");
    assert_eq!(sandbox.lake(&["run"]).stderr.matches("traces").count(), 0);
}
