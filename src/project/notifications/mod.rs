//! `notifications:` of `project.yml`: who is told how runs end, of what, and by which way.
//!
//! Addresses and passwords are secrets: they come from the environment, and are asked for when something is sent.

mod read;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::files::ProjectFiles;
use super::load::{LoadOptions, base_settings};
use super::test_config::TestSeverity;
use super::yaml::Reader;
use super::{settings, yaml};
use crate::diagnostics::{Diagnostics, Span};
use crate::template::{self, Templates};

/// How long a channel may take, and after which time a failure is told again, unless it is said.
const TIMEOUT: Duration = Duration::from_secs(10);
const REMIND_AFTER: Duration = Duration::from_secs(86_400);

/// What a channel is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Occasion {
    /// A node, a test with severity `error`, an export, a hook or the whole run failed.
    Failure,
    /// A test with severity `warn` failed, or a model was built on old rows.
    Warning,
    /// A source is older than it may be.
    Freshness,
    /// What was told before is over.
    Recovery,
}

pub(super) const OCCASIONS: &[(&str, Occasion)] = &[
    ("failure", Occasion::Failure),
    ("warning", Occasion::Warning),
    ("recovery", Occasion::Recovery),
    ("freshness", Occasion::Freshness),
];

pub(super) const SEVERITIES: &[(&str, TestSeverity)] = &[("error", TestSeverity::Error), ("warn", TestSeverity::Warn)];

impl Occasion {
    /// The word of `on`.
    pub fn name(self) -> &'static str {
        OCCASIONS.iter().find(|(_, occasion)| *occasion == self).map_or("", |(word, _)| word)
    }
}

/// By which way a channel is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelType {
    /// An incoming webhook of Slack.
    Slack,
    /// A workflow of Microsoft Teams that is started by a webhook.
    Teams,
    /// JSON to any server.
    Webhook,
    /// SMTP.
    Email,
    /// JSON to the standard input of a program.
    Command,
}

use ChannelType::{Command, Email, Slack, Teams, Webhook};

pub(super) use read::read;

pub(super) const TYPES: &[(&str, ChannelType)] =
    &[("slack", Slack), ("teams", Teams), ("webhook", Webhook), ("email", Email), ("command", Command)];

impl ChannelType {
    /// The word of `type`.
    pub fn name(self) -> &'static str {
        TYPES.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// It begins in the clear and goes on encrypted, or not at all.
    StartTls,
    /// It is encrypted from the first byte.
    Tls,
    /// It is not: for a server on this machine.
    None,
}

pub(super) const MAIL_TLS: &[(&str, MailTls)] =
    &[("starttls", MailTls::StartTls), ("tls", MailTls::Tls), ("none", MailTls::None)];

/// The keys of a channel, the types that have them (all, if none is named), and what they mean.
pub(super) const KEYS: &[(&str, &[ChannelType], &str)] = &[
    ("name", &[], "Its name, for `lake notify --test` and in what is remembered"),
    ("type", &[], "By which way it is reached"),
    ("enabled", &[], "`false` turns it off"),
    ("on", &[], "What it is told of: failure, recovery and freshness, unless it is said"),
    ("owners", &[], "Only what these answer for"),
    ("tags", &[], "Only what has one of these tags"),
    ("severity", &[], "Only what is an `error`, or a `warn`"),
    ("select", &[], "Only what this selects: the words of --select"),
    ("targets", &[], "Only runs on these targets"),
    ("timeout", &[], "How long sending may take: 10s"),
    ("remind_after", &[], "After which time a failure that goes on is told again: 1d, or `never`"),
    ("link", &[], "An address that messages lead to, such as that of the job"),
    ("url", &[Slack, Teams, Webhook], "From the environment: {{ env_var('SLACK_WEBHOOK') }}; empty turns it off"),
    ("headers", &[Webhook], "Of the request; values from the environment"),
    ("host", &[Email], "The mail server"),
    ("port", &[Email], "587 with starttls, 465 with tls, 25 with none, unless it is said"),
    ("tls", &[Email], "How the connection is protected"),
    ("username", &[Email], "For a server that asks for it"),
    ("password", &[Email], "From the environment: {{ env_var('SMTP_PASSWORD') }}"),
    ("from", &[Email], "The address that mails come from"),
    ("to", &[Email], "The addresses that mails go to"),
    ("command", &[Command], "A line for the shell, or a program and its arguments; it reads JSON"),
];

/// A text that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Somebody who is told how runs end.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Unique in the project.
    pub name: String,
    /// Where its name stands.
    pub span: Span,
    /// By which way it is reached.
    pub kind: ChannelType,
    /// What it is told of.
    pub on: Vec<Occasion>,
    /// Of whose models; of all, if nobody is named.
    pub owners: Vec<String>,
    /// With which tags; with any, if none is named.
    pub tags: Vec<String>,
    /// How bad; anything, if none is named.
    pub severity: Vec<TestSeverity>,
    /// The words of `--select`, and where they stand.
    pub select: Vec<String>,
    /// Where `select` stands.
    pub select_span: Span,
    targets: Vec<String>,
    /// How long sending may take.
    pub timeout: Duration,
    /// When a failure that goes on is told again; never, if it is not set.
    pub remind_after: Option<Duration>,
    written: Written,
    bare: Option<template::Settings>,
}

/// What is rendered when something is sent.
#[derive(Debug, Clone, Default)]
struct Written {
    url: Option<String>,
    headers: Vec<(String, String)>,
    host: Option<String>,
    port: Option<u16>,
    tls: Option<MailTls>,
    username: Option<String>,
    password: Option<String>,
    from: Option<String>,
    to: Vec<String>,
    shell: Option<String>,
    program: Vec<String>,
    link: Option<String>,
}

