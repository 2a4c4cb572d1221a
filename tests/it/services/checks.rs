//! The services themselves: what tests of lakes rely on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path as FilePath;
use std::process::Command;
use std::sync::Arc;

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStoreExt, PutMode, PutPayload, PutResult, UpdateVersion};

use super::{Call, Fault, Server, Store, azure, block_on, gcs, s3, s3_without_conditions};
use crate::reader;

#[test]
fn seaweedfs_is_a_store_for_tables() {
    let Some(server) = s3() else { return };
    block_on(is_a_store_for_tables(&server));
}

#[test]
fn azurite_is_a_store_for_tables() {
    let Some(server) = azure() else { return };
    block_on(is_a_store_for_tables(&server));
}

#[test]
fn the_stub_of_google_is_a_store_for_tables() {
    let stub = gcs();
    // Several pages for listings that do not say how large a page may be.
    stub.pages_of(7);
    block_on(is_a_store_for_tables(&stub.server));
}

async fn is_a_store_for_tables(server: &Server) {
    for round in 0..3 {
        let path = Path::from(format!("race/_delta_log/{round:020}.json"));
        let results = race(server, &path).await;
        let winners: Vec<usize> = (0..results.len()).filter(|at| results[*at].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        let mut lost = results.iter().filter_map(|result| result.as_ref().err());
        assert!(lost.all(|error| matches!(error, Error::AlreadyExists { .. })), "{results:?}");
        assert_eq!(content(&*server.store(), &path).await, winners[0].to_string().as_bytes());
    }
    let store = server.store();
    versions(&*store).await;
    listings(&*store).await;
    ranges(&*store).await;
    large_objects(&*store).await;
    copies_and_deletes(Arc::clone(&store)).await;
}

/// Eight writers, each with connections of its own, write this object at the same time unless it exists.
async fn race(server: &Server, path: &Path) -> Vec<Result<PutResult, Error>> {
    let writers = (0..8).map(|writer| {
        let (store, path) = (server.store(), path.clone());
        tokio::spawn(async move {
            let text = PutPayload::from(writer.to_string());
            store.put_opts(&path, text, PutMode::Create.into()).await
        })
    });
    join_all(writers).await.into_iter().map(Result::unwrap).collect()
}

async fn content(store: &dyn Store, path: &Path) -> Vec<u8> {
    store.get(path).await.unwrap().bytes().await.unwrap().to_vec()
}

/// A write on top of a version that is no longer there is refused.
async fn versions(store: &dyn Store) {
    let path = Path::from("state/head");
    let PutResult { e_tag, version } = store.put(&path, "1".into()).await.unwrap();
    let first = || PutMode::Update(UpdateVersion { e_tag: e_tag.clone(), version: version.clone() });
    store.put_opts(&path, "2".into(), first().into()).await.unwrap();
    let stale = store.put_opts(&path, "3".into(), first().into()).await;
    assert!(matches!(stale, Err(Error::Precondition { .. })), "{stale:?}");
    assert_eq!(content(store, &path).await, b"2");
}

async fn listings(store: &dyn Store) {
    let folder = Path::from("list/table/_delta_log");
    let log: Vec<Path> = (0..25).map(|version| folder.clone().join(format!("{version:020}.json"))).collect();
    let odd = Path::from("list/table/region=a b%20ü&<c>/day=2026-03-01 00:00/x.parquet");
    let all: Vec<&Path> = log.iter().chain([&odd]).collect();
    for written in join_all(all.iter().map(|path| store.put(path, "x".into()))).await {
        written.unwrap();
    }
    let found = |listing: Vec<object_store::ObjectMeta>| -> Vec<Path> {
        listing.into_iter().map(|object| object.location).collect()
    };
    let listed = found(store.list(Some(&Path::from("list"))).try_collect().await.unwrap());
    assert_eq!(listed.iter().collect::<Vec<_>>(), all);
    let later = found(store.list_with_offset(Some(&folder), &log[10]).try_collect().await.unwrap());
    assert_eq!(later, log[11..]);
    let level = store.list_with_delimiter(Some(&Path::from("list/table"))).await.unwrap();
    assert_eq!(level.common_prefixes, [folder.clone(), Path::from("list/table/region=a b%20ü&<c>")]);
    assert!(level.objects.is_empty(), "{level:?}");
    let (mut pages, mut token) = (Vec::new(), None);
    loop {
        let options = PaginatedListOptions { max_keys: Some(10), page_token: token, ..Default::default() };
        let page = store.list_paginated(Some("list/table/_delta_log/"), options).await.unwrap();
        pages.push(found(page.result.objects));
        token = page.page_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(pages.concat(), log);
    assert!(pages.len() >= 3 && pages.iter().all(|page| page.len() <= 10), "{pages:?}");
}

async fn ranges(store: &dyn Store) {
    let (path, bytes) = (Path::from("ranges/file.parquet"), pattern(10_000));
    let PutResult { e_tag, .. } = store.put(&path, bytes.clone().into()).await.unwrap();
    let meta = store.head(&path).await.unwrap();
    assert_eq!((meta.size, &meta.e_tag), (10_000, &e_tag));
    assert_eq!(store.get_range(&path, 10..20).await.unwrap(), bytes[10..20]);
    let two = store.get_ranges(&path, &[0..4, 9_000..10_000]).await.unwrap();
    assert_eq!((&two[0][..], &two[1][..]), (&bytes[..4], &bytes[9_000..]));
    let from = GetOptions { range: Some(GetRange::Offset(9_992)), ..Default::default() };
    assert_eq!(store.get_opts(&path, from).await.unwrap().bytes().await.unwrap(), bytes[9_992..]);
    let other = GetOptions { if_match: Some("\"another\"".to_owned()), ..Default::default() };
    let other = store.get_opts(&path, other).await;
    assert!(matches!(other, Err(Error::Precondition { .. })), "{other:?}");
    let same = GetOptions { if_none_match: e_tag, ..Default::default() };
    let same = store.get_opts(&path, same).await;
    assert!(matches!(same, Err(Error::NotModified { .. })), "{same:?}");
}

/// An object of several parts is there when it is complete, and not before.
async fn large_objects(store: &dyn Store) {
    let (path, bytes) = (Path::from("large/file.parquet"), pattern(11 << 20));
    let mut upload = store.put_multipart(&path).await.unwrap();
    // Parts of S3 have 5 MiB at least, all but the last.
    let parts: Vec<_> = bytes.chunks(5 << 20).map(|part| upload.put_part(part.to_vec().into())).collect();
    for part in join_all(parts).await {
        part.unwrap();
    }
    let early = store.head(&path).await;
    assert!(matches!(early, Err(Error::NotFound { .. })), "{early:?}");
    upload.complete().await.unwrap();
    assert!(content(store, &path).await == bytes);
    let seam = (5 << 20) - 3..(5 << 20) + 3;
    let read = store.get_range(&path, seam.start as u64..seam.end as u64).await.unwrap();
    assert_eq!(read, bytes[seam]);

    let given_up = Path::from("large/given_up.parquet");
    let mut upload = store.put_multipart(&given_up).await.unwrap();
    upload.put_part(pattern(100).into()).await.unwrap();
    upload.abort().await.unwrap();
    assert!(matches!(store.head(&given_up).await, Err(Error::NotFound { .. })));
}

async fn copies_and_deletes(store: Arc<dyn Store>) {
    let (from, to) = (Path::from("some/from"), Path::from("some/to"));
    store.put(&from, "rows".into()).await.unwrap();
    store.copy(&from, &to).await.unwrap();
    assert_eq!(content(&*store, &to).await, b"rows");
    let paths = [from, to];
    let gone = store.delete_stream(futures::stream::iter(paths.clone()).map(Ok).boxed());
    assert_eq!(gone.try_collect::<Vec<_>>().await.unwrap(), paths);
    let missing = store.get(&paths[0]).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
    assert_eq!(store.list(Some(&Path::from("some"))).count().await, 0);
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn rclone_lets_every_writer_win() {
    let Some(server) = s3_without_conditions() else { return };
    block_on(async {
        let (store, path) = (server.store(), Path::from("_delta_log/00000000000000000000.json"));
        for text in ["first", "second"] {
            store.put_opts(&path, text.into(), PutMode::Create.into()).await.unwrap();
        }
        assert_eq!(content(&*store, &path).await, b"second");
        let results = race(&server, &Path::from("_delta_log/00000000000000000001.json")).await;
        assert!(results.iter().filter(|result| result.is_ok()).count() > 1, "{results:?}");
    });
}

#[test]
fn servers_are_apart_and_end_with_their_value() {
    let (Some(one), Some(other)) = (s3(), s3()) else { return };
    block_on(async {
        let path = Path::from("mine");
        one.store().put(&path, "x".into()).await.unwrap();
        assert!(matches!(other.store().head(&path).await, Err(Error::NotFound { .. })));
    });
    let process = one.process.as_ref().unwrap();
    let (folder, sockets) = (process.folder().to_owned(), process.leaves.clone());
    let (id, address) = (process.id(), one.endpoint.trim_start_matches("http://").to_owned());
    drop(one);
    assert!(TcpStream::connect(address).is_err());
    assert!(!FilePath::new(&format!("/proc/{id}")).exists());
    assert!([folder].iter().chain(&sockets).all(|path| !path.exists()));
    assert!(TcpStream::connect(other.endpoint.trim_start_matches("http://")).is_ok());
}

#[test]
fn seaweedfs_looks_at_signatures() {
    let Some(mut server) = s3() else { return };
    let secret = server.env.iter_mut().find(|(key, _)| key == "AWS_SECRET_ACCESS_KEY").unwrap();
    "wrong".clone_into(&mut secret.1);
    let refused = block_on(async { server.store().put(&Path::from("mine"), "x".into()).await });
    assert!(matches!(refused, Err(Error::PermissionDenied { .. })), "{refused:?}");
}

#[test]
fn the_stub_fails_when_it_is_told_to() {
    let stub = gcs();
    block_on(async {
        let (store, path) = (stub.server.store(), Path::from("log/1"));
        // Requests that are refused are sent again, and nobody notices.
        stub.fail(|call| (call.number % 3 == 1).then_some(Fault::Unavailable));
        for text in ["one", "two"] {
            store.put(&path, text.into()).await.unwrap();
            assert_eq!(content(&*store, &path).await, text.as_bytes());
        }
        assert_eq!(stub.calls().len(), 6);

        // An answer that is lost: the client sends the same again, and is told that somebody was there before.
        let commit = Path::from("log/2");
        stub.fail(|call| (call.number == 1).then_some(Fault::LostAnswer));
        let lost = store.put_opts(&commit, "mine".into(), PutMode::Create.into()).await;
        assert!(matches!(lost, Err(Error::AlreadyExists { .. })), "{lost:?}");
        let call = |number| Call { number, method: "PUT".to_owned(), key: "log/2".to_owned() };
        assert_eq!(stub.calls(), [call(1), call(2)]);
        assert_eq!(content(&*store, &commit).await, b"mine");

        // What is missing of a body is asked for.
        stub.fail(|call| (call.number == 2).then_some(Fault::CutAnswer));
        let bytes = pattern(100_000);
        store.put(&path, bytes.clone().into()).await.unwrap();
        assert!(content(&*store, &path).await == bytes);
        assert_eq!(stub.calls().iter().filter(|call| call.method == "GET").count(), 2);

        // A rule of its own for each key; with no rule that applies, all is well.
        let mut left = 1;
        stub.fail(move |call| (call.key == "log/3" && std::mem::take(&mut left) == 1).then_some(Fault::LostAnswer));
        store.put_opts(&Path::from("log/3"), "x".into(), PutMode::Create.into()).await.unwrap_err();
        store.put_opts(&Path::from("log/4"), "x".into(), PutMode::Create.into()).await.unwrap();
    });
}

/// `object_store` 0.13.2 sends the condition of a copy exactly when it was not asked for, so the wire is looked at.
#[test]
fn the_stub_keeps_the_conditions_of_copies_and_deletes() {
    let stub = gcs();
    let send = |request: &str| {
        let mut stream = TcpStream::connect(stub.server.endpoint.trim_start_matches("http://")).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let status = |line: &str, headers: &str| {
        let answer = send(&format!("{line} HTTP/1.1\r\nhost: lake\r\nconnection: close\r\n{headers}\r\n"));
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    assert_eq!(status("PUT /lake/a", "content-length: 0\r\n"), 200);
    let copy = "x-goog-copy-source: lake/a\r\n";
    let if_new = format!("{copy}x-goog-if-generation-match: 0\r\n");
    assert_eq!(status("PUT /lake/b%2Fc", &if_new), 200);
    assert_eq!(status("PUT /lake/b%2Fc", &if_new), 412);
    assert_eq!(status("PUT /lake/b%2Fc", copy), 200);
    assert_eq!(status("PUT /lake/d", "x-goog-copy-source: lake/nothing\r\n"), 404);
    assert_eq!(status("DELETE /lake/b%2Fc", "x-goog-if-generation-match: 1\r\n"), 412);
    assert_eq!(status("DELETE /lake/b%2Fc", ""), 204);
    assert_eq!(status("DELETE /lake/b%2Fc", ""), 404);
    assert_eq!(status("GET /other/a", ""), 404);
    assert_eq!(status("GET /lake/a", "range: bytes=5-\r\n"), 416);
    // A body in chunks.
    let chunked = "PUT /lake/e HTTP/1.1\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert!(send(chunked).starts_with("HTTP/1.1 200 "));
    assert!(send("GET /lake/e HTTP/1.1\r\nconnection: close\r\n\r\n").ends_with("\r\n\r\nabcde"));
}

/// Appends two commits of a row each.
const WRITE: &str = r#"
import json, os, sys
import pyarrow
from deltalake import write_deltalake
for number in (1, 2):
    rows = pyarrow.table({"id": [number], "name": [f"name {number}"]})
    write_deltalake(sys.argv[1], rows, mode="append", storage_options=json.loads(sys.argv[2]))
os._exit(0)
"#;

/// Another writer and reader of Delta tables gets along with a server.
fn takes_a_table_of_another_writer(server: &Server) {
    let Some(python) = reader::python() else { return };
    let table = format!("{}/silver/items", server.url);
    let options: serde_json::Map<_, _> =
        server.env.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    let mut write = Command::new(&python);
    write.args(["-c", WRITE, &table, &serde_json::Value::from(options).to_string()]).envs(server.env.iter().cloned());
    reader::run(&mut write).unwrap();
    let mut rows = reader::rows(&python, &table, &server.env);
    rows.sort_by_key(|row| row["id"].as_i64());
    let expected = serde_json::json!([{"id": 1, "name": "name 1"}, {"id": 2, "name": "name 2"}]);
    assert_eq!(serde_json::Value::from(rows), expected);
}

#[test]
fn another_writer_and_reader_works_with_seaweedfs() {
    let Some(server) = s3() else { return };
    takes_a_table_of_another_writer(&server);
}

#[test]
fn another_writer_and_reader_works_with_azurite() {
    let Some(server) = azure() else { return };
    takes_a_table_of_another_writer(&server);
}

#[test]
fn another_writer_and_reader_works_with_the_stub_of_google() {
    takes_a_table_of_another_writer(&gcs().server);
}
