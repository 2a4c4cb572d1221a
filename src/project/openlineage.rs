//! `openlineage:` of `project.yml`, and the environment variables of OpenLineage's own clients: where events of a run go.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::durations;
use super::yaml::{Node, Reader};
use crate::diagnostics::{Diagnostic, Id, Span};
use crate::template::{self, Templates};

/// How long is waited for an answer unless it is said.
const TIMEOUT: u64 = 5;

/// Below the address, unless it is said.
const ENDPOINT: &str = "api/v1/lineage";

/// The keys of `openlineage:`.
pub(super) const KEYS: &[&str] = &["namespace", "file", "url", "endpoint", "api_key", "timeout"];

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLineage {
    /// The namespace of jobs.
    pub namespace: String,
    /// A file to which each event is added as a line; relative to the project.
    pub file: Option<String>,
    /// The whole address that events are posted to.
    pub url: Option<String>,
    /// What the request is authorised by.
    pub api_key: Option<ApiKey>,
    /// How long is waited for an answer.
    pub timeout: Duration,
}

/// A secret, which is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What is said of it, before Jinja.
#[derive(Debug, Clone, Default)]
pub(super) struct Written(BTreeMap<&'static str, String>);

/// The settings as they are written, and what is needed to render them: a secret is asked for when it is used.
#[derive(Debug, Clone)]
pub struct OpenLineageSettings {
    written: Option<Written>,
    bare: template::Settings,
}

/// Reads `openlineage:`.
pub(super) fn read(node: &Node, reader: &mut Reader<'_>) -> Written {
    let mut found = Written::default();
    let Some(mut mapping) = reader.mapping(node, "group of openlineage settings") else { return found };
    for key in KEYS {
        let Some(value) = mapping.take(key) else { continue };
        let Some(text) = reader.text(value) else { continue };
        if *key == "api_key" && !text.contains("env_var") {
            // Not at its place: the line would be shown.
            let diagnostic = Diagnostic::error(Id::InvalidValue, "the `api_key` of openlineage stands in project.yml");
            let help = "write `api_key: \"{{ env_var('OPENLINEAGE_API_KEY') }}\"`, or set that variable alone";
            reader.diagnostics.push(diagnostic.at(Span::file_start(&value.span.file)).help(help));
            continue;
        }
        if *key == "timeout"
            && let Err(message) = durations::seconds(key, &value.to_json())
        {
            let (message, help) = message.split_once("; ").unwrap_or((&message, "such as `5s`"));
            reader.diagnostics.push(Diagnostic::error(Id::InvalidValue, message).at(value.span.clone()).help(help));
            continue;
        }
        found.0.insert(key, text);
    }
    let (span, is_nowhere) = (mapping.span.clone(), !found.0.contains_key("file") && !found.0.contains_key("url"));
    let asked = mapping.entries.iter().any(|(key, _)| matches!(key.plain_text().as_str(), "file" | "url"));
    mapping.finish(reader);
    if is_nowhere && !asked {
        let diagnostic = Diagnostic::error(Id::MissingKey, "these events go nowhere: there is no `file` and no `url`");
        let help = "write `openlineage: { file: .lake/openlineage.ndjson }`, or `url:` with the address of a server";
        reader.diagnostics.push(diagnostic.at(span).help(help));
    }
    found
}

impl OpenLineageSettings {
    pub(super) fn new(written: Option<Written>, bare: template::Settings) -> Self {
        Self { written, bare }
    }

    /// Where events go, if anywhere. The environment goes before the project.
    ///
    /// # Errors
    /// Why that cannot be told, in words without secrets.
    pub fn resolve(&self) -> Result<Option<OpenLineage>, String> {
        let variable = |name: &str| self.bare.environment.get(name).filter(|value| !value.is_empty()).cloned();
        if variable("OPENLINEAGE_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let bare = template::Settings { secrets: true, ..self.bare.clone() };
        let templates = Templates::new(bare, &[], &mut Vec::new());
        let written = |key: &str| {
            let text = self.written.as_ref().and_then(|written| written.0.get(key));
            text.map(|text| templates.render_value(text)).transpose()
        };
        let either = |name: &str, key: &str| variable(name).map_or_else(|| written(key), |value| Ok(Some(value)));
        let (url, file) = (either("OPENLINEAGE_URL", "url")?, written("file")?);
        if url.is_none() && file.is_none() {
            return Ok(None);
        }
        let endpoint = either("OPENLINEAGE_ENDPOINT", "endpoint")?.unwrap_or_else(|| ENDPOINT.to_owned());
        let url = url.map(|url| format!("{}/{}", url.trim_end_matches('/'), endpoint.trim_start_matches('/')));
        let timeout = written("timeout")?.map_or(Ok(TIMEOUT), |text| {
            let value = text.parse::<u64>().map_or_else(|_| text.as_str().into(), serde_json::Value::from);
            durations::seconds("timeout", &value)
        })?;
        Ok(Some(OpenLineage {
            namespace: either("OPENLINEAGE_NAMESPACE", "namespace")?.unwrap_or_else(|| self.bare.project.clone()),
            file,
            url,
            api_key: either("OPENLINEAGE_API_KEY", "api_key")?.map(ApiKey),
            timeout: Duration::from_secs(timeout),
        }))
    }
}