/// How a channel is reached, with its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// An incoming webhook of Slack.
    Slack(Secret),
    /// The webhook of a workflow of Teams.
    Teams(Secret),
    /// A server, and headers of the request.
    Webhook(Secret, Vec<(String, Secret)>),
    /// A mail server.
    Email(Box<Mail>),
    /// A program and its arguments.
    Command(Vec<String>),
}

/// A mail server, and whom it writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: MailTls,
    /// Who asks.
    pub login: Option<(String, Secret)>,
    /// Who writes.
    pub from: String,
    /// To whom.
    pub to: Vec<String>,
}

/// A channel that can be used: how it is reached, and where its messages lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// How it is reached.
    pub delivery: Delivery,
    /// Where its messages lead to.
    pub link: Option<String>,
}

/// Channels with what their secrets are rendered by.
pub(super) fn bound(channels: Vec<Channel>, bare: &template::Settings) -> Vec<Channel> {
    channels.into_iter().map(|channel| Channel { bare: Some(bare.clone()), ..channel }).collect()
}

/// What is known of a project that does not load: its name, the target that was asked for, and its channels.
pub fn channels_alone(files: &ProjectFiles, options: &LoadOptions) -> Option<(String, String, Vec<Channel>)> {
    files.project.fetch().ok()?;
    let mut diagnostics = Diagnostics::new();
    let root = yaml::parse(&files.project, &mut diagnostics)?;
    let settings = settings::read(&root, &mut Reader { diagnostics: &mut diagnostics })?;
    let only = settings.targets.keys().next().filter(|_| settings.targets.len() == 1);
    let target = options.target.as_ref().or(settings.default_target.as_ref()).or(only).cloned().unwrap_or_default();
    let bare = base_settings(&settings, options);
    Some((settings.name, target, bound(settings.notifications, &bare)))
}

impl Channel {
    /// Whether runs on a target are told to it.
    pub fn is_of(&self, target: &str) -> bool {
        self.targets.is_empty() || self.targets.iter().any(|own| own == target)
    }

    /// How it is reached; `None` if the environment turns it off.
    ///
    /// # Errors
    /// Why that cannot be told, in words without secrets.
    pub fn reach(&self) -> Result<Option<Reached>, String> {
        let bare = self.bare.clone().ok_or("its project is not loaded")?;
        let templates = Templates::new(template::Settings { secrets: true, ..bare }, &[], &mut Vec::new());
        let render = |text: &String| templates.render_value(text).map(|text| text.trim().to_owned());
        let text = |text: &Option<String>| text.as_ref().map(render).transpose().map(Option::unwrap_or_default);
        let written = &self.written;
        let link = Some(text(&written.link)?).filter(|link| !link.is_empty());
        let delivery = match self.kind {
            Slack | Teams | Webhook => {
                let url = text(&written.url)?;
                if url.is_empty() {
                    return Ok(None);
                }
                check_address(&url, self.kind != Webhook)?;
                let url = Secret(url);
                let headers = written.headers.iter().map(|(name, value)| Ok((name.clone(), Secret(render(value)?))));
                match self.kind {
                    Slack => Delivery::Slack(url),
                    Teams => Delivery::Teams(url),
                    _ => Delivery::Webhook(url, headers.collect::<Result<_, String>>()?),
                }
            }
            Email => {
                let host = text(&written.host)?;
                let to = written.to.iter().map(render).collect::<Result<Vec<_>, _>>()?;
                let to: Vec<String> = to.into_iter().filter(|address| !address.is_empty()).collect();
                if host.is_empty() || to.is_empty() {
                    return Ok(None);
                }
                let tls = written.tls.unwrap_or(MailTls::StartTls);
                if tls == MailTls::None && !is_loopback(&host) {
                    return Err(format!(
                        "`tls: none` is for a mail server on this machine, and `{host}` is another one"
                    ));
                }
                let standard = match tls {
                    MailTls::StartTls => 587,
                    MailTls::Tls => 465,
                    MailTls::None => 25,
                };
                let login = Some((text(&written.username)?, text(&written.password)?));
                let login = login.filter(|(name, _)| !name.is_empty()).map(|(name, word)| (name, Secret(word)));
                let port = written.port.unwrap_or(standard);
                Delivery::Email(Box::new(Mail { host, port, tls, login, from: text(&written.from)?, to }))
            }
            Command => match (&written.shell, written.program.is_empty()) {
                (Some(line), _) => {
                    let line = render(line)?;
                    if line.is_empty() {
                        return Ok(None);
                    }
                    Delivery::Command(vec!["sh".to_owned(), "-c".to_owned(), line])
                }
                (None, true) => return Ok(None),
                (None, false) => Delivery::Command(written.program.iter().map(render).collect::<Result<_, _>>()?),
            },
        };
        Ok(Some(Reached { delivery, link }))
    }
}

/// An address that a message with names of tables may be posted to.
fn check_address(address: &str, is_protected: bool) -> Result<(), String> {
    // What is wrong in it is not shown: it is a secret.
    let url = url::Url::parse(address).map_err(|why| format!("its `url` is no address: {why}"))?;
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" => Ok(()),
        "http" if !is_protected || is_loopback(host) => Ok(()),
        "http" => Err("its `url` is not encrypted: it begins with http://".to_owned()),
        other => Err(format!("its `url` begins with {other}:, and not with https://")),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
