//! Reads `notifications:` of `project.yml`.

use std::time::Duration;

use super::ChannelType::{Command, Email, Slack, Teams, Webhook};
use super::{
    Channel, ChannelType, KEYS, MAIL_TLS, OCCASIONS, Occasion, REMIND_AFTER, SEVERITIES, TIMEOUT, TYPES, Written,
};
use crate::diagnostics::{Diagnostic, Diagnostics, Id, Span};
use crate::project::durations;
use crate::project::yaml::{Mapping, Node, Raw, Reader};

/// Reads the list. Channels that are turned off are checked, and left out.
///
/// No diagnostic shows a line with a literal secret, whatever it is about.
pub(in crate::project) fn read(node: &Node, targets: &[&str], reader: &mut Reader<'_>) -> Vec<Channel> {
    let mut own = Diagnostics::new();
    let found = read_all(node, targets, &mut Reader { diagnostics: &mut own });
    let mut secrets = Vec::new();
    literal_secrets(node, &mut secrets);
    for diagnostic in own.sorted() {
        reader.diagnostics.push(without_secrets(diagnostic.clone(), &secrets));
    }
    found
}

/// The values of keys that may be secrets, where they do not come from the environment.
fn literal_secrets<'n>(node: &'n Node, found: &mut Vec<&'n Span>) {
    match &node.value {
        Raw::List(items) => items.iter().for_each(|item| literal_secrets(item, found)),
        Raw::Map(entries) => {
            for (key, value) in entries {
                let key = key.plain_text();
                match &value.value {
                    Raw::Map(_) if key == "headers" => secrets_of(value, found),
                    Raw::Scalar(_) if matches!(key.as_str(), "url" | "password") => secrets_of(value, found),
                    _ => literal_secrets(value, found),
                }
            }
        }
        Raw::Null | Raw::Scalar(_) => {}
    }
}

fn secrets_of<'n>(value: &'n Node, found: &mut Vec<&'n Span>) {
    match &value.value {
        Raw::Map(entries) => entries.iter().for_each(|(_, value)| secrets_of(value, found)),
        _ if value.plain_text().contains("env_var") => {}
        _ => found.push(&value.span),
    }
}

fn without_secrets(mut diagnostic: Diagnostic, secrets: &[&Span]) -> Diagnostic {
    let lines = |span: &Span| (span.position().0, span.file.position(span.end).0);
    let shows = |span: &Span| {
        let (first, last) = lines(span);
        secrets.iter().any(|secret| lines(secret).0 <= last && first <= lines(secret).1)
    };
    diagnostic.related.retain(|(span, _)| !shows(span));
    if let Some(span) = diagnostic.span.as_ref().filter(|span| shows(span)) {
        diagnostic.message.push_str(&format!(", in line {}", lines(span).0));
        diagnostic.span = Some(Span::file_start(&span.file));
    }
    diagnostic
}

fn read_all(node: &Node, targets: &[&str], reader: &mut Reader<'_>) -> Vec<Channel> {
    let mut found: Vec<Channel> = Vec::new();
    for node in reader.list(node) {
        let Some(mut mapping) = reader.mapping(node, "notification channel") else { continue };
        let read = read_one(&mut mapping, targets, reader);
        mapping.finish(reader);
        let Some((channel, enabled)) = read else { continue };
        if let Some(first) = found.iter().find(|first| first.name == channel.name) {
            let message = format!("two notification channels are called `{}`", channel.name);
            let diagnostic = Diagnostic::error(Id::DuplicateName, message).at(channel.span);
            reader.diagnostics.push(diagnostic.related(first.span.clone(), "first here"));
        } else if enabled {
            found.push(channel);
        }
    }
    found
}

fn read_one(mapping: &mut Mapping<'_>, targets: &[&str], reader: &mut Reader<'_>) -> Option<(Channel, bool)> {
    let name_node = mapping.require("name", reader);
    let name = name_node.and_then(|node| reader.identifier(node));
    let kind = mapping.require("type", reader).and_then(|node| reader.choice(node, "type of a channel", TYPES));
    let enabled = mapping.take("enabled").and_then(|node| reader.boolean(node)).unwrap_or(true);
    let on = mapping.take("on").map(|node| words(node, "reason for a message", OCCASIONS, reader));
    let mut texts = |key| mapping.take(key).map(|node| reader.texts(node)).unwrap_or_default();
    let (owners, tags) = (texts("owners"), texts("tags"));
    let severity = mapping.take("severity").map(|node| words(node, "severity", SEVERITIES, reader)).unwrap_or_default();
    let select = mapping.take("select");
    let of_targets = mapping.take("targets").map(|node| known_targets(node, targets, reader)).unwrap_or_default();
    let timeout = mapping.take("timeout").and_then(|node| duration("timeout", node, reader)).unwrap_or(TIMEOUT);
    let remind_after = match mapping.take("remind_after") {
        Some(node) if node.plain_text() == "never" => None,
        Some(node) => duration("remind_after", node, reader),
        None => Some(REMIND_AFTER),
    };
    let label = name.clone().unwrap_or_default();
    let written = read_way(mapping, kind, &label, reader);
    let (name, kind, name_node) = (name?, kind?, name_node?);
    let channel = Channel {
        name,
        span: name_node.span.clone(),
        kind,
        on: on.unwrap_or_else(|| vec![Occasion::Failure, Occasion::Recovery, Occasion::Freshness]),
        owners,
        tags,
        severity,
        select: select.map(|node| reader.texts(node)).unwrap_or_default(),
        select_span: select.map_or_else(|| name_node.span.clone(), |node| node.span.clone()),
        targets: of_targets,
        timeout,
        remind_after,
        written,
        bare: None,
    };
    Some((channel, enabled))
}

