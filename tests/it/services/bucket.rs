//! What Google Cloud Storage answers, as far as `object_store` asks: its XML API over one bucket in memory.
//!
//! <https://cloud.google.com/storage/docs/xml-api/reference-methods>. Two things of it decide whether tables are safe: the
//! condition `x-goog-if-generation-match`, where 0 is "there is no such object", and that a write is seen whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, Range};
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};

use super::http::{Request, Response, decoded_pair};

const NAME: &str = "lake";
const GENERATION: &str = "x-goog-generation";

/// Objects by key, in the order in which they are listed.
pub struct Bucket {
    objects: BTreeMap<String, Object>,
    uploads: HashMap<String, Upload>,
    last_generation: i64,
    /// The most that a page of a listing has.
    pub page: usize,
}

#[derive(Clone)]
struct Object {
    body: Arc<Vec<u8>>,
    etag: String,
    generation: i64,
    modified: DateTime<Utc>,
}

/// Parts by number, each with its tag, until they are made one object.
struct Upload {
    key: String,
    parts: BTreeMap<usize, (String, Vec<u8>)>,
}

type Answer = Result<Response, Response>;

impl Bucket {
    pub fn new() -> Self {
        // As there, generations are times: never the same again, whatever was deleted.
        let last_generation = Utc::now().timestamp_micros();
        Self { objects: BTreeMap::new(), uploads: HashMap::new(), last_generation, page: 1000 }
    }

    /// Does what is asked, and answers.
    pub fn answer(&mut self, request: &Request) -> Response {
        let (bucket, key) = request.bucket_and_key();
        let upload = request.parameter("uploadId").map(str::to_owned);
        let done = match (request.method.as_str(), upload) {
            _ if bucket != NAME => Err(refusal(404, "NoSuchBucket")),
            ("GET", None) if key.is_empty() => Ok(self.list(request)),
            (_, _) if key.is_empty() => Err(refusal(405, "MethodNotAllowed")),
            ("GET" | "HEAD", None) => self.get(request, &key),
            ("PUT", None) => self.put(request, &key),
            ("DELETE", None) => self.delete(request, &key),
            ("POST", None) if request.parameter("uploads").is_some() => Ok(self.begin(&key)),
            ("PUT", Some(id)) => self.put_part(request, &key, &id),
            ("POST", Some(id)) => self.complete(request, &key, &id),
            ("DELETE", Some(id)) => self.abort(&key, &id),
            _ => Err(refusal(405, "MethodNotAllowed")),
        };
        done.unwrap_or_else(|refused| refused)
    }

    fn put(&mut self, request: &Request, key: &str) -> Answer {
        self.check_generation(request, key)?;
        let body = match request.header("x-goog-copy-source") {
            Some(source) => {
                let (bucket, from) = decoded_pair(source.trim_start_matches('/'));
                let found = self.objects.get(&from).filter(|_| bucket == NAME);
                Arc::clone(&found.ok_or_else(|| refusal(404, "NoSuchKey"))?.body)
            }
            None => Arc::new(request.body.clone()),
        };
        // The same bytes have the same tag, as they have there.
        let tag = tag_of(&body);
        Ok(self.store(key, body, tag))
    }

    fn store(&mut self, key: &str, body: Arc<Vec<u8>>, etag: String) -> Response {
        self.last_generation += 1;
        let object = Object { body, etag, generation: self.last_generation, modified: Utc::now() };
        let response = Response::new(200).with("etag", &object.etag).with(GENERATION, object.generation);
        self.objects.insert(key.to_owned(), object);
        response
    }

    fn get(&self, request: &Request, key: &str) -> Answer {
        let object = self.objects.get(key).ok_or_else(|| refusal(404, "NoSuchKey"))?;
        if request.parameter("generation").is_some_and(|wanted| wanted != object.generation.to_string()) {
            return Err(refusal(404, "NoSuchKey"));
        }
        self.check_generation(request, key)?;
        object.check_tags(request)?;
        let size = object.body.len();
        let response = match request.header("range") {
            None => Response::new(200).body(object.body.as_slice()),
            Some(range) => {
                let range = within(range, size).ok_or_else(|| refusal(416, "InvalidRange"))?;
                let place = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                Response::new(206).with("content-range", place).body(&object.body[range])
            }
        };
        let modified = object.modified.format("%a, %d %b %Y %H:%M:%S GMT");
        Ok(response.with("etag", &object.etag).with(GENERATION, object.generation).with("last-modified", modified))
    }

    fn delete(&mut self, request: &Request, key: &str) -> Answer {
        self.check_generation(request, key)?;
        let gone = self.objects.remove(key);
        gone.map(|_| Response::new(204)).ok_or_else(|| refusal(404, "NoSuchKey"))
    }

    fn check_generation(&self, request: &Request, key: &str) -> Result<(), Response> {
        let Some(wanted) = request.header("x-goog-if-generation-match") else { return Ok(()) };
        let found = self.objects.get(key).map_or(0, |object| object.generation);
        if wanted == found.to_string() { Ok(()) } else { Err(refusal(412, "PreconditionFailed")) }
    }

    fn begin(&mut self, key: &str) -> Response {
        let id = uuid::Uuid::new_v4().to_string();
        let text = format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
        self.uploads.insert(id, Upload { key: key.to_owned(), parts: BTreeMap::new() });
        Response::new(200).body(text)
    }

    fn upload(&mut self, key: &str, id: &str) -> Result<&mut Upload, Response> {
        let found = self.uploads.get_mut(id).filter(|upload| upload.key == key);
        found.ok_or_else(|| refusal(404, "NoSuchUpload"))
    }

