//! One self-contained HTML page: the site that is built into the program, with its data inside.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::json;

use super::data::document;
use crate::run::{Runtime, Survey};

/// The page without its data: `site/build.mjs` makes it of `site/src/`.
const TEMPLATE: &str = include_str!("site/dist/index.html");
/// Where the data goes.
const PLACE: &str = "__LAKE_DATA__";
/// What the page may not do, and what a served one may: ask where it came from whether it is still true.
const CLOSED: &str = "default-src 'none';";
const SERVED: &str = "default-src 'none'; connect-src 'self';";
/// A longer document is deflated. A shorter one can be read in the file.
const LONG: usize = 256 << 10;

/// How a page comes to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As a file, which asks nobody.
    File,
    /// By `lake docs serve`, which tells it when it has changed.
    Served,
}

/// The page of a project.
///
/// # Errors
/// When the data cannot be written as JSON or deflated.
pub fn page(runtime: &Runtime, survey: &Survey, delivery: Delivery) -> std::io::Result<String> {
    let is_served = delivery == Delivery::Served;
    let mut data = document(runtime, survey, is_served)?;
    if data.len() > LONG {
        let mut encoder = DeflateEncoder::new(Vec::with_capacity(data.len() / 4), Compression::new(6));
        encoder.write_all(data.as_bytes())?;
        data = json!({"format": 1, "deflate": STANDARD.encode(encoder.finish()?)}).to_string();
    }
    // The JSON stands inside a script element, which only `</script` or `<!--` could end or bend.
    let data = data.replace('<', "\\u003c");
    let page = if is_served { TEMPLATE.replacen(CLOSED, SERVED, 1) } else { TEMPLATE.to_owned() };
    Ok(page.replacen(PLACE, &data, 1))
}