/// What is about the way: keys that other types have are told, and literal secrets.
fn read_way(mapping: &mut Mapping<'_>, kind: Option<ChannelType>, name: &str, reader: &mut Reader<'_>) -> Written {
    let mut written = Written::default();
    for (key, kinds, _) in KEYS.iter().filter(|(key, kinds, _)| !kinds.is_empty() || *key == "link") {
        let (Some(node), Some(kind)) = (mapping.take(key), kind) else { continue };
        if !kinds.is_empty() && !kinds.contains(&kind) {
            let of: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            let message =
                format!("`{key}` is for channels of type {}, and this is one of {}", of.join(", "), kind.name());
            reader.diagnostics.push(Diagnostic::error(Id::UnknownKey, message).at(node.span.clone()));
            continue;
        }
        match *key {
            "url" | "password" => {
                let text = reader.text(node).filter(|text| from_environment(name, key, text, node, reader));
                *(if *key == "url" { &mut written.url } else { &mut written.password }) = text;
            }
            "headers" => written.headers = headers(name, node, reader),
            "port" => written.port = port(node, reader),
            "tls" => written.tls = reader.choice(node, "way to protect a connection", MAIL_TLS),
            "to" => written.to = reader.texts(node),
            "command" => match &node.value {
                Raw::List(_) => written.program = reader.texts(node),
                _ => written.shell = reader.text(node),
            },
            other => {
                let text = reader.text(node);
                match other {
                    "host" => written.host = text,
                    "username" => written.username = text,
                    "from" => written.from = text,
                    _ => written.link = text,
                }
            }
        }
    }
    let needed: &[&'static str] = match kind {
        Some(Slack | Teams | Webhook) => &["url"],
        Some(Email) => &["host", "from", "to"],
        Some(Command) => &["command"],
        None => &[],
    };
    for key in needed {
        mapping.require(key, reader);
    }
    if written.password.is_some() && written.username.is_none() {
        reader.diagnostics.push(
            Diagnostic::error(Id::MissingKey, format!("channel `{name}` has a `password` and no `username`"))
                .at(Span::new(&mapping.span.file, mapping.span.start, mapping.span.start + 1)),
        );
    }
    written
}

/// A secret that stands in the file is told without its line, which would be shown.
fn from_environment(channel: &str, key: &str, text: &str, node: &Node, reader: &mut Reader<'_>) -> bool {
    if text.contains("env_var") {
        return true;
    }
    let message =
        format!("the `{key}` of channel `{channel}` stands in project.yml, in line {}", node.span.position().0);
    let variable = format!("{channel}_{key}").to_uppercase().replace('-', "_");
    let help = format!("it is a secret: write `{key}: \"{{{{ env_var('{variable}') }}}}\"`, and set that variable");
    let diagnostic = Diagnostic::error(Id::InvalidValue, message).at(Span::file_start(&node.span.file)).help(help);
    reader.diagnostics.push(diagnostic);
    false
}

fn headers(channel: &str, node: &Node, reader: &mut Reader<'_>) -> Vec<(String, String)> {
    let Raw::Map(entries) = &node.value else {
        reader.wrong(node, "a mapping of headers");
        return Vec::new();
    };
    let each = entries.iter().filter_map(|(key, value)| {
        let (name, text) = (reader.text(key)?, reader.text(value)?);
        from_environment(channel, &name, &text, value, reader).then_some((name, text))
    });
    each.collect()
}

fn port(node: &Node, reader: &mut Reader<'_>) -> Option<u16> {
    let number = reader.count(node)?;
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    if port.is_none() {
        reader.invalid(&node.span, "expected a port, 1 to 65535");
    }
    port
}

fn words<T: Copy>(node: &Node, what: &str, choices: &[(&str, T)], reader: &mut Reader<'_>) -> Vec<T> {
    let each = match &node.value {
        Raw::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    each.iter().filter_map(|word| reader.choice(word, what, choices)).collect()
}

fn known_targets(node: &Node, targets: &[&str], reader: &mut Reader<'_>) -> Vec<String> {
    let each = match &node.value {
        Raw::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut found = Vec::new();
    for node in each {
        let Some(name) = reader.text(node) else { continue };
        if !targets.contains(&name.as_str()) {
            let diagnostic = Diagnostic::error(Id::InvalidValue, format!("there is no target `{name}`"));
            reader.diagnostics.push(diagnostic.at(node.span.clone()).suggest(&name, targets.iter().copied()));
        }
        found.push(name);
    }
    found
}

fn duration(key: &str, node: &Node, reader: &mut Reader<'_>) -> Option<Duration> {
    match durations::seconds(key, &node.to_json()) {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(message) => {
            let (message, help) = message.split_once("; ").unwrap_or((&message, "such as `10s`"));
            reader.diagnostics.push(Diagnostic::error(Id::InvalidValue, message).at(node.span.clone()).help(help));
            None
        }
    }
}