    fn put_part(&mut self, request: &Request, key: &str, id: &str) -> Answer {
        let upload = self.upload(key, id)?;
        let number = request.parameter("partNumber").and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| refusal(400, "InvalidArgument"))?;
        let tag = tag_of(&request.body);
        upload.parts.insert(number, (tag.clone(), request.body.clone()));
        Ok(Response::new(200).with("etag", tag))
    }

    fn complete(&mut self, request: &Request, key: &str, id: &str) -> Answer {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let upload = self.upload(key, id)?;
        let mut body = Vec::new();
        let named: Vec<&str> = text.split("<Part>").skip(1).collect();
        for part in &named {
            let number = element(part, "PartNumber").and_then(|number| number.parse().ok());
            let found = number.and_then(|number: usize| upload.parts.get(&number));
            let found = found.filter(|(tag, _)| element(part, "ETag") == Some(tag));
            body.extend_from_slice(&found.ok_or_else(|| refusal(400, "InvalidPart"))?.1);
        }
        self.uploads.remove(id);
        let tag = format!("{}-{}\"", tag_of(&body).trim_end_matches('"'), named.len());
        let text = format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>");
        Ok(self.store(key, Arc::new(body), tag).body(text))
    }

    fn abort(&mut self, key: &str, id: &str) -> Answer {
        self.upload(key, id)?;
        self.uploads.remove(id);
        Ok(Response::new(204))
    }

    /// A page of a listing. The token of the next one is the last entry of this one, marked as a key or a common prefix.
    fn list(&self, request: &Request) -> Response {
        let prefix = request.parameter("prefix").unwrap_or_default();
        let delimiter = request.parameter("delimiter").filter(|text| !text.is_empty());
        let after = request.parameter("start-after").unwrap_or_default();
        let token = request.parameter("continuation-token").unwrap_or_default();
        let last_key = token.strip_prefix("key:").unwrap_or_default();
        let last_prefix = token.strip_prefix("prefix:");
        let asked = request.parameter("max-keys").and_then(|most| most.parse().ok());
        let most = self.page.min(asked.unwrap_or(usize::MAX));

        let from = prefix.max(after).max(last_key).max(last_prefix.unwrap_or_default());
        let (mut entries, mut seen, mut last, mut more) = (String::new(), 0, String::new(), false);
        for (key, object) in self.objects.range::<str, _>((Bound::Included(from), Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(prefix) else { break };
            let listed = key.as_str() <= after || key.as_str() <= last_key;
            if listed || last_prefix.is_some_and(|prefix| key.starts_with(prefix)) {
                continue;
            }
            let group = delimiter.and_then(|text| Some(&key[..prefix.len() + rest.find(text)? + text.len()]));
            let entry = group.map_or_else(|| format!("key:{key}"), |group| format!("prefix:{group}"));
            if entry == last {
                continue;
            }
            if seen == most {
                more = true;
                break;
            }
            entries += &match group {
                Some(group) => format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(group)),
                None => object.entry(key),
            };
            (seen, last) = (seen + 1, entry);
        }
        let next = format!("<NextContinuationToken>{}</NextContinuationToken>", escaped(&last));
        let next = if more { next } else { String::new() };
        let text = format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>{next}{entries}</ListBucketResult>");
        Response::new(200).with("content-type", "application/xml").body(text)
    }
}

impl Object {
    fn check_tags(&self, request: &Request) -> Result<(), Response> {
        let names = |wanted: &str| wanted.split(',').any(|tag| tag.trim() == "*" || tag.trim() == self.etag);
        let changed = |since: &str| {
            let since = DateTime::parse_from_rfc2822(since).map(|since| since.timestamp());
            since.is_ok_and(|since| self.modified.timestamp() > since)
        };
        let tag = request.header("if-match").map(names);
        let no_tag = request.header("if-none-match").map(names);
        let stale = tag.map_or_else(|| request.header("if-unmodified-since").is_some_and(changed), |same| !same);
        let known = no_tag.unwrap_or_else(|| request.header("if-modified-since").is_some_and(|since| !changed(since)));
        match (stale, known) {
            (true, _) => Err(refusal(412, "PreconditionFailed")),
            (_, true) => Err(Response::new(304).with("etag", &self.etag)),
            _ => Ok(()),
        }
    }

    fn entry(&self, key: &str) -> String {
        let modified = self.modified.to_rfc3339_opts(SecondsFormat::Millis, true);
        let (key, size, tag) = (escaped(key), self.body.len(), escaped(&self.etag));
        format!(
            "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>{modified}</LastModified><ETag>{tag}</ETag></Contents>"
        )
    }
}

/// The bytes that a `Range` names; nothing where the object has none of them.
fn within(range: &str, size: usize) -> Option<Range<usize>> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (start, end) {
        ("", last) => size.saturating_sub(last.parse().ok()?)..size,
        (start, "") => start.parse().ok()?..size,
        (start, end) => start.parse().ok()?..size.min(end.parse::<usize>().ok()?.saturating_add(1)),
    };
    (range.start < range.end).then_some(range)
}

fn tag_of(body: &[u8]) -> String {
    format!("\"{}\"", &blake3::hash(body).to_hex()[..32])
}

/// The text of an element that has no elements in it.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn refusal(status: u16, code: &str) -> Response {
    let text = format!("<Error><Code>{code}</Code></Error>");
    Response::new(status).with("content-type", "application/xml").body(text)
}
